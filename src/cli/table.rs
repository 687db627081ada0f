//! Aligned columns for people, streamed: the first rows decide the widths.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};

/// Rows held back to measure the columns.
const MEASURED: usize = 500;

/// Widest column, in characters; longer cells push the rest of their row to the right.
const WIDEST: usize = 60;

/// A table on its way out.
pub(super) struct Table<'a> {
    out: BufWriter<&'a mut dyn Write>,
    /// `None` once the widths are fixed.
    held: Option<Vec<Vec<String>>>,
    widths: Vec<usize>,
}

impl<'a> Table<'a> {
    /// Begins a table; an empty head is not printed.
    pub(super) fn new(out: &'a mut dyn Write, head: &[&str]) -> Self {
        let mut table = Self { out: BufWriter::new(out), held: Some(Vec::new()), widths: Vec::new() };
        if !head.is_empty() {
            table.hold(own(head));
        }
        table
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: &[&str]) -> io::Result<()> {
        let cells = own(cells);
        if self.held.as_ref().is_some_and(|held| held.len() < MEASURED) {
            self.hold(cells);
            return Ok(());
        }
        self.release()?;
        print(&mut self.out, &cells, &self.widths)
    }

    /// Prints what is still held.
    pub(super) fn end(mut self) -> io::Result<()> {
        self.release()?;
        self.out.flush()
    }

    fn hold(&mut self, cells: Vec<String>) {
        self.widths.resize(self.widths.len().max(cells.len()), 0);
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.chars().count()).min(WIDEST);
        }
        self.held.get_or_insert_default().push(cells);
    }

    fn release(&mut self) -> io::Result<()> {
        for row in self.held.take().unwrap_or_default() {
            print(&mut self.out, &row, &self.widths)?;
        }
        Ok(())
    }
}

fn own(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| printable(cell).into_owned()).collect()
}

fn print(out: &mut impl Write, cells: &[String], widths: &[usize]) -> io::Result<()> {
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if index + 1 == cells.len() {
            writeln!(out, "{cell}")?;
        } else {
            write!(out, "{cell:width$}  ")?;
        }
    }
    Ok(())
}

/// Text that cannot move the cursor or begin a line: what does not print is escaped.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    let escaped: String = text.escape_debug().collect();
    // Quotes and backslashes are escaped too, but they print.
    let same = escaped.replace("\\\"", "\"").replace("\\'", "'").replace("\\\\", "\\");
    if same == text { Cow::Borrowed(text) } else { Cow::Owned(escaped) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(head: &[&str], rows: &[&[&str]]) -> String {
        let mut out = Vec::new();
        let mut table = Table::new(&mut out, head);
        rows.iter().for_each(|row| table.row(row).unwrap());
        table.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        assert_eq!(printed(&["A", "B"], &[&["long", "x"], &["ü", "y"]]), "A     B\nlong  x\nü     y\n");
    }

    #[test]
    fn nothing_in_a_cell_reaches_the_terminal_as_a_command() {
        let text = printed(&["ID"], &[&["a\n\u{1b}[2Jb"], &["it's \"fine\" \\o/"]]);
        assert_eq!(text, "ID\na\\n\\u{1b}[2Jb\nit's \"fine\" \\o/\n");
    }

    #[test]
    fn every_row_of_a_long_table_is_printed_once_and_in_order() {
        let numbers: Vec<String> = (0..3 * MEASURED).map(|number| number.to_string()).collect();
        let rows: Vec<[&str; 1]> = numbers.iter().map(|number| [number.as_str()]).collect();
        let rows: Vec<&[&str]> = rows.iter().map(|row| &row[..]).collect();
        assert_eq!(printed(&[], &rows).lines().collect::<Vec<_>>(), numbers);
    }
}
