//! HTTP done right, seen from a client that sends raw bytes.

use crate::support::{Answer, House, Scripted, exchange};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\nstandpipe-secret: 1\r\nx-kept: yes\r\n\r\nok";

#[test]
fn what_is_for_one_hop_stays_there_and_the_rest_arrives_byte_for_byte() {
    let provider = Scripted::answering(OK);
    let front = House::in_front_of(&[("alpha", provider.address, "\"db\"")]);
    let standpipe = front.serve();
    let headers = [
        ("authorization", "Basic Zm9vOmJhcg=="),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-odd", "a  b"),
        ("te", "gzip"),
    ];
    let answer = standpipe.call("GET", "/providers/alpha/a%2Fb/c:d?x=&y&z=%20+", &headers, "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert!(answer.header("standpipe-secret").is_none() && answer.header("x-kept") == Some("yes"));
    let request = provider.received().pop().unwrap();
    assert!(request.starts_with("GET /a%2Fb/c:d?x=&y&z=%20+ HTTP/1.1\r\n"), "{request}");
    let request = request.to_lowercase();
    assert!(
        !request.contains("authorization") && !request.contains("6.6.6.6") && !request.contains("te: gzip"),
        "{request}"
    );
    assert!(
        request.contains(&format!("host: {}", provider.address)) && request.contains("x-odd: a  b"),
        "{request}"
    );
    assert!(
        request.contains("x-forwarded-for: 127.0.0.1") && request.contains("via: 1.1 standpipe-"),
        "{request}"
    );
}

#[test]
fn paths_that_could_escape_are_refused() {
    let provider = Scripted::answering(OK);
    let front = House::in_front_of(&[("alpha", provider.address, "\"db\"")]);
    let standpipe = front.serve();
    for path in [
        "/providers/alpha/../x",
        "/providers/alpha/%2e%2e/x",
        "/providers/alpha/..%2f..%2fx",
        "/db/a%5c..%5cb",
        "/%6Fffers",
    ] {
        assert_eq!(standpipe.get(path).status, 400, "{path}");
    }
    assert!(provider.received().is_empty());
}

#[test]
fn a_request_that_comes_back_is_stopped() {
    let front = House::new("threads = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\n");
    let standpipe = front.serve();
    let looping = House::in_front_of(&[("alpha", standpipe.address, "\"db\"")]);
    let config = std::fs::read_to_string(&looping.config).unwrap();
    std::fs::write(&front.config, config).unwrap();
    standpipe.signal("-HUP");
    crate::support::until("the loop is closed", || {
        standpipe.get("/providers/alpha/providers/alpha/x").status == 508
    });
}

#[test]
fn smuggling_never_reaches_a_provider() {
    let provider = Scripted::answering(OK);
    let front = House::in_front_of(&[("alpha", provider.address, "\"db\"")]);
    let standpipe = front.serve();
    let post = "POST /providers/alpha/x HTTP/1.1\r\nhost: a\r\n";
    for (what, rest) in [
        ("two lengths", "content-length: 2\r\ncontent-length: 3\r\n\r\nabc"),
        ("equal lengths", "content-length: 2\r\ncontent-length: 2\r\n\r\nab"),
        ("length and coding", "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("coding and length", "transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n"),
        ("two codings", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("odd coding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("signed length", "content-length: +2\r\n\r\nab"),
        ("list of lengths", "content-length: 2, 2\r\n\r\nab"),
        ("bare LF", "x: y\ncontent-length: 0\r\n\r\n"),
        ("bare LF at the end", "x: y\r\n\n"),
        ("NUL", "x: a\0b\r\n\r\n"),
        ("obs-fold", "x: a\r\n b\r\n\r\n"),
        ("space before colon", "content-length : 0\r\n\r\n"),
        ("space before name", " content-length: 0\r\n\r\n"),
        ("two hosts", "host: b\r\n\r\n"),
    ] {
        let answer = exchange(standpipe.address, format!("{post}{rest}").as_bytes());
        let status = answer.as_deref().and_then(Answer::parse).map(|answer| answer.status);
        assert!(status.is_none_or(|status| status == 400 || status == 501), "{what}: {status:?}");
        assert!(provider.received().is_empty(), "{what}: {:?}", provider.received());
    }
}

/// `foo:bar`, hashed with parameters that cost nothing.
const CALLER: &str = "[[caller]]\nname = \"foo\"\npassword_hash = \"HASH\"\n";

fn with_callers(providers: &str) -> House {
    let params = argon2::Params::new(8, 1, 1, None).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash = argon2::PasswordHasher::hash_password_with_salt(&argon2, b"bar", b"0123456789abcdef").unwrap();
    let listener = "threads = 1\n[[listener]]\naddress = \"127.0.0.1:0\"\ncallers = [\"basic\"]\n";
    House::new(&format!("{listener}{}{providers}", CALLER.replace("HASH", &hash.to_string())))
}

#[test]
fn a_bearer_of_a_peer_reaches_the_broker_of_a_single_pipe_and_nothing_else() {
    let provider = Scripted::answering(OK);
    let remote = format!(
        "[[provider]]\nname = \"alpha\"\ndialect = \"cloudpipe\"\nurl = \"http://{}\"\n",
        provider.address
    );
    let front = with_callers(&remote);
    let standpipe = front.serve();
    let bearer = [("authorization", "Bearer somebodys")];
    assert_eq!(standpipe.call("PATCH", "/db/pipes/p", &bearer, "{}").status, 200);
    assert!(provider.received().pop().unwrap().contains("authorization: Bearer somebodys"));
    for path in ["/db/pipes", "/db/offers/o", "/pipes", "/nothing/here"] {
        let refused = standpipe.call("GET", path, &bearer, "");
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.header("www-authenticate").is_some());
    }
    assert_eq!(standpipe.get("/db/pipes/p").status, 401);
    assert_eq!(
        standpipe.call("GET", "/db/pipes/p", &[("authorization", "Basic Zm9vOmJhcg==")], "").status,
        200
    );
    assert!(!provider.received().pop().unwrap().to_lowercase().contains("authorization"));
    assert_eq!(provider.received().len(), 2);
}

#[test]
fn a_bearer_that_nobody_checks_opens_no_pipe_of_the_built_in_broker() {
    let inside = "[[provider]]\nname = \"apps\"\ndialect = \"cloudpipe\"\n[provider.broker.resource.db]\ndata = { URI = \"secret\" }\n";
    let front = with_callers(inside);
    let standpipe = front.serve();
    let basic = [("authorization", "Basic Zm9vOmJhcg=="), ("content-type", "application/json")];
    assert_eq!(standpipe.call("POST", "/db/pipes", &basic, r#"{"id":"p"}"#).status, 201);
    for method in ["GET", "PATCH", "DELETE"] {
        let answer = standpipe.call(method, "/db/pipes/p", &[("authorization", "Bearer anything")], "");
        assert!(answer.status == 401 && !answer.body.contains("secret"), "{answer:?}");
    }
    assert_eq!(
        standpipe.call("GET", "/providers/apps/db/pipes/p", &[("authorization", "Bearer x")], "").status,
        401
    );
}
