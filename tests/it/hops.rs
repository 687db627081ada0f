//! What is for one connection only, and what a proxy adds.

use crate::support::{House, Origin, Wire};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn fields_that_connection_names_end_here_in_both_directions() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: X-Hop, keep-alive\r\nx-hop: 1\r\n\
        keep-alive: timeout=5\r\nproxy-authenticate: Basic\r\nproxy-connection: x\r\nvia: 1.0 other\r\n\
        set-cookie: a=1\r\nset-cookie: b=2\r\nx-kept: a  b\r\n\r\nok";
    let origin = Origin::answering(answer);
    let standpipe = House::before(origin.address, "", "").run();
    let headers = [
        ("connection", "x-Mine, TE"),
        ("x-mine", "1"),
        ("te", "trailers, gzip"),
        ("keep-alive", "9"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "x"),
        ("via", "1.0 first"),
        ("x-kept", "1"),
        ("x-kept", "2"),
    ];
    let answer = standpipe.call("GET", "/providers/alpha/x", &headers, "");
    for gone in ["x-hop", "keep-alive", "proxy-authenticate", "proxy-connection"] {
        assert!(answer.header(gone).is_none(), "{gone}: {}", answer.head);
    }
    assert!(answer.head.contains("set-cookie: a=1\r\nset-cookie: b=2"), "{}", answer.head);
    assert!(answer.head.contains("via: 1.0 other, 1.1 standpipe-"), "{}", answer.head);
    assert_eq!(answer.header("x-kept"), Some("a  b"));
    let request = origin.first().to_lowercase();
    for gone in ["x-mine", "keep-alive", "proxy-", "gzip"] {
        assert!(!request.contains(gone), "{gone}: {request}");
    }
    assert!(request.contains("x-kept: 1\r\n") && request.contains("x-kept: 2\r\n"), "{request}");
    assert!(request.contains("via: 1.0 first, 1.1 standpipe-"), "{request}");
}

#[test]
fn only_a_trusted_proxy_speaks_for_its_callers() {
    let origin = Origin::answering(OK);
    let said = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=6.6.6.6"),
    ];
    for (trusted, expected) in [
        (
            "",
            ["x-forwarded-for: 127.0.0.1\r\n", "x-forwarded-proto: http\r\n", "x-forwarded-host: 127.0.0.1:"],
        ),
        (
            "trusted_proxies = [\"127.0.0.0/8\"]\n",
            [
                "x-forwarded-for: 6.6.6.6, 127.0.0.1\r\n",
                "x-forwarded-proto: https\r\n",
                "x-forwarded-host: shop.example\r\n",
            ],
        ),
    ] {
        let standpipe = House::before(origin.address, "", trusted).run();
        standpipe.call("GET", "/providers/alpha/x", &said, "");
        let request = origin.said().pop().unwrap().to_lowercase();
        for line in expected {
            assert!(request.contains(line), "{line} in {request}");
        }
        assert_eq!(request.contains("forwarded: for=6.6.6.6"), !trusted.is_empty(), "{request}");
    }
}

#[test]
fn paths_and_queries_reach_the_provider_byte_for_byte_behind_its_prefix() {
    let origin = Origin::answering(OK);
    let house = House::before(origin.address, "", "");
    let standpipe = house.serve();
    let mut client = Wire::connect(standpipe.address);
    for target in [
        "/",
        "/a%2Fb/%E2%82%AC;v=1//c:d@e",
        "/x?",
        "/x?a=%zz&&=;:@/?b[]=1|2^{3}",
        "/x?..=../..&%2e%2e",
        "/.well-known/...",
    ] {
        let answer = client.ask(&format!("GET /providers/alpha{target} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert_eq!(answer.status, 200, "{target}");
        let request = origin.said().pop().unwrap();
        assert!(request.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{target}: {request}");
    }
    assert_eq!(origin.connections(), 1, "one connection serves them all");
}
