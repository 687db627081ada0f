//! Why requests were refused before anybody saw them, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What kind of rule a request broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The grammar of a head (RFC 9112, sections 2 to 5).
    Syntax,
    /// The length of a body is given twice, or in a way that can be read differently (section 6).
    Framing,
    /// A chunk or a trailer (section 7.1).
    Chunk,
    /// More bytes of a head than `limits.header_bytes`.
    TooLong,
    /// More fields than `limits.header_count`.
    TooMany,
    /// The head took longer than `limits.header_read`.
    TooSlow,
    /// The target, the host, or something that is not forwarded.
    Request,
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::Syntax,
        Self::Framing,
        Self::Chunk,
        Self::TooLong,
        Self::TooMany,
        Self::TooSlow,
        Self::Request,
    ];

    /// The word in the metric's label.
    const fn word(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Framing => "framing",
            Self::Chunk => "chunk",
            Self::TooLong => "too_long",
            Self::TooMany => "too_many_fields",
            Self::TooSlow => "too_slow",
            Self::Request => "request",
        }
    }
}

/// What may not be passed on: the kind of rule, and the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    /// For the log; it never repeats what the client sent.
    pub(super) rule: &'static str,
}

impl Refusal {
    pub(super) const TOO_LONG: Self =
        Self { reason: Reason::TooLong, rule: "a head or trailers are longer than limits.header_bytes" };
    pub(super) const TOO_MANY: Self = Self {
        reason: Reason::TooMany,
        rule: "a head or trailers have more fields than limits.header_count",
    };

    pub(super) const fn syntax(rule: &'static str) -> Self {
        Self { reason: Reason::Syntax, rule }
    }

    pub(super) const fn framing(rule: &'static str) -> Self {
        Self { reason: Reason::Framing, rule }
    }

    pub(super) const fn chunk(rule: &'static str) -> Self {
        Self { reason: Reason::Chunk, rule }
    }
}

/// One count per reason.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; Reason::ALL.len()]);

impl Counts {
    pub(super) fn add(&self, reason: Reason) {
        if let Some(count) = self.0.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.iter().zip(&self.0).map(|(reason, count)| (reason.word(), count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_count() {
        let counts = Counts::default();
        for (times, reason) in Reason::ALL.iter().enumerate() {
            (0..times).for_each(|_| counts.add(*reason));
        }
        let counted: Vec<u64> = counts.each().map(|(_, count)| count).collect();
        assert_eq!(counted, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(counts.each().last(), Some((Reason::Request.word(), 6)));
    }
}
