//! Which calls an extension or a dialect's operation is asked about.

use std::borrow::Cow;

use http::Method;

/// Methods and a path pattern. The engine compiles all patterns once, at start.
///
/// A pattern is a path whose segments are literals, `{name}` (one non-empty segment) or, last, `{*name}`
/// (the rest, possibly several segments, not empty). A leading `{name}` never matches the first
/// segment of a face. Matching is on the path as sent; parameters arrive percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The methods it is for.
    pub methods: Methods,
    /// The path pattern, for example `/{resource}/pipes/{pipe}`.
    pub pattern: String,
}

/// A set of methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// Every method.
    Any,
    /// These.
    Only(Vec<Method>),
}

impl Route {
    /// Every method on a path.
    pub fn any(pattern: &str) -> Self {
        Self { methods: Methods::Any, pattern: pattern.to_owned() }
    }

    /// Some methods on a path.
    pub fn of(methods: impl IntoIterator<Item = Method>, pattern: &str) -> Self {
        Self { methods: Methods::Only(methods.into_iter().collect()), pattern: pattern.to_owned() }
    }

    /// GET on a path. HEAD is a method of its own: `Route::of([GET, HEAD], ..)`.
    pub fn get(pattern: &str) -> Self {
        Self::of([Method::GET], pattern)
    }

    /// POST on a path.
    pub fn post(pattern: &str) -> Self {
        Self::of([Method::POST], pattern)
    }

    /// PUT on a path.
    pub fn put(pattern: &str) -> Self {
        Self::of([Method::PUT], pattern)
    }

    /// PATCH on a path.
    pub fn patch(pattern: &str) -> Self {
        Self::of([Method::PATCH], pattern)
    }

    /// DELETE on a path.
    pub fn delete(pattern: &str) -> Self {
        Self::of([Method::DELETE], pattern)
    }
}

/// A set of paths standpipe answers on, which a listener can be limited to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Face {
    /// Its name in `faces = [...]` of a listener.
    pub name: &'static str,
    /// The first path segments that belong to it; reserved, so that no resource is reached under them.
    pub roots: &'static [&'static str],
    /// The face that also owns every first segment nobody reserved. At most one.
    pub owns_the_rest: Rest,
}

/// Whether a face owns the first segments that nobody reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It does: `/{resource}/...`.
    Owned,
    /// It does not.
    NotOwned,
}

/// A path as lenient servers read it: `/db//pipes/` is `/db/pipes`.
pub fn without_empty_segments(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && (path.len() < 2 || !path.ends_with('/')) {
        return Cow::Borrowed(path);
    }
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    Cow::Owned(segments.fold(String::new(), |path, segment| path + "/" + segment))
}
