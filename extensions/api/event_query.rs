//! The query of those who read the feed.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::{Error, Result};

/// Events of a page when nobody says how many, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 256;
/// The longest wait; the deadline of a call may be shorter.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// `after=&limit=&wait=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Behind which revision; `None`: behind the last there is.
    pub after: Option<u64>,
    /// At most so many, from 1 to 256.
    pub limit: usize,
    /// How long the first event is waited for, at most 5 min.
    pub wait: Duration,
}

impl EventQuery {
    /// Reads a query.
    ///
    /// # Errors
    /// A parameter that is unknown, there twice, or not what it must be.
    pub fn read(query: Option<&str>) -> Result<Self> {
        let (mut after, mut limit, mut wait) = (None, None, None);
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            let bad = |what| {
                Error::bad_request(format!("the parameter {name} must be {what}, and stand there once"))
            };
            let first = match name {
                "after" => {
                    let revision = value.parse().map_err(|_| bad("a revision, as 42"))?;
                    after.replace(revision).is_none()
                }
                "limit" => {
                    let number: usize = value.parse().map_err(|_| bad("a whole number"))?;
                    limit.replace(number.clamp(1, LARGEST_PAGE)).is_none()
                }
                "wait" => {
                    let span = humantime::parse_duration(&value).map_err(|_| bad("a span, as 30s"))?;
                    wait.replace(span.min(LONGEST_WAIT)).is_none()
                }
                _ => {
                    return Err(Error::bad_request("there is a parameter that is not known here")
                        .advise("known are after, limit and wait"));
                }
            };
            if !first {
                return Err(bad("one value"));
            }
        }
        Ok(Self { after, limit: limit.unwrap_or(PAGE), wait: wait.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_within_its_bounds() {
        let nothing = EventQuery { after: None, limit: 100, wait: Duration::ZERO };
        assert_eq!(EventQuery::read(None).unwrap(), nothing);
        let all = EventQuery::read(Some("after=7&limit=1000000&wait=1h")).unwrap();
        assert_eq!(all, EventQuery { after: Some(7), limit: 256, wait: Duration::from_secs(300) });
        for wrong in ["after=-1", "after=x", "after=1&after=2", "limit=", "wait=soon", "from=1"] {
            assert!(EventQuery::read(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
