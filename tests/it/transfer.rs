//! Bodies: framing, trailers, what has none, what breaks.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::support::{House, Origin, Wire, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn trailers_travel_both_ways() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    let standpipe = House::before(origin.address, "", "").run();
    let mut client = Wire::connect(standpipe.address);
    client.send(
        "PUT /providers/alpha/x HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-mine\r\n\
        transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-mine: 9\r\n\r\n",
    );
    let answer = client.message().unwrap();
    assert!(answer.ends_with("\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    assert!(answer.contains("trailer: x-sum\r\n"), "{answer}");
    let request = origin.first();
    assert!(request.ends_with("\r\n\r\n2\r\nhi\r\n0\r\nx-mine: 9\r\n\r\n"), "{request}");
    assert!(request.contains("te: trailers\r\n"), "{request}");
}

#[test]
fn answers_without_a_body_keep_their_length_and_their_connection() {
    let origin = Origin::new(|mut peer| {
        while let Some(request) = peer.request() {
            peer.wire.send(match request.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\nx-kept: 1\r\n\r\n",
                Some("/304") => "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 5\r\n\r\n",
                Some("/chunked") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                Some("/head") => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
                _ => OK,
            });
        }
    });
    let standpipe = House::before(origin.address, "", "").run();
    let mut client = Wire::connect(standpipe.address);
    for (method, path, line) in [
        ("HEAD", "/head", "content-length: 5"),
        ("HEAD", "/chunked", "HTTP/1.1 200 OK"),
        ("GET", "/204", "x-kept: 1"),
        ("GET", "/304", "etag: \"a\""),
        ("HEAD", "/304", "content-length: 5"),
    ] {
        client.send(format!("{method} /providers/alpha{path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let head = client.upto("\r\n\r\n").unwrap();
        assert!(head.contains(line), "{method} {path}: {head}");
        // The next answer begins right behind.
        let next = client.ask("GET /providers/alpha/ok HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!((next.status, next.body.as_str()), (200, "ok"), "{method} {path}: {head}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_that_expects_100_gets_it_when_a_provider_is_there_for_its_body() {
    let origin = Origin::answering(OK);
    let standpipe = House::before(origin.address, "", "").run();
    let head = |path: &str| {
        format!("PUT {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
    };
    let mut client = Wire::connect(standpipe.address);
    client.send(head("/providers/alpha/x"));
    assert_eq!(client.upto("\r\n\r\n").unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    until("it is connected, before there is a body", || origin.connections() == 1);
    client.send("body");
    assert!(client.message().unwrap().starts_with("HTTP/1.1 200 OK"));
    let request = origin.first();
    assert!(request.ends_with("body") && !request.to_lowercase().contains("expect"), "{request}");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let alone = House::before(nobody, "", "").run();
    for (standpipe, path, status) in [
        (&standpipe, "/providers/beta/x", 404),
        (&standpipe, "/providers/alpha/../x", 400),
        (&alone, "/providers/alpha/x", 502),
    ] {
        let mut client = Wire::connect(standpipe.address);
        client.send(head(path));
        let answer = client.message().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    assert_eq!(origin.said().len(), 1);
}

#[test]
fn a_body_that_breaks_off_at_the_provider_breaks_off_at_the_client() {
    for (head, part) in [
        ("content-length: 100\r\n\r\n", "only this"),
        ("transfer-encoding: chunked\r\n\r\n", "9\r\nonly this\r\n"),
        ("transfer-encoding: chunked\r\n\r\n", "9\r\nonly this\r\n5\r\nab"),
    ] {
        let origin = Origin::new(move |mut peer| {
            peer.request();
            peer.wire.send(format!("HTTP/1.1 200 OK\r\n{head}{part}"));
        });
        let standpipe = House::before(origin.address, "", "").run();
        let mut client = Wire::connect(standpipe.address);
        client.send("GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(client.upto("only this").unwrap().starts_with("HTTP/1.1 200 OK"));
        let rest = client.rest();
        assert!(!rest.contains("0\r\n\r\n") && rest.len() < 20, "{rest}");
    }
}

#[test]
fn a_provider_that_falls_silent_within_its_body_is_broken_too() {
    let origin = Origin::new(|mut peer| {
        peer.request();
        peer.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this");
        let rest = peer.wire.rest();
        peer.say(&format!("then {rest}"));
    });
    let standpipe = House::before(origin.address, "idle_timeout = \"200ms\"\n", "").run();
    let mut client = Wire::connect(standpipe.address);
    client.send("GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.upto("only this").unwrap().starts_with("HTTP/1.1 200 OK"));
    assert_eq!(client.rest(), "");
    origin.wait_for(2);
    assert_eq!(origin.said()[1], "then ");
}

#[test]
fn a_client_that_leaves_takes_its_read_along() {
    let origin = Origin::new(|mut peer| {
        peer.request();
        let rest = peer.wire.rest();
        peer.say(&format!("then {rest}"));
    });
    let standpipe = House::before(origin.address, "", "").run();
    let mut client = Wire::connect(standpipe.address);
    client.send("GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\n\r\n");
    origin.wait_for(1);
    drop(client);
    origin.wait_for(2);
    assert_eq!(origin.said()[1], "then ");
}

#[test]
fn a_client_that_leaves_does_not_take_its_creation_along() {
    let (left, has_left) = std::sync::mpsc::channel::<()>();
    let has_left = std::sync::Mutex::new(has_left);
    let origin = Origin::new(move |mut peer| {
        while let Some(request) = peer.request() {
            if request.starts_with("POST") {
                has_left.lock().unwrap().recv().unwrap();
                peer.wire.send("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}");
            } else {
                peer.wire.send(OK);
            }
        }
    });
    let house = House::before(origin.address, "resources = [\"db\"]\n", "");
    let standpipe = house.serve();
    let mut client = Wire::connect(standpipe.address);
    let body = r#"{"id":"web"}"#;
    client
        .send(format!("POST /db/pipes HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    let request = origin.first();
    assert!(request.ends_with(body), "{request}");
    drop(client);
    crate::support::until("the client is gone", || house.figure("standpipe_connections") == 0.0);
    left.send(()).unwrap();
    crate::support::until("the creation is confirmed", || {
        let (code, shown) = house.command(&["mappings", "show", "pipe", "web", "--parent", "db"]);
        code == 0 && shown.contains("live")
    });
    assert_eq!(origin.said().len(), 1);
}

/// A broker that stands alone, whose source says that it began, and ends once a file `go` lies beside it.
fn slow_broker() -> House {
    let house = House::new(
        r#"
threads = 1
[[listener]]
address = "127.0.0.1:0"
[[provider]]
name = "alpha"
dialect = "cloudpipe"
[provider.broker.resource.db]
source = { kind = "command", command = ["sh", "FOLDER/source.sh"] }
"#,
    );
    let folder = house.folder.path().display().to_string();
    let config = std::fs::read_to_string(&house.config).unwrap().replace("FOLDER", &folder);
    std::fs::write(&house.config, config).unwrap();
    let script = r#"cd "$(dirname "$0")"
echo "$STANDPIPE_EVENT" >> begun
while [ ! -e go ]; do sleep 0.02; done
echo '{"URI": "https://db.example"}'
"#;
    std::fs::write(house.folder.path().join("source.sh"), script).unwrap();
    house
}

#[test]
fn a_client_that_leaves_a_broker_that_stands_alone_does_not_take_its_creation_along_either() {
    let house = slow_broker();
    let mut broker = house.serve_broker();
    let mut client = Wire::connect(broker.address);
    let body = r#"{"id":"web"}"#;
    client
        .send(format!("POST /db/pipes HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    let begun = || std::fs::read_to_string(house.folder.path().join("begun")).unwrap_or_default();
    until("the source is asked", || begun() == "bind\n");
    drop(client);
    until("the client is gone", || house.figure("standpipe_connections") == 0.0);
    // Nor does the end of the process, which waits for it.
    broker.signal("-TERM");
    until("the end has begun", || std::net::TcpStream::connect(broker.address).is_err());
    std::fs::write(house.folder.path().join("go"), "").unwrap();
    broker.ended();
    let broker = house.serve_broker();
    let pipe = broker.get("/db/pipes/web");
    assert_eq!((pipe.status, begun().as_str()), (200, "bind\n"), "{pipe:?}");
    assert_eq!(pipe.json()["this"]["data"]["URI"], "https://db.example");
}

#[test]
fn an_upload_that_breaks_off_never_looks_whole_to_the_provider() {
    let origin = Origin::new(|mut peer| {
        let head = peer.wire.upto("\r\n\r\n").unwrap();
        let rest = peer.wire.rest();
        peer.say(&format!("{head}{rest}"));
    });
    let standpipe = House::before(origin.address, "", "").run();
    for framing in ["content-length: 100\r\n\r\npart", "transfer-encoding: chunked\r\n\r\n4\r\npart\r\n"] {
        let mut client = Wire::connect(standpipe.address);
        client.send(format!("PUT /providers/alpha/x HTTP/1.1\r\nhost: a\r\n{framing}"));
        let before = origin.said().len();
        drop(client);
        origin.wait_for(before + 1);
        let request = origin.said().pop().unwrap();
        // Anywhere else it may be the end of a head, whose last field is a random name.
        assert!(!request.ends_with("0\r\n\r\n"), "{request}");
    }
}

#[test]
fn an_early_answer_comes_at_once_and_the_body_still_arrives() {
    let origin = Origin::new(|mut peer| {
        let head = peer.wire.upto("\r\n\r\nfirst").unwrap();
        peer.wire.send(OK);
        let rest = peer.wire.upto("last").unwrap();
        peer.say(&format!("{head}{rest}"));
        while peer.request().is_some() {
            peer.wire.send(OK);
        }
    });
    let standpipe = House::before(origin.address, "", "threads = 1\n").run();
    let mut client = Wire::connect(standpipe.address);
    client.send("PUT /providers/alpha/x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfirst");
    let answer = client.message().unwrap();
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    client.send(" last");
    origin.wait_for(1);
    assert!(origin.first().ends_with("\r\n\r\nfirst last"), "{}", origin.first());
    assert_eq!(client.ask("GET /providers/alpha/x HTTP/1.1\r\nhost: a\r\n\r\n").status, 200);
    assert_eq!(origin.connections(), 1);
}

fn skip_head(stream: &mut TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}

/// Whoever takes an answer may do so only when all of the request has left.
#[test]
fn a_client_that_sends_all_before_it_reads_is_served_by_a_provider_that_does_both_at_once() {
    const LARGE: u64 = 24 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let provider = std::thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        skip_head(&mut peer);
        let mut out = peer.try_clone().unwrap();
        let answer = std::thread::spawn(move || {
            out.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).unwrap();
            std::io::copy(&mut std::io::repeat(b'y').take(LARGE), &mut out).unwrap();
        });
        let heard = std::io::copy(&mut peer.take(LARGE), &mut std::io::sink()).unwrap();
        answer.join().unwrap();
        heard
    });
    let standpipe = House::before(address, "", "threads = 1\n").run();
    let mut client = TcpStream::connect(standpipe.address).unwrap();
    let head = format!("PUT /providers/alpha/x HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    std::io::copy(&mut std::io::repeat(b'x').take(LARGE), &mut client).unwrap();
    skip_head(&mut client);
    assert_eq!(std::io::copy(&mut client.take(LARGE), &mut std::io::sink()).unwrap(), LARGE);
    assert_eq!(provider.join().unwrap(), LARGE);
}
