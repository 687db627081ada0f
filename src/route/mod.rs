//! Step 3: method and path in, face, operation and extensions out.
//!
//! Everything registered for a path is put into one tree, once, at start; a path is matched against all of it in one walk. The path matched is the one a provider sees: on `/providers/{name}/...` the
//! part behind the name, elsewhere the whole. This step never looks at headers, bodies or tables.

mod pattern;
mod tree;

use std::sync::Arc;

use ahash::HashMap;
use http::Method;
use memchr::memchr;
use percent_encoding::percent_decode_str;
use standpipe_api::{
    Dialect, Error, ErrorKind, Extension, Face, Fault, Operation, Params, Problem, Problems, Rest, Result,
    without_empty_segments,
};

use self::pattern::Pattern;
use self::tree::Tree;

/// The first segment of the transparent face.
pub const TRANSPARENT: &str = "providers";

/// All routes and operations, compiled. Cheap to clone.
#[derive(Clone)]
pub struct Router(Arc<Compiled>);

struct Compiled {
    tree: Tree,
    entries: Vec<Entry>,
    dialects: Vec<Arc<dyn Dialect>>,
    faces: Vec<Served>,
    roots: HashMap<&'static str, FaceId>,
    open: Option<FaceId>,
    open_roots: Vec<&'static str>,
}

struct Entry {
    pattern: Pattern,
    owner: Owner,
}

#[derive(Clone, Copy)]
enum Owner {
    Extension(ExtensionId),
    Operation(DialectId, Operation, usize),
}

struct Served {
    face: Face,
    dialect: Option<DialectId>,
}

/// The index of an extension in the list of `extensions/lib.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtensionId(pub usize);

/// The index of a dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialectId(pub usize);

/// The index of a face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FaceId(pub usize);

impl FaceId {
    /// `/providers/{name}/...`, which is always there.
    pub const TRANSPARENT: Self = Self(0);
}

/// Where a path leads, before any table is consulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way<'a> {
    /// The face it belongs to.
    pub face: FaceId,
    /// The provider named by the path, on the transparent face.
    pub provider: Option<&'a str>,
    /// The dialect of the face; on the transparent face that of the provider, which the caller of this step looks up.
    pub dialect: Option<DialectId>,
    /// The path as a provider sees it.
    pub path: &'a str,
    /// Whose the first segment is.
    pub root: Root,
}

/// Whose the first segment of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// A face's: patterns that begin with a parameter do not match it.
    Reserved,
    /// Anybody's, for example a resource id.
    Open,
}

/// What is registered for a method and path.
#[derive(Debug, Default)]
pub struct Found {
    /// The dialect's operation; the most specific that matches.
    pub operation: Option<Matched>,
    /// The extensions that asked for the call, in calling order.
    pub extensions: Vec<(ExtensionId, Params)>,
}

/// A dialect's operation for a request.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The operation.
    pub operation: Operation,
    /// Its place in the dialect's list, by which its metrics are found.
    pub position: usize,
    /// What its pattern found in the path.
    pub params: Params,
}

impl Matched {
    /// What the dialect does not know.
    pub fn other() -> Self {
        Self { operation: Operation::OTHER, position: usize::MAX, params: Params::default() }
    }
}

impl Router {
    /// Compiles everything the extensions registered.
    ///
    /// # Errors
    /// All duplicate names, bad patterns and doubly owned faces together.
    pub fn build(extensions: &[Arc<dyn Extension>], reserved: &[&'static str]) -> Result<Self, Problems> {
        let mut build = Build::default();
        build.face(Face { name: TRANSPARENT, roots: &[TRANSPARENT], owns_the_rest: Rest::NotOwned }, None);
        for (at, extension) in extensions.iter().enumerate() {
            build.extension(ExtensionId(at), &**extension);
        }
        build.finish(reserved)
    }

    /// The dialects, by id.
    pub fn dialects(&self) -> &[Arc<dyn Dialect>] {
        &self.0.dialects
    }

    /// A dialect by its id, which only this router gives out.
    #[expect(clippy::indexing_slicing, reason = "a DialectId is only made by this router, from its own list")]
    pub fn dialect(&self, id: DialectId) -> &Arc<dyn Dialect> {
        &self.0.dialects[id.0]
    }

    /// A dialect by the word used in configuration.
    pub fn dialect_named(&self, name: &str) -> Option<DialectId> {
        self.0.dialects.iter().position(|dialect| dialect.name() == name).map(DialectId)
    }

    /// The names of all faces, by id.
    pub fn face_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.faces.iter().map(|served| served.face.name)
    }

