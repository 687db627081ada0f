//! The fields of a credential as the bytes that are sealed.

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::store::SecretBytes;

/// `name`, 0, `value`, 0 for each field; neither can hold a zero byte.
pub(super) fn write(headers: &[(HeaderName, HeaderValue)]) -> SecretBytes {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            bytes.extend_from_slice(part);
            bytes.push(0);
        }
    }
    bytes
}

/// The fields again, marked sensitive; `None` when these bytes are none.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut headers = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let mut value = HeaderValue::from_bytes(value).ok()?;
        value.set_sensitive(true);
        headers.push((HeaderName::from_bytes(name).ok()?, value));
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_as_they_were() {
        let field = |name: &'static str, value: &[u8]| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        let fields =
            vec![field("authorization", b"Bearer a.b.c"), field("x-auth-token", b""), field("x", b"\xe9")];
        assert_eq!(read(&write(&fields)).unwrap(), fields);
        assert!(read(&write(&fields)).unwrap().iter().all(|(_, value)| value.is_sensitive()));
        assert_eq!(read(b"").unwrap(), []);
        assert!(read(b"na me\0value\0").is_none());
    }
}
