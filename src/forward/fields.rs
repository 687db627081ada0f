//! Which fields are for one hop only, and which may not follow a body.

use http::HeaderName;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, FORWARDED, HOST, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};

/// How many fields are for one connection only.
pub(super) const HOP_BY_HOP_FIELDS: usize = 9;
/// What is for one connection only. `Trailer` is not among them: it announces what follows the body, and the body is
/// forwarded whole.
pub(super) static HOP_BY_HOP: [HeaderName; HOP_BY_HOP_FIELDS] = [
    CONNECTION,
    TRANSFER_ENCODING,
    TE,
    UPGRADE,
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Whether a field may stand behind a body. What frames, routes or vouches for a message may not (RFC 9110, section 6.5.1):
/// whoever merges trailers into the head would believe it.
pub(super) fn may_follow(name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 14] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        FORWARDED,
        HOST,
        MAX_FORWARDS,
        SET_COOKIE,
        TE,
        TRAILER,
        VIA,
    ];
    let is_ours = |name: &str| name.starts_with("standpipe-") || name.starts_with("x-forwarded-");
    !HOP_BY_HOP.contains(name) && !NEVER.contains(name) && !is_ours(name.as_str())
}
