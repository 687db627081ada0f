//! Statements with context: every error says what was tried.

use rusqlite::{Connection, OptionalExtension as _, Params, Row};

use crate::store::StoreError;

/// Reads one row; errors of columns are the statement's.
pub(super) type Read<T> = fn(&Row<'_>) -> Result<T, rusqlite::Error>;

/// The three ways in which statements are used here. Statements are prepared once per connection.
pub(super) trait Rows {
    /// Carries a statement out; the number of rows it changed.
    fn change(&self, doing: &'static str, sql: &str, params: impl Params) -> Result<usize, StoreError>;

    /// The first row.
    fn first<T>(
        &self,
        doing: &'static str,
        sql: &str,
        params: impl Params,
        read: Read<T>,
    ) -> Result<Option<T>, StoreError>;

    /// All rows; the statement bounds their number.
    fn all<T>(
        &self,
        doing: &'static str,
        sql: &str,
        params: impl Params,
        read: Read<T>,
    ) -> Result<Vec<T>, StoreError>;
}

impl Rows for Connection {
    fn change(&self, doing: &'static str, sql: &str, params: impl Params) -> Result<usize, StoreError> {
        let changed = self.prepare_cached(sql).and_then(|mut statement| statement.execute(params));
        changed.map_err(StoreError::at(doing))
    }

    fn first<T>(
        &self,
        doing: &'static str,
        sql: &str,
        params: impl Params,
        read: Read<T>,
    ) -> Result<Option<T>, StoreError> {
        let row = self.prepare_cached(sql).and_then(|mut found| found.query_row(params, read).optional());
        row.map_err(StoreError::at(doing))
    }

    fn all<T>(
        &self,
        doing: &'static str,
        sql: &str,
        params: impl Params,
        read: Read<T>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.prepare_cached(sql).and_then(|mut found| found.query_map(params, read)?.collect());
        rows.map_err(StoreError::at(doing))
    }
}

/// SQLite counts in `i64`; a limit beyond that is no limit.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