    /// Whether a path is on a face whose extension authenticates callers itself.
    pub fn is_open(&self, path: &str) -> bool {
        let inside = path.strip_prefix('/').unwrap_or(path);
        let is_root = |root: &&str| {
            inside.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.open_roots.iter().any(is_root)
    }

    /// Where a path leads. The path has been checked for dot segments by the listener.
    ///
    /// # Errors
    /// No face answers on it, or its first segment hides a reserved word behind percent-encoding.
    pub fn way<'a>(&self, path: &'a str) -> Result<Way<'a>> {
        let inside = path.strip_prefix('/').unwrap_or(path);
        let (root, rest) = match memchr(b'/', inside.as_bytes()) {
            Some(end) => inside.split_at(end),
            None => (inside, ""),
        };
        if root == TRANSPARENT {
            return transparent(rest);
        }
        if root.as_bytes().contains(&b'%')
            && self.0.roots.contains_key(&*percent_decode_str(root).decode_utf8_lossy())
        {
            return Err(Error::bad_request("the first path segment is a reserved word in percent-encoding")
                .advise("write the word itself, or reach a resource of that name under /providers/{name}/"));
        }
        let owner = self.0.roots.get(root).copied();
        let face = owner.or(self.0.open).ok_or_else(|| no_route(path))?;
        let dialect = self.0.faces.get(face.0).and_then(|served| served.dialect);
        let root = if owner.is_some() { Root::Reserved } else { Root::Open };
        Ok(Way { face, provider: None, dialect, path, root })
    }

    /// What is registered for a method on a way.
    pub fn find(&self, method: &Method, way: &Way<'_>) -> Found {
        // Brokers take `/db//pipes/` for `/db/pipes`; what they would do must not go by unseen.
        let path = &*without_empty_segments(way.path);
        let mut found = Found::default();
        let mut best: Option<(&Pattern, Operation, usize)> = None;
        self.0.tree.each_match(path, |at| {
            let Some(entry) = self.0.entries.get(at).filter(|entry| entry.pattern.takes(method)) else {
                return;
            };
            if way.root == Root::Reserved && entry.pattern.begins_open() {
                return;
            }
            match entry.owner {
                Owner::Extension(id) if is_asked(id, &found, way) => {
                    found.extensions.push((id, entry.pattern.capture(path)));
                }
                Owner::Operation(dialect, operation, position) if Some(dialect) == way.dialect => {
                    if best.is_none_or(|(pattern, ..)| entry.pattern.specificity(pattern).is_gt()) {
                        best = Some((&entry.pattern, operation, position));
                    }
                }
                Owner::Extension(_) | Owner::Operation(..) => {}
            }
        });
        found.operation = best.map(|(pattern, operation, position)| Matched {
            operation,
            position,
            params: pattern.capture(path),
        });
        found
    }

    /// Methods that something registered for this path would take; for a 405's `Allow`.
    pub fn methods_of(&self, way: &Way<'_>) -> Vec<Method> {
        let common = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let taken = |method: &Method| {
            let found = self.find(method, way);
            found.operation.is_some() || !found.extensions.is_empty()
        };
        common.into_iter().filter(taken).collect()
    }
}

/// Extensions see federated faces only, and each call once.
fn is_asked(id: ExtensionId, found: &Found, way: &Way<'_>) -> bool {
    way.face != FaceId::TRANSPARENT && !found.extensions.iter().any(|(earlier, _)| *earlier == id)
}

