//! Path segments: ids as they stand in a URL, and paths taken apart without re-encoding them.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a segment may not hold as it is: everything but RFC 3986's `pchar`, section 3.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// What a value in a query may not hold as it is: RFC 3986's unreserved characters alone stay.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Writes an id as one path segment; `arn:rds:db` stays as it is.
pub(super) fn encode(id: &str) -> Cow<'_, str> {
    utf8_percent_encode(id, SEGMENT).into()
}

/// Writes a value of a query parameter.
pub(super) fn encode_query(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, QUERY_VALUE).into()
}

/// The id that a segment stands for; `None` when it is not UTF-8.
pub(super) fn decode(segment: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(segment).decode_utf8().ok()
}

/// Takes the first segment off a path: `/db/pipes` is `db` and `/pipes`, `/db` is `db` and the empty path.
pub(super) fn split_first(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    memchr::memchr(b'/', path.as_bytes()).map_or((path, ""), |slash| path.split_at(slash))
}

/// Whether an id can stand in a path: not empty, no dot segment (RFC 3986, section 5.2.4), no slash, nothing unprintable.
pub(super) fn is_segment(id: &str) -> bool {
    !id.is_empty() && id != "." && id != ".." && !id.chars().any(|c| c == '/' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_stay_and_slashes_do_not() {
        assert_eq!(encode("arn:rds:analytics-db"), "arn:rds:analytics-db");
        assert_eq!(encode("a/b c?d#e%f"), "a%2Fb%20c%3Fd%23e%25f");
        assert_eq!(encode("é"), "%C3%A9");
    }

    #[test]
    fn a_path_splits_at_its_second_slash() {
        assert_eq!(split_first("/db/pipes/x"), ("db", "/pipes/x"));
        assert_eq!(split_first("/db"), ("db", ""));
        assert_eq!(split_first("/"), ("", ""));
    }
}
