//! Reads one TOML table key by key, collecting every mistake instead of stopping at the first.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use standpipe_api::{Problem, Problems};
use toml::{Table, Value};

/// A table being read. Keys that nobody asked for are mistakes, or somebody else's.
pub(super) struct Reader<'a> {
    table: &'a Table,
    path: String,
    asked: BTreeSet<&'static str>,
    problems: &'a mut Problems,
}

impl<'a> Reader<'a> {
    /// Reads a table that stands at a key path.
    pub(super) fn new(table: &'a Table, path: impl Into<String>, problems: &'a mut Problems) -> Self {
        Self { table, path: path.into(), asked: BTreeSet::new(), problems }
    }

    /// The key path of a key of this table.
    pub(super) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a mistake at a key.
    pub(super) fn wrong(&mut self, key: &str, text: impl Into<String>) {
        let path = self.at(key);
        self.problems.push(Problem::at(path, text));
    }

    /// The value of a key, whatever its type.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.insert(key);
        self.table.get(key)
    }

    /// A text, parsed by `parse`, whose error is a sentence.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(&text).map_err(|why| self.wrong(key, why)).ok()
    }

    /// A text that must be there.
    pub(super) fn required(&mut self, key: &'static str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.wrong(key, "is missing");
        }
        self.text(key)
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text.clone()),
            other => self.mistyped(key, "a text in quotes", other),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        match self.value(key)? {
            Value::Array(values) if values.iter().all(Value::is_str) => {
                Some(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            other => self.mistyped(key, "a list of texts", other),
        }
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, key: &'static str) -> Option<bool> {
        match self.value(key)? {
            Value::Boolean(on) => Some(*on),
            other => self.mistyped(key, "true or false", other),
        }
    }

    /// A whole number that is at least one.
    pub(super) fn count<T: TryFrom<i64>>(&mut self, key: &'static str) -> Option<T> {
        match self.value(key)? {
            Value::Integer(count) if *count > 0 => {
                let fits = T::try_from(*count).ok();
                if fits.is_none() {
                    self.wrong(key, "is too large");
                }
                fits
            }
            Value::Integer(_) => {
                self.wrong(key, "must be at least 1");
                None
            }
            other => self.mistyped(key, "a whole number", other),
        }
    }

    /// A span of time, as `"500ms"`, `"5s"`, `"7d"`; not zero.
    pub(super) fn span(&mut self, key: &'static str) -> Option<Duration> {
        self.parsed(key, |text| match humantime::parse_duration(text) {
            Ok(span) if span.is_zero() => Err("must be longer than nothing".into()),
            Ok(span) => Ok(span),
            Err(_) => Err(format!("`{text}` is no span of time; write \"500ms\", \"5s\" or \"7d\"")),
        })
    }

    /// A size in bytes, as `"64KiB"`; not zero.
    pub(super) fn size(&mut self, key: &'static str) -> Option<usize> {
        self.parsed(key, |text| {
            let bytes = parse_size(text);
            bytes.ok_or_else(|| format!("`{text}` is no size; write \"64KiB\", \"1MiB\" or \"512B\""))
        })
    }

    /// A table.
    pub(super) fn table(&mut self, key: &'static str) -> Option<&'a Table> {
        match self.value(key)? {
            Value::Table(table) => Some(table),
            other => self.mistyped(key, "a table", other),
        }
    }

    /// A list of tables, as `[[key]]` writes it.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<&'a Table> {
        match self.value(key) {
            None => Vec::new(),
            Some(Value::Array(values)) if values.iter().all(Value::is_table) => {
                values.iter().filter_map(Value::as_table).collect()
            }
            Some(_) => {
                self.wrong(key, format!("must be a list of tables; write [[{key}]]"));
                Vec::new()
            }
        }
    }

    /// A reader for a table inside this one.
    pub(super) fn inside<'b>(&'b mut self, table: &'b Table, path: String) -> Reader<'b>
    where
        'a: 'b,
    {
        Reader::new(table, path, self.problems)
    }

    /// Whether nothing was wrong since there were `before` problems.
    pub(super) fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// The keys nobody asked for.
    pub(super) fn rest(&self) -> Table {
        let rest = self.table.iter().filter(|(key, _)| !self.asked.contains(key.as_str()));
        rest.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Ends the reading: a key nobody asked for is a mistake.
    pub(super) fn finish(mut self) {
        for key in self.rest().keys() {
            let nearest = self.asked.iter().map(|known| (distance(known, key), known)).min();
            let hint = match nearest {
                Some((distance, known)) if distance <= 2 => format!("unknown key; did you mean `{known}`?"),
                _ => format!("unknown key; known are {}", list(&self.asked)),
            };
            self.wrong(key, hint);
        }
    }

    fn mistyped<T>(&mut self, key: &'static str, wanted: &str, found: &Value) -> Option<T> {
        self.wrong(key, format!("must be {wanted}, not {}", found.type_str()));
        None
    }
}

fn list(words: &BTreeSet<&'static str>) -> String {
    words.iter().copied().collect::<Vec<_>>().join(", ")
}

/// Parses with a type's own parser and says what is wanted.
pub(super) fn parse<T: FromStr>(wanted: &'static str) -> impl FnOnce(&str) -> Result<T, String> {
    move |text| text.parse().map_err(|_| format!("`{text}` is not {wanted}"))
}

fn parse_size(text: &str) -> Option<usize> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "B" | "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

/// The Levenshtein distance, for "did you mean".
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, left) in one.chars().enumerate() {
        let mut diagonal = at;
        let mut last = at + 1;
        let mut next = vec![last];
        for (right, above) in other.iter().zip(row.iter().skip(1)) {
            last = (above + 1).min(last + 1).min(diagonal + usize::from(left != *right));
            diagonal = *above;
            next.push(last);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("64KiB"), Some(65536));
        assert_eq!(parse_size("1 MiB"), Some(1 << 20));
        assert_eq!(parse_size("0B"), None);
        assert_eq!(parse_size("12 parsecs"), None);
    }

    #[test]
    fn a_typo_is_answered_with_the_key_that_was_meant() {
        let table: Table = "conections = 5\nelephants = 1".parse().unwrap();
        let mut problems = Problems::new();
        let mut reader = Reader::new(&table, "limits", &mut problems);
        assert_eq!(reader.count::<usize>("connections"), None);
        reader.finish();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "limits.conections: unknown key; did you mean `connections`?",
                "limits.elephants: unknown key; known are connections"
            ]
        );
    }
}
