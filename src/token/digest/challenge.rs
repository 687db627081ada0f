//! A challenge (RFC 7616, section 3.3) and the answer to it (section 3.4).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_lc_rs::digest::{SHA256, SHA512_256, digest};
use http::{HeaderValue, Method};
use md5::{Digest as _, Md5};

/// What a provider asks to be proven.
pub(super) struct Challenge {
    pub(super) realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    session: Session,
    /// Whether the last answer was refused only because its nonce had run out.
    pub(super) stale: bool,
    /// Answers so far.
    count: AtomicU32,
}

/// Weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Algorithm {
    Md5,
    Sha256,
    Sha512,
}

/// Whether the secret is bound to the nonce (`-sess`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Unbound,
    Bound,
}

impl Algorithm {
    fn parse(name: &str) -> Option<(Self, Session)> {
        let name = name.to_ascii_uppercase();
        let (name, session) = match name.strip_suffix("-SESS") {
            Some(name) => (name, Session::Bound),
            None => (name.as_str(), Session::Unbound),
        };
        let algorithm = match name {
            "MD5" => Self::Md5,
            "SHA-256" => Self::Sha256,
            "SHA-512-256" => Self::Sha512,
            _ => return None,
        };
        Some((algorithm, session))
    }

    fn name(self, session: Session) -> String {
        let name = match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512-256",
        };
        if session == Session::Bound { format!("{name}-sess") } else { name.to_owned() }
    }

    fn hash(self, text: &str) -> String {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::with_capacity(64), |mut hex, byte| {
                let _infallible = write!(hex, "{byte:02x}");
                hex
            })
        };
        match self {
            Self::Md5 => hex(&Md5::digest(text.as_bytes())),
            Self::Sha256 => hex(digest(&SHA256, text.as_bytes()).as_ref()),
            Self::Sha512 => hex(digest(&SHA512_256, text.as_bytes()).as_ref()),
        }
    }
}

impl Challenge {
    /// The strongest challenge that can be answered.
    pub(super) fn best<'a>(fields: impl Iterator<Item = &'a str>) -> Option<Self> {
        fields.flat_map(challenges).filter_map(|found| Self::read(&found)).max_by_key(|found| found.algorithm)
    }

    fn read((scheme, parameters): &(String, Vec<(String, String)>)) -> Option<Self> {
        let get = |name: &str| {
            let mut all = parameters.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            all.next().map(|(_, value)| value.clone())
        };
        let offers_auth = get("qop")?.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth"));
        if !scheme.eq_ignore_ascii_case("digest") || !offers_auth {
            return None;
        }
        let (algorithm, session) = Algorithm::parse(get("algorithm").as_deref().unwrap_or("MD5"))?;
        Some(Self {
            realm: get("realm")?,
            nonce: get("nonce")?,
            opaque: get("opaque"),
            algorithm,
            session,
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            count: AtomicU32::new(0),
        })
    }

    /// Whether a field answers this challenge and not an earlier one.
    pub(super) fn is_answered_by(&self, field: &HeaderValue) -> bool {
        field.to_str().is_ok_and(|field| field.contains(&format!("nonce={}", quoted(&self.nonce))))
    }

    /// Whether more than one request has used its nonce: the first would have been refused for a wrong password.
    pub(super) fn was_good(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 1
    }

    /// The field that answers it; `secret` is `username:realm:password`.
    pub(super) fn answer(&self, username: &str, secret: &str, method: &Method, target: &str) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let cnonce = format!("{:032x}", fastrand::u128(..));
        self.answer_with(username, secret, method, target, (count, &cnonce))
    }

    fn answer_with(
        &self,
        username: &str,
        secret: &str,
        method: &Method,
        target: &str,
        (count, cnonce): (u32, &str),
    ) -> String {
        let hash = |text: &str| self.algorithm.hash(text);
        let Self { realm, nonce, .. } = self;
        let own = match self.session {
            Session::Unbound => hash(secret),
            Session::Bound => hash(&format!("{}:{nonce}:{cnonce}", hash(secret))),
        };
        let asked = hash(&format!("{method}:{target}"));
        let response = hash(&format!("{own}:{nonce}:{count:08x}:{cnonce}:auth:{asked}"));
        let mut field = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, algorithm={}, qop=auth, nc={count:08x}, \
             cnonce=\"{cnonce}\", response=\"{response}\"",
            quoted(username),
            quoted(realm),
            quoted(nonce),
            quoted(target),
            self.algorithm.name(self.session),
        );
        if let Some(opaque) = &self.opaque {
            field.push_str(", opaque=");
            field.push_str(&quoted(opaque));
        }
        field
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

