//! Mappings as JSON Lines: bytes to rows on the way in, a million of them in the memory of one batch.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use standpipe_api::{Mapping, Result};

use super::operator::{BATCH, OperatorMappings, kept};
use super::table::Imported;

/// Longest line, in bytes; a mapping has a few hundred.
const LINE_LIMIT: usize = 64 * 1024;

/// Errors told one by one; the rest is only counted.
const TOLD: usize = 20;

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug, Default)]
pub struct Lines {
    rest: BytesMut,
    /// Bytes of `rest` that hold no line feed.
    searched: usize,
    number: u64,
    skipping: Skipping,
}

/// Whether the beginning of the current line was thrown away because the line is too long.
#[derive(Debug, Default, PartialEq, Eq)]
enum Skipping {
    Yes,
    #[default]
    No,
}

/// One line with its number, counted from 1; `None`: it was longer than 64 KiB.
type Line = (u64, Option<Bytes>);

impl Lines {
    /// Takes the next bytes of the stream; call [`Lines::next_line`] until it gives `None` before taking more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next whole line without its line feed.
    pub fn next_line(&mut self) -> Option<Line> {
        let unsearched = self.rest.get(self.searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', unsearched).map(|at| at + self.searched) else {
            self.searched = self.rest.len();
            if self.rest.len() > LINE_LIMIT {
                self.rest.clear();
                self.searched = 0;
                self.skipping = Skipping::Yes;
            }
            return None;
        };
        let line = self.rest.split_to(at).freeze();
        self.rest.advance(1);
        self.searched = 0;
        Some(self.numbered(line))
    }

    /// The last line, when the stream ended without a line feed.
    pub fn end(mut self) -> Option<Line> {
        let line = self.rest.split().freeze();
        (!line.is_empty() || self.skipping == Skipping::Yes).then(|| self.numbered(line))
    }

    fn numbered(&mut self, line: Bytes) -> Line {
        self.number += 1;
        let skipped = std::mem::take(&mut self.skipping) == Skipping::Yes;
        (self.number, (!skipped && line.len() <= LINE_LIMIT).then_some(line))
    }
}

/// How an import went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Rows read; blank lines do not count.
    pub read: u64,
    /// Rows now in the table.
    pub written: u64,
    /// Rows that are not.
    pub refused: u64,
    /// Why, for the first 20 of them.
    pub errors: Vec<LineError>,
}

/// Why a line is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineError {
    /// Its number, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub error: String,
}

impl ImportReport {
    fn refuse(&mut self, line: u64, error: String) {
        self.refused += 1;
        if self.errors.len() < TOLD {
            self.errors.push(LineError { line, error });
        }
    }
}

/// An import on its way: bytes in, batches out to the table.
pub(crate) struct Import<'a> {
    mappings: &'a OperatorMappings,
    lines: Lines,
    numbers: Vec<u64>,
    rows: Vec<Mapping>,
    report: ImportReport,
}

impl<'a> Import<'a> {
    pub(crate) fn into(mappings: &'a OperatorMappings) -> Self {
        let (numbers, rows) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        Self { mappings, lines: Lines::default(), numbers, rows, report: ImportReport::default() }
    }

    /// Takes the next bytes; full batches are durable on return.
    ///
    /// # Errors
    /// The store does not answer; what earlier batches wrote stays.
    pub(crate) async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        // A chunk may be of any size; the line buffer may not.
        for chunk in bytes.chunks(LINE_LIMIT) {
            self.lines.push(chunk);
            while let Some(line) = self.lines.next_line() {
                self.take(line).await?;
            }
        }
        Ok(())
    }

    /// Writes the last batch.
    ///
    /// # Errors
    /// The store does not answer; what earlier batches wrote stays.
    pub(crate) async fn end(mut self) -> Result<ImportReport> {
        if let Some(line) = std::mem::take(&mut self.lines).end() {
            self.take(line).await?;
        }
        self.write().await?;
        // Refusals of a batch come after those of lines that could not be read.
        self.report.errors.sort_by_key(|error| error.line);
        Ok(self.report)
    }

    /// Rows in the table so far.
    pub(crate) fn written(&self) -> u64 {
        self.report.written
    }

    async fn take(&mut self, (number, line): Line) -> Result<()> {
        if line.as_ref().is_some_and(|line| line.trim_ascii().is_empty()) {
            return Ok(());
        }
        self.report.read += 1;
        match self.row(line) {
            Ok(row) => {
                self.numbers.push(number);
                self.rows.push(row);
            }
            Err(error) => self.report.refuse(number, error),
        }
        if self.rows.len() >= BATCH { self.write().await } else { Ok(()) }
    }

    fn row(&self, line: Option<Bytes>) -> Result<Mapping, String> {
        let line = line.ok_or_else(|| format!("longer than {LINE_LIMIT} bytes"))?;
        let mapping = serde_json::from_slice(&line).map_err(|error| format!("no mapping: {error}"))?;
        self.mappings.check(mapping)
    }

    async fn write(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::replace(&mut self.rows, Vec::with_capacity(BATCH));
        let outcomes = self.mappings.import(rows).await?;
        for (number, outcome) in self.numbers.drain(..).zip(outcomes) {
            match outcome {
                Imported::Written => self.report.written += 1,
                Imported::Kept(origin) => self.report.refuse(number, kept(origin)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for chunk in chunks {
            lines.push(chunk);
            found.extend(std::iter::from_fn(|| lines.next_line()));
        }
        found.extend(lines.end());
        let text = |line: Bytes| String::from_utf8(line.to_vec()).unwrap();
        found.into_iter().map(|(number, line)| (number, line.map(text))).collect()
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let whole = cut(&[b"one\n\ntwo\nthree"]);
        let bytes: Vec<&[u8]> = b"one\n\ntwo\nthree".chunks(1).collect();
        assert_eq!(whole, cut(&bytes));
        let expected = [(1, "one"), (2, ""), (3, "two"), (4, "three")];
        assert_eq!(whole, expected.map(|(number, line)| (number, Some(line.to_owned()))));
    }

    #[test]
    fn a_line_over_the_limit_costs_no_memory_and_not_its_neighbours() {
        let long = vec![b'a'; 3 * LINE_LIMIT];
        let mut chunks: Vec<&[u8]> = vec![b"one\n"];
        chunks.extend(long.chunks(1000));
        chunks.push(b"\nthree\n");
        let found = cut(&chunks);
        assert_eq!(found, [(1, Some("one".into())), (2, None), (3, Some("three".into()))]);
        assert_eq!(cut(&[&long]), [(1, None)]);
    }
}
