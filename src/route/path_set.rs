//! All patterns as one automaton: which of them match a path, in one pass over it.
//!
//! This is `regex::RegexSet` without its two allocations per search.

use std::cell::RefCell;

use regex_automata::meta::Regex;
use regex_automata::{Input, MatchKind, PatternSet};

/// Compiled patterns, each anchored at both ends.
pub(super) struct PathSet(Regex);

thread_local! {
    /// What the last search on this core found; its memory serves the next.
    static FOUND: RefCell<PatternSet> = RefCell::new(PatternSet::new(0));
}

impl PathSet {
    /// Compiles the patterns; a match is named by its place among them.
    ///
    /// # Errors
    /// One is no regular expression, or all together are too large.
    pub(super) fn compile(patterns: &[String]) -> Result<Self, String> {
        let all = Regex::config().match_kind(MatchKind::All);
        Regex::builder().configure(all).build_many(patterns).map(Self).map_err(|error| error.to_string())
    }

    /// Calls `each` with the place of every pattern that matches, in order.
    pub(super) fn each_match(&self, path: &str, each: impl FnMut(usize)) {
        FOUND.with_borrow_mut(|found| {
            if found.capacity() == self.0.pattern_len() {
                found.clear();
            } else {
                *found = PatternSet::new(self.0.pattern_len());
            }
            self.0.which_overlapping_matches(&Input::new(path), found);
            // The set is a list of all patterns; there is nothing to see behind the last that matches.
            found.iter().take(found.len()).map(|pattern| pattern.as_usize()).for_each(each);
        });
    }
}