type Parsed = (String, Vec<(String, String)>);

/// The challenges of a field (RFC 9110, section 11.6.1): schemes and parameters stand in one list with commas, so that
/// a word is a scheme when no `=` follows it. What cannot be read ends the list.
fn challenges(field: &str) -> Vec<Parsed> {
    let mut all: Vec<Parsed> = Vec::new();
    let mut rest = field;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find(['=', ',', ' ', '\t', '"']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if word.is_empty() {
            return all;
        }
        match behind.trim_start_matches([' ', '\t']).strip_prefix('=') {
            Some(value) => {
                let Some((value, behind)) = value_of(value.trim_start_matches([' ', '\t'])) else {
                    return all;
                };
                let Some((_, parameters)) = all.last_mut() else { return all };
                parameters.push((word.to_owned(), value));
                rest = behind;
            }
            None => {
                all.push((word.to_owned(), Vec::new()));
                rest = behind;
            }
        }
    }
}

/// A token or a quoted string, and what stands behind it.
fn value_of(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [&str; 2] = [
        r#"Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
        r#"Basic realm="x, \"y\"", Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
    ];
    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    fn answer(challenge: &Challenge) -> String {
        let secret = "Mufasa:http-auth@example.org:Circle of Life";
        challenge.answer_with("Mufasa", secret, &Method::GET, "/dir/index.html", (1, CNONCE))
    }

    /// RFC 7616, section 3.9.1.
    #[test]
    fn the_answers_of_the_specification_come_out() {
        let sha256 = Challenge::best(BOTH.into_iter()).unwrap();
        assert_eq!(sha256.algorithm, Algorithm::Sha256, "the stronger one is taken");
        let field = answer(&sha256);
        assert!(
            field.contains("753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            "{field}"
        );
        let field = answer(&Challenge::best(BOTH.into_iter().skip(1)).unwrap());
        assert!(field.contains("response=\"8ca523f5e9506fed4657c9700eebdbec\""), "{field}");
        assert!(field.contains("opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""), "{field}");
        assert!(field.contains("nc=00000001") && field.contains("qop=auth,"), "{field}");
    }

    #[test]
    fn what_cannot_be_answered_or_read_is_no_challenge() {
        for field in [
            "",
            "Digest",
            "Basic realm=\"a\"",
            "Digest realm=\"a\", nonce=\"b\"",
            "Digest realm=\"a\", nonce=\"b\", qop=\"auth-int\"",
            "Digest realm=\"a\", nonce=\"b\", qop=\"auth\", algorithm=SHA-1",
            "Digest realm=\"a, nonce=\"b\", qop=\"auth\"",
            "realm=\"a\", nonce=\"b\", qop=\"auth\"",
            "=,=\"\\",
        ] {
            assert!(Challenge::best([field].into_iter()).is_none(), "{field}");
        }
    }

    #[test]
    fn each_use_of_a_nonce_is_counted_and_a_bound_session_differs() {
        let plain = "Digest realm=\"a\", nonce=\"b\", qop=auth, stale=TRUE";
        let challenge = Challenge::best([plain].into_iter()).unwrap();
        assert!(challenge.stale && !challenge.was_good());
        let ask = || challenge.answer("u", "u:a:p", &Method::GET, "/");
        assert!(ask().contains("nc=00000001") && ask().contains("nc=00000002"));
        assert!(challenge.was_good());
        let bound =
            Challenge::best(["Digest realm=\"a\", nonce=\"b\", qop=auth, algorithm=MD5-sess"].into_iter());
        assert_ne!(answer(&bound.unwrap()), answer(&challenge));
    }
}
