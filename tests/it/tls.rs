//! TLS on both sides: certificates that change, roots and client certificates of one's own.

use crate::support::{Authority, House, Origin, Wire, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\n\r\n";

fn answering(mut peer: crate::support::Peer) {
    while peer.request().is_some() {
        peer.wire.send(OK);
    }
}

#[test]
fn a_reload_shows_new_clients_a_new_certificate_and_disturbs_nobody() {
    let authority = Authority::new();
    let first = authority.issue("front");
    let origin = Origin::answering(OK);
    let house = House::with_tls(origin.address, &authority);
    let standpipe = house.serve();
    let client = authority.client("http/1.1");
    let (mut old, shown) = Wire::connect_tls(standpipe.address, client.clone());
    assert_eq!((old.ask(GET).status, &shown), (200, &first));

    let second = authority.issue("front");
    standpipe.signal("-HUP");
    until("the new certificate is shown", || {
        Wire::connect_tls(standpipe.address, client.clone()).1 == second
    });
    assert_eq!(old.ask(GET).status, 200, "the old connection goes on");

    authority.file("front.key", "this is no key");
    standpipe.signal("-HUP");
    until("the mistake is logged", || {
        let log = standpipe.log();
        log.contains("listener[0].tls.key") && log.contains("the old one stays")
    });
    let (mut new, shown) = Wire::connect_tls(standpipe.address, client);
    assert_eq!((new.ask(GET).status, shown), (200, second));
    assert_eq!(old.ask(GET).status, 200);
}

#[test]
fn a_provider_is_reached_with_its_own_roots_and_a_client_certificate() {
    let authority = Authority::new();
    authority.issue("client");
    let origin = Origin::with_tls(authority.server(), answering);
    let files = "tls = { roots = \"roots.pem\", certificate = \"client.pem\", key = \"client.key\" }\n";
    let standpipe = House::beside(&authority, origin.address, files).run();
    for _ in 0..2 {
        let answer = standpipe.get("/providers/alpha/x");
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"), "{}", standpipe.log());
    }
    assert_eq!(standpipe.post("/providers/alpha/x", "{}").status, 200);
}

#[test]
fn a_provider_that_cannot_be_trusted_gets_nothing_and_is_named() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let origin = Origin::with_tls(authority.server(), answering);
    for tls in ["", "tls = { roots = \"roots.pem\" }\n"] {
        let standpipe = House::beside(&stranger, origin.address, tls).run();
        let read = standpipe.get("/providers/alpha/x");
        assert_eq!((read.status, &read.json()["fault"]), (503, &"provider:alpha".into()), "{tls:?}");
        let write = standpipe.post("/providers/alpha/x", "secret");
        assert_eq!((write.status, &write.json()["fault"]), (502, &"provider:alpha".into()), "{tls:?}");
    }
    assert!(origin.said().is_empty());
}

#[test]
fn a_provider_that_wants_another_client_certificate_is_named() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    stranger.issue("client");
    std::fs::copy(authority.path("roots.pem"), stranger.path("roots.pem")).unwrap();
    let origin = Origin::with_tls(authority.server(), answering);
    for client in ["", ", certificate = \"client.pem\", key = \"client.key\""] {
        let tls = format!("tls = {{ roots = \"roots.pem\"{client} }}\n");
        let standpipe = House::beside(&stranger, origin.address, &tls).run();
        let answer = standpipe.get("/providers/alpha/x");
        assert!(matches!(answer.status, 502 | 503), "{answer:?}");
        assert_eq!(answer.json()["fault"], "provider:alpha");
    }
    assert!(origin.said().is_empty());
}

#[test]
fn a_reload_shows_providers_a_new_client_certificate_too() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.issue("client");
    stranger.issue("client");
    let origin = Origin::with_tls(authority.server(), answering);
    let tls = "tls = { roots = \"roots.pem\", certificate = \"client.pem\", key = \"client.key\" }\n";
    let house = House::beside(&authority, origin.address, tls);
    let copy = |from: &Authority, name: &str| {
        std::fs::copy(from.path(name), house.folder.path().join(name)).unwrap();
    };
    ["client.pem", "client.key"].into_iter().for_each(|name| copy(&stranger, name));
    let standpipe = house.serve();
    assert!(matches!(standpipe.get("/providers/alpha/x").status, 502 | 503));
    ["client.pem", "client.key"].into_iter().for_each(|name| copy(&authority, name));
    standpipe.signal("-HUP");
    until("the provider lets it in", || standpipe.get("/providers/alpha/x").status == 200);
}

#[test]
fn what_is_left_of_a_request_after_an_early_answer_leaves_through_tls_too() {
    const LARGE: usize = 8 << 20;
    let authority = Authority::new();
    authority.issue("client");
    let origin = Origin::with_tls(authority.server(), |mut peer| {
        peer.wire.upto("\r\n\r\n").unwrap();
        peer.wire.send(OK);
        until("the client has its answer", || peer.told());
        let heard = peer.wire.exactly(LARGE).map_or(0, |heard| heard.len());
        peer.say(&heard.to_string());
    });
    let files = "tls = { roots = \"roots.pem\", certificate = \"client.pem\", key = \"client.key\" }\n";
    let standpipe = House::beside(&authority, origin.address, files).run();
    let mut client = Wire::connect(standpipe.address);
    client.send(format!("PUT /providers/alpha/x HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n"));
    assert!(client.message().unwrap().ends_with("ok"));
    origin.tell();
    client.send("x".repeat(LARGE));
    assert_eq!(origin.first(), LARGE.to_string());
}
