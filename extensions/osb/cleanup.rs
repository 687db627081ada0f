//! When the rows of settled operations, and the tombstones they left, are removed: cron expressions and an age.
//!
//! The table is the same wherever operations are kept: `cleanup_all`, `cleanup_succeeded` and `cleanup_failed`, each a
//! cron expression of six fields in UTC (`second minute hour day month weekday`), and `cleanup_age`. Without an
//! expression nothing is removed; what is in progress never is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use standpipe_api::{Problem, Problems, Timestamp};

/// Three days.
const AGE: Duration = Duration::from_secs(3 * 24 * 3600);

/// What an expression must be. The parser's own words count fields that are not accepted here.
const WANTED: &str = "must be a cron expression of six fields in quotes, second minute hour day month weekday in UTC, such as \
                      \"0 0 3 * * *\" for each day at 3:00";

/// Which settled operations a schedule removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Removes {
    /// All of them.
    All,
    /// Those that succeeded.
    Succeeded,
    /// Those that failed.
    Failed,
}

impl Removes {
    const EACH: [Self; 3] = [Self::All, Self::Succeeded, Self::Failed];

    /// The key of its cron expression.
    const fn key(self) -> &'static str {
        match self {
            Self::All => "cleanup_all",
            Self::Succeeded => "cleanup_succeeded",
            Self::Failed => "cleanup_failed",
        }
    }

    /// Whether it removes an operation that ended like this.
    pub(crate) const fn covers(self, ended: Ended) -> bool {
        matches!(
            (self, ended),
            (Self::All, _) | (Self::Succeeded, Ended::Succeeded) | (Self::Failed, Ended::Failed)
        )
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was done.
    Succeeded,
    /// It was not.
    Failed,
}

/// When operations of one kind are removed.
#[derive(Clone, Debug)]
pub(crate) struct Cleanup {
    age: Duration,
    schedules: Vec<(Removes, Cron)>,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self { age: AGE, schedules: Vec::new() }
    }
}

impl Cleanup {
    /// Reads an `operations` table.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the table.
    pub(crate) fn read(table: &toml::Table) -> Result<Self, Problems> {
        let (mut cleanup, mut problems) = (Self::default(), Problems::new());
        for (key, value) in table {
            let removes = Removes::EACH.into_iter().find(|removes| removes.key() == key);
            match (removes, value.as_str()) {
                (Some(removes), Some(text)) => match cron(text) {
                    Ok(cron) => cleanup.schedules.push((removes, cron)),
                    Err(why) => problems.push(Problem::at(key, format!("{WANTED}; {why}"))),
                },
                (Some(_), None) => problems.push(Problem::at(key, WANTED)),
                (None, text) if key == "cleanup_age" => {
                    match text.and_then(|text| humantime::parse_duration(text).ok()) {
                        Some(age) => cleanup.age = age,
                        None => problems.push(Problem::at(key, "must be a span of time such as \"3d\"")),
                    }
                }
                (None, _) => problems.push(Problem::at(
                    key,
                    "unknown key; known are cleanup_all, cleanup_succeeded, cleanup_failed, cleanup_age",
                )),
            }
        }
        if problems.is_empty() { Ok(cleanup) } else { Err(problems) }
    }

    /// The schedules that fell due after one moment and not after another.
    pub(crate) fn due(&self, after: Timestamp, until: Timestamp) -> Vec<Removes> {
        let falls = |cron: &Cron| next(cron, after).is_some_and(|next| next <= until);
        self.schedules.iter().filter(|(_, cron)| falls(cron)).map(|(removes, _)| *removes).collect()
    }

    /// When the next schedule falls due after a moment; `None`: never.
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedules.iter().filter_map(|(_, cron)| next(cron, after)).min()
    }

    /// Operations created before this moment are old enough.
    pub(crate) fn before(&self, now: Timestamp) -> Timestamp {
        let age = i64::try_from(self.age.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(now.as_millis().saturating_sub(age))
    }
}

/// A day of the month and a weekday must both fit, as in Spring's expressions.
fn cron(text: &str) -> Result<Cron, String> {
    let parser =
        CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).dom_and_dow(true).build();
    parser.parse(text).map_err(|error| match text.split_whitespace().count() {
        6 => error.to_string(),
        fields => format!("this one has {fields}"),
    })
}

fn next(cron: &Cron, after: Timestamp) -> Option<Timestamp> {
    let after: DateTime<Utc> = DateTime::from_timestamp_millis(after.as_millis())?;
    // An expression that never falls due, such as the 30th of February, is told as an error.
    let next = cron.find_next_occurrence(&after, false).ok()?;
    Some(Timestamp::from_millis(next.timestamp_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Cleanup, Problems> {
        Cleanup::read(&toml::from_str(text).unwrap())
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from_millis(DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis())
    }

    #[test]
    fn expressions_have_six_fields_and_are_in_utc() {
        let cleanup = read("cleanup_all = '0 0 0 */10 * *'\ncleanup_failed = '30 15 4 * * MON'").unwrap();
        let now = at("2026-11-21T10:00:00Z");
        assert_eq!(cleanup.next(now), Some(at("2026-11-23T04:15:30Z")), "a Monday");
        assert_eq!(cleanup.due(now, at("2026-11-23T04:15:30Z")), [Removes::Failed]);
        assert_eq!(cleanup.due(now, at("2026-11-23T04:15:29Z")), []);
        assert_eq!(cleanup.due(now, at("2026-12-01T00:00:00Z")), [Removes::All, Removes::Failed]);
        assert_eq!(cleanup.due(at("2026-11-23T04:15:30Z"), at("2026-11-24T00:00:00Z")), []);
    }

    #[test]
    fn a_day_and_a_weekday_must_both_fit() {
        let cleanup = read("cleanup_all = '0 0 0 13 * FRI'").unwrap();
        assert_eq!(cleanup.next(at("2026-11-21T00:00:00Z")), Some(at("2027-08-13T00:00:00Z")));
    }

    #[test]
    fn without_an_expression_nothing_is_ever_due() {
        let cleanup = read("cleanup_age = '10d'").unwrap();
        assert_eq!(cleanup.next(Timestamp::now()), None);
        assert_eq!(cleanup.before(at("2026-11-21T00:00:00Z")), at("2026-11-11T00:00:00Z"));
        assert_eq!(read("").unwrap().before(at("2026-11-21T00:00:00Z")), at("2026-11-18T00:00:00Z"));
        let never = read("cleanup_all = '0 0 0 30 2 *'").unwrap();
        assert_eq!(never.next(Timestamp::now()), None);
    }

    #[test]
    fn mistakes_are_told_with_their_key() {
        for (text, key) in [
            ("cleanup_all = '0 0 * * *'", "cleanup_all"),
            ("cleanup_failed = 'daily'", "cleanup_failed"),
            ("cleanup_succeeded = 5", "cleanup_succeeded"),
            ("cleanup_age = 'old'", "cleanup_age"),
            ("cleanup = '* * * * * *'", "cleanup"),
        ] {
            assert_eq!(read(text).unwrap_err()[0].path, key, "{text}");
        }
        for (cron, why) in
            [("0 0 * * *", "has 5"), ("0 0 0 * * * 2026", "has 7"), ("0 0 25 * * *", "out of bounds")]
        {
            let told = read(&format!("cleanup_all = '{cron}'")).unwrap_err()[0].to_string();
            assert!(told.contains(why) && told.contains("\"0 0 3 * * *\""), "{told}");
            assert!(!told.contains("5 or 6"), "{told}");
        }
    }
}