fn transparent(rest: &str) -> Result<Way<'_>> {
    let inside = rest.strip_prefix('/').unwrap_or("");
    let (name, path) = match memchr(b'/', inside.as_bytes()) {
        Some(end) => inside.split_at(end),
        None => (inside, "/"),
    };
    if name.is_empty() {
        return Err(no_route("/providers").advise("name a provider: /providers/{name}/..."));
    }
    Ok(Way { face: FaceId::TRANSPARENT, provider: Some(name), dialect: None, path, root: Root::Open })
}

/// No face answers on a path.
pub(crate) fn no_route(path: &str) -> Error {
    Error::new(ErrorKind::NoRoute, Fault::Caller, format!("nothing is served at {path}"))
}

/// Collects routes and mistakes.
#[derive(Default)]
struct Build {
    entries: Vec<Entry>,
    dialects: Vec<Arc<dyn Dialect>>,
    faces: Vec<Served>,
    roots: HashMap<&'static str, FaceId>,
    open: Option<FaceId>,
    open_roots: Vec<&'static str>,
    names: Vec<&'static str>,
    problems: Problems,
}

impl Build {
    fn extension(&mut self, id: ExtensionId, extension: &dyn Extension) {
        let name = extension.name();
        let at = format!("extensions.{name}");
        if self.names.contains(&name) {
            self.problems.push(Problem::at(&at, "two extensions have this name"));
        }
        self.names.push(name);
        for dialect in extension.dialects() {
            self.dialect(&at, dialect);
        }
        let open = extension.open_faces();
        for face in extension.faces() {
            if open.contains(&face.name) {
                self.open_roots.extend(face.roots);
            }
            self.face(face, None);
        }
        for route in extension.routes() {
            match Pattern::parse(&route) {
                Ok(pattern) if pattern.root() == Some(TRANSPARENT) => {
                    let text = format!(
                        "pattern `{}` is on the transparent face, which nothing may alter",
                        route.pattern
                    );
                    self.problems.push(Problem::at(&at, text));
                }
                Ok(pattern) => self.entries.push(Entry { pattern, owner: Owner::Extension(id) }),
                Err(text) => self.problems.push(Problem::at(&at, text)),
            }
        }
    }

    fn dialect(&mut self, at: &str, dialect: Arc<dyn Dialect>) {
        if self.dialects.iter().any(|earlier| earlier.name() == dialect.name()) {
            self.problems
                .push(Problem::at(at, format!("the dialect {} is registered twice", dialect.name())));
        }
        let id = DialectId(self.dialects.len());
        self.face(dialect.face(), Some(id));
        for (position, (route, operation)) in dialect.operations().into_iter().enumerate() {
            match Pattern::parse(&route) {
                Ok(pattern) => {
                    self.entries.push(Entry { pattern, owner: Owner::Operation(id, operation, position) })
                }
                Err(text) => self.problems.push(Problem::at(at, text)),
            }
        }
        self.dialects.push(dialect);
    }

    fn face(&mut self, face: Face, dialect: Option<DialectId>) {
        let id = FaceId(self.faces.len());
        for root in face.roots {
            if self.roots.insert(root, id).is_some() {
                self.problems.push(Problem::at("", format!("two faces own the paths under /{root}")));
            }
        }
        if face.owns_the_rest == Rest::Owned && self.open.replace(id).is_some() {
            self.problems.push(Problem::at(
                "",
                format!("the face {} is the second to own all other paths", face.name),
            ));
        }
        self.faces.push(Served { face, dialect });
    }

    fn finish(mut self, reserved: &[&'static str]) -> Result<Router, Problems> {
        // A face that is planned but not built keeps its first segments, so that no resource grows into them.
        let nobody = FaceId(self.faces.len());
        for root in reserved {
            self.roots.entry(root).or_insert(nobody);
        }
        let mut tree = Tree::default();
        for (place, entry) in self.entries.iter().enumerate() {
            tree.add(place, entry.pattern.segments());
        }
        let none = Face { name: "none", roots: &[], owns_the_rest: Rest::NotOwned };
        self.faces.push(Served { face: none, dialect: None });
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let Self { entries, dialects, faces, roots, open, open_roots, .. } = self;
        Ok(Router(Arc::new(Compiled { tree, entries, dialects, faces, roots, open, open_roots })))
    }
}

#[cfg(test)]
mod tests;
