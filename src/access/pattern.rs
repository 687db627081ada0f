//! The patterns of rules: an exact text, or one in which each `*` stands for any text, also none.

/// One pattern, taken apart once so that matching allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    head: Box<str>,
    /// What stands between two `*`.
    middle: Box<[Box<str>]>,
    /// What stands behind the last `*`; `None`: there is no `*`, and the text is `head`.
    tail: Option<Box<str>>,
}

impl Pattern {
    /// Takes a pattern apart.
    pub fn new(text: &str) -> Self {
        let mut parts = text.split('*').map(Box::from);
        let head = parts.next().unwrap_or_default();
        let mut middle: Vec<Box<str>> = parts.collect();
        let tail = middle.pop();
        middle.retain(|part| !part.is_empty());
        Self { head, middle: middle.into(), tail }
    }

    /// Whether a text is one of those it stands for. Linear in the text for each part of the pattern.
    pub fn matches(&self, text: &str) -> bool {
        let Some(tail) = &self.tail else { return text == &*self.head };
        let Some(mut rest) = text.strip_prefix(&*self.head) else { return false };
        for part in &self.middle {
            // The first occurrence leaves the most for the parts behind it.
            let Some((_, behind)) = rest.split_once(&**part) else { return false };
            rest = behind;
        }
        rest.ends_with(&**tail)
    }

    fn is_everything(&self) -> bool {
        self.head.is_empty() && self.middle.is_empty() && self.tail.as_deref() == Some("")
    }
}

/// The patterns of one key of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patterns {
    /// The key is left out, or holds `*`: it does not matter what stands there, or whether anything does.
    Any,
    /// One of these.
    Some(Box<[Pattern]>),
}

impl Patterns {
    /// Takes a key's patterns apart; `None`: the key is left out.
    pub fn new(texts: Option<&[String]>) -> Self {
        let Some(texts) = texts else { return Self::Any };
        let patterns: Box<[Pattern]> = texts.iter().map(|text| Pattern::new(text)).collect();
        if patterns.iter().any(Pattern::is_everything) { Self::Any } else { Self::Some(patterns) }
    }

    /// Whether a text that may be absent is one of those.
    pub fn take(&self, text: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Some(patterns) => {
                text.is_some_and(|text| patterns.iter().any(|pattern| pattern.matches(text)))
            }
        }
    }

    /// Whether one of several texts is one of those.
    pub fn take_one_of(&self, texts: &[String]) -> bool {
        match self {
            Self::Any => true,
            Self::Some(patterns) => {
                texts.iter().any(|text| patterns.iter().any(|pattern| pattern.matches(text)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_nothing_else_does() {
        let good = [
            ("db", "db"),
            ("*", ""),
            ("*", "anything"),
            ("db-*", "db-"),
            ("*-db", "my-db"),
            ("a*c", "abc"),
            ("a*b*a", "aba"),
            ("a**b", "ab"),
            ("basic:*@*.example", "basic:ann@x.example"),
            ("*ab*ab", "xabyabab"),
        ];
        for (pattern, text) in good {
            assert!(Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
        let bad = [
            ("db", "db2"),
            ("db", "Db"),
            ("d.", "db"),
            ("db-*", "db"),
            ("aba*aba", "aba"),
            ("a*b*a", "aa"),
            ("ab*b", "ab"),
            ("", "x"),
        ];
        for (pattern, text) in bad {
            assert!(!Pattern::new(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_list_takes_an_absent_text_only_if_it_takes_everything() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert!(Patterns::new(None).take(None));
        assert!(Patterns::new(Some(&list(&["blue", "*"]))).take(None));
        assert!(!Patterns::new(Some(&list(&["blue"]))).take(None));
        assert!(!Patterns::new(Some(&list(&["b*"]))).take_one_of(&[]));
        assert!(Patterns::new(Some(&list(&["b*"]))).take_one_of(&list(&["ops", "blue"])));
    }
}
