//! A path pattern, parsed once: its segments, how specific it is, what it captures.

use std::cmp::Ordering;
use std::sync::Arc;

use http::Method;
use memchr::memchr;
use standpipe_api::{Methods, Params, Route};

/// A parsed [`Route`].
#[derive(Debug)]
pub(crate) struct Pattern {
    segments: Vec<Segment>,
    methods: Methods,
}

/// What may stand between two slashes.
#[derive(Debug)]
pub(super) enum Segment {
    /// This word.
    Literal(String),
    /// Anything.
    One(Arc<str>),
    /// Anything, and slashes among it.
    Rest(Arc<str>),
}

impl Pattern {
    /// Parses a route.
    ///
    /// # Errors
    /// What is wrong with the pattern, as a sentence.
    pub(crate) fn parse(route: &Route) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("pattern `{}` {what}", route.pattern));
        if route.methods == Methods::Only(Vec::new()) {
            return wrong("has no methods");
        }
        let Some(path) = route.pattern.strip_prefix('/') else { return wrong("must begin with `/`") };
        let words: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
        let mut segments = Vec::with_capacity(words.len());
        for (at, word) in words.iter().enumerate() {
            let segment =
                Segment::parse(word).map_err(|what| format!("pattern `{}` {what}", route.pattern))?;
            if matches!(segment, Segment::Rest(_)) && at + 1 != words.len() {
                return wrong("has segments after `{*..}`");
            }
            if segments
                .iter()
                .any(|earlier: &Segment| earlier.name().is_some() && earlier.name() == segment.name())
            {
                return wrong("uses one parameter name twice");
            }
            segments.push(segment);
        }
        Ok(Self { segments, methods: route.methods.clone() })
    }

    /// Whether it is for this method.
    pub(crate) fn takes(&self, method: &Method) -> bool {
        match &self.methods {
            Methods::Any => true,
            Methods::Only(methods) => methods.contains(method),
        }
    }

    /// Its segments, from left to right.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The pattern's parameters in a path that it matches.
    pub(crate) fn capture(&self, path: &str) -> Params {
        let mut rest = path.strip_prefix('/').unwrap_or(path);
        Params::decode(self.segments.iter().filter_map(|segment| {
            let (word, after) = match segment {
                Segment::Rest(_) => (rest, ""),
                _ => match memchr(b'/', rest.as_bytes()) {
                    Some(end) => {
                        (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default())
                    }
                    None => (rest, ""),
                },
            };
            rest = after;
            segment.name().map(|name| (name.clone(), word))
        }))
    }

    /// Whether its first segment is a parameter or there is none: such a pattern does not own a reserved root.
    pub(crate) fn begins_open(&self) -> bool {
        !matches!(self.segments.first(), Some(Segment::Literal(_)))
    }

    /// The first segment, when it is a literal.
    pub(crate) fn root(&self) -> Option<&str> {
        match self.segments.first() {
            Some(Segment::Literal(word)) => Some(word),
            _ => None,
        }
    }

    /// Orders patterns that match the same path: a literal beats `{name}` beats `{*rest}`, from left to right.
    pub(crate) fn specificity(&self, other: &Self) -> Ordering {
        other.segments.iter().map(Segment::rank).cmp(self.segments.iter().map(Segment::rank))
    }
}

impl Segment {
    fn parse(word: &str) -> Result<Self, &'static str> {
        if word.is_empty() {
            return Err("has an empty segment");
        }
        let Some(name) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) else {
            return match word.contains(['{', '}', '*', '?', '#', '%']) {
                true => Err("has a character that a literal segment cannot hold"),
                false => Ok(Self::Literal(word.to_owned())),
            };
        };
        let (name, segment): (&str, fn(Arc<str>) -> Self) = match name.strip_prefix('*') {
            Some(name) => (name, Self::Rest),
            None => (name, Self::One),
        };
        let good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if good { Ok(segment(name.into())) } else { Err("has a parameter without a proper name") }
    }

    fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Literal(_) => None,
            Self::One(name) | Self::Rest(name) => Some(name),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Literal(_) => 0,
            Self::One(_) => 1,
            Self::Rest(_) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::*;

    fn parsed(pattern: &str) -> Pattern {
        Pattern::parse(&Route::get(pattern)).unwrap()
    }

    fn matches(pattern: &str, target: &str) -> bool {
        let mut tree = Tree::default();
        tree.add(7, parsed(pattern).segments());
        let mut found = Vec::new();
        tree.each_match(target, |place| found.push(place));
        found == [7]
    }

    #[test]
    fn a_parameter_is_exactly_one_segment() {
        assert!(matches("/{resource}/pipes", "/db/pipes"));
        assert!(matches("/{resource}/pipes", "/arn:rds:db/pipes"));
        assert!(!matches("/{resource}/pipes", "/a/b/pipes"));
        assert!(!matches("/{resource}/pipes", "//pipes"));
        assert!(!parsed("/{resource}/pipes").takes(&Method::POST));
        assert!(!matches("/{resource}/pipes", "/db/pipes/"));
        assert!(matches("/{resource}/{*rest}", "/db/a/b/"));
        assert!(!matches("/{resource}/{*rest}", "/db/"));
        assert!(!matches("/{resource}/{*rest}", "/db"));
        assert!(matches("/", "/"));
        assert!(!matches("/", "*") && !matches("/{resource}", "/"));
    }

    #[test]
    fn parameters_are_decoded_and_the_rest_stays_whole() {
        let params = parsed("/{resource}/x/{*rest}").capture("/arn%3Ards/x/a%2Fb/c");
        assert_eq!(params.get("resource"), "arn:rds");
        assert_eq!(params.get("rest"), "a/b/c");
    }

    #[test]
    fn a_literal_beats_a_parameter_beats_the_rest() {
        let mut patterns = ["/{a}/{*rest}", "/{a}/{b}", "/{a}/pipes"];
        patterns.sort_by(|one, other| parsed(other).specificity(&parsed(one)));
        assert_eq!(patterns, ["/{a}/pipes", "/{a}/{b}", "/{a}/{*rest}"]);
    }

    #[test]
    fn a_bad_pattern_is_refused_with_the_reason() {
        for (pattern, reason) in [
            ("offers", "begin with"),
            ("/a//b", "empty segment"),
            ("/{*rest}/b", "after `{*..}`"),
            ("/{a}/{a}", "twice"),
            ("/{}", "proper name"),
            ("/a*", "cannot hold"),
        ] {
            let error = Pattern::parse(&Route::get(pattern)).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
