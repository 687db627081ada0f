//! All patterns as one tree of segments: which of them match a path, in one walk along it.

use std::cell::RefCell;

use ahash::HashMap;
use memchr::memchr;

use super::pattern::Segment;

/// What patterns have behind the segments that lead here. A pattern is named by its place among all.
#[derive(Default)]
pub(super) struct Tree {
    literals: HashMap<String, Tree>,
    parameter: Option<Box<Tree>>,
    /// Patterns that end here.
    ends: Vec<usize>,
    /// Patterns whose rest begins here.
    rests: Vec<usize>,
}

thread_local! {
    /// What the last search on this core found; its memory serves the next.
    static FOUND: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

impl Tree {
    /// Puts a pattern in.
    pub(super) fn add(&mut self, place: usize, segments: &[Segment]) {
        match segments.split_first() {
            None => self.ends.push(place),
            Some((Segment::Rest(_), _)) => self.rests.push(place),
            Some((Segment::Literal(word), behind)) => {
                self.literals.entry(word.clone()).or_default().add(place, behind);
            }
            Some((Segment::One(_), behind)) => self.parameter.get_or_insert_default().add(place, behind),
        }
    }

    /// Calls `each` with the place of every pattern that matches, in order.
    pub(super) fn each_match(&self, path: &str, each: impl FnMut(usize)) {
        let Some(inside) = path.strip_prefix('/') else { return };
        FOUND.with_borrow_mut(|found| {
            found.clear();
            self.walk(Some(inside).filter(|inside| !inside.is_empty()), found);
            found.sort_unstable();
            found.iter().copied().for_each(each);
        });
    }

    /// Goes along what is left of a path; `None` at its end.
    fn walk(&self, left: Option<&str>, found: &mut Vec<usize>) {
        let Some(left) = left else { return found.extend_from_slice(&self.ends) };
        if left.is_empty() {
            return;
        }
        found.extend_from_slice(&self.rests);
        let (segment, behind) = match memchr(b'/', left.as_bytes()) {
            Some(end) => (left.get(..end).unwrap_or_default(), left.get(end + 1..)),
            None => (left, None),
        };
        if segment.is_empty() {
            return;
        }
        if let Some(literal) = self.literals.get(segment) {
            literal.walk(behind, found);
        }
        if let Some(parameter) = &self.parameter {
            parameter.walk(behind, found);
        }
    }
}
