//! Guard and hyper against a reference that reads the whole stream at once and knows neither.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use standpipe_api::Connection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Builder;
use tokio::task::LocalSet;

use super::reference::{Message, read};
use super::support::{Seen, Stub};
use crate::config::Limits;
use crate::listener::connection::{Host, Protocol};
use crate::listener::{Drain, ListenerId, Shared};

/// What the service sees of a stream that arrives in pieces of these sizes. Time is paused, so that waits end at
/// once.
fn served(stream: &[u8], pieces: &[usize]) -> Vec<Seen> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let stub = Stub::default();
        let (client, server) = tokio::io::duplex(1 << 16);
        let deadlines = crate::forward::deadline::Deadlines::default();
        tokio::task::spawn_local(deadlines.clone().run());
        let host = Host {
            service: std::rc::Rc::new(stub.clone()),
            shared: Arc::new(Shared::new(&[], &Limits::default()).unwrap()),
            limits: Arc::new(Limits::default()),
            socket: ListenerId(0),
            connection: Arc::new(Connection { peer: None, scheme: "http", client_certificate: None }),
            drain: Drain::new(),
            deadlines,
        };
        let (mut read, mut write) = tokio::io::split(client);
        let writing = async {
            let mut rest = stream;
            for size in pieces.iter().cycle() {
                let (piece, next) = rest.split_at((*size).min(rest.len()));
                if piece.is_empty() || write.write_all(piece).await.is_err() {
                    break;
                }
                rest = next;
                // The other side gets its turn, and reads exactly this piece.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        let mut answers = Vec::new();
        // The connection may end before everything is written or read; only what was served counts.
        let _ended =
            futures_util::join!(host.serve(server, Protocol::Http1), writing, read.read_to_end(&mut answers));
        stub.requests()
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    // Much of it looks like a head or a chunk.
    prop_oneof![
        vec(any::<u8>(), 0..60),
        Just(b"GET /inner HTTP/1.1\r\nhost: a\r\n\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
    ]
}

/// The rest of a head, and a body behind it.
fn framed() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let length = body().prop_map(|body| {
        ([format!("content-length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat(), body)
    });
    let extensions = select(vec!["", ";a", ";a=\"b\"", ";a=b;c"]);
    let chunked = (vec(body(), 0..4), extensions, select(vec!["", "x-sum: 1\r\n", "a: 1\r\nb:\r\n"]));
    let chunked = chunked.prop_map(|(chunks, extension, trailer)| {
        let mut sent = b"Transfer-Encoding: Chunked\r\n\r\n".to_vec();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            sent.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
            sent.extend_from_slice(chunk);
            sent.extend_from_slice(b"\r\n");
        }
        sent.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
        (sent, chunks.concat())
    });
    prop_oneof![Just((b"\r\n".to_vec(), Vec::new())), length, chunked]
}

/// A request that is right, and what it says.
fn request() -> impl Strategy<Value = (Vec<u8>, Message)> {
    let method = select(vec!["GET", "POST", "PUT", "DELETE", "X-ODD"]);
    let target = select(vec!["/x", "/a%2Fb?c=&d", "/seen:here/..a"]);
    let fields = select(vec!["", "x: a\tb\r\n", "X-Y:\r\naccept: */*\r\n", "x:\t \r\n"]);
    (method, target, fields, framed()).prop_map(|(method, target, fields, (rest, body))| {
        let head = format!("{method} {target} HTTP/1.1\r\nhost: a\r\n{fields}");
        let message = Message { method: method.into(), target: target.into(), body: Some(body), last: false };
        ([head.as_bytes(), &rest].concat(), message)
    })
}

/// Something done to a stream at a place.
#[derive(Clone, Debug)]
enum Edit {
    Replace(u8),
    Insert(&'static str),
    Remove,
    /// Swaps a text for another, wherever it stands first behind the place.
    Swap(&'static str, &'static str),
}

fn edit() -> impl Strategy<Value = (Index, Edit)> {
    let byte = select(b"\r\n\0 \t:,;0123456789abfx#\x0b\x7f\xff".to_vec());
    let text = select(vec![
        "\r\n",
        "\n",
        "\r",
        "\n\n",
        "\r\n\r\n",
        " ",
        "0",
        "1",
        "+",
        "0x",
        ";",
        ",",
        "content-length: 4\r\n",
        "Content-Length: 0\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\n",
        "connection: close\r\n",
        "host: b\r\n",
        "0\r\n\r\n",
        "POST /y HTTP/1.1\r\nhost: b\r\n\r\n",
        " folded\r\n",
        "x : y\r\n",
        ", chunked",
    ]);
    let swap = select(vec![
        ("\r\n", "\n"),
        ("\r\n", "\r"),
        ("\r\n", "\r\n "),
        (": ", " : "),
        (": ", ":\x0b"),
        ("content-length: ", "content-length: +"),
        ("content-length: ", "content-length: 0"),
        ("content-length: ", "content-length: 1, "),
        ("content-length: ", "content_length: "),
        ("Chunked", "chunked, chunked"),
        ("Chunked", "gzip, chunked"),
        ("Chunked", "chunked, identity"),
        ("Chunked", "\"chunked\""),
        ("Chunked", "chunked;q=1"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("HTTP/1.1", "HTTP/1.2"),
        ("host", "x"),
    ]);
    let edit = prop_oneof![
        byte.prop_map(Edit::Replace),
        text.prop_map(Edit::Insert),
        Just(Edit::Remove),
        swap.prop_map(|(old, new)| Edit::Swap(old, new)),
    ];
    (any::<Index>(), edit)
}

fn apply(stream: &mut Vec<u8>, edits: Vec<(Index, Edit)>) {
    for (at, edit) in edits {
        let at = at.index(stream.len());
        match edit {
            Edit::Replace(byte) => stream[at] = byte,
            Edit::Insert(text) => drop(stream.splice(at..at, text.bytes())),
            Edit::Remove => drop(stream.remove(at)),
            Edit::Swap(old, new) => {
                let found = stream[at..].windows(old.len()).position(|found| found == old.as_bytes());
                if let Some(found) = found.map(|found| at + found) {
                    stream.splice(found..found + old.len(), new.bytes());
                }
            }
        }
    }
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![usize::MAX]), vec(1usize..80, 1..6)]
}

/// The service sees a beginning of what the reference reads and never anything else, and all of what is whole.
fn compare(stream: &[u8], pieces: &[usize]) -> Result<(), TestCaseError> {
    let (expected, shown) = (read(stream), stream.escape_ascii());
    let seen = served(stream, pieces);
    prop_assert!(seen.len() <= expected.len(), "{seen:?} is more than {expected:?} of {shown}");
    for ((method, target, body), message) in seen.iter().zip(&expected) {
        prop_assert_eq!((method, target), (&message.method, &message.target), "{}", shown);
        prop_assert_eq!(body.as_ref().ok(), message.body.as_ref(), "{}", shown);
    }
    let whole = expected.iter().take_while(|message| message.body.is_some());
    prop_assert!(seen.len() >= whole.count(), "{seen:?} is less than {expected:?} of {shown}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn every_right_message_is_served_as_it_was_framed(requests in vec(request(), 1..6), pieces in pieces()) {
        let stream: Vec<u8> = requests.iter().flat_map(|(sent, _)| sent.clone()).collect();
        let expected: Vec<Message> = requests.into_iter().map(|(_, message)| message).collect();
        prop_assert_eq!(read(&stream), expected);
        compare(&stream, &pieces)?;
    }

    #[test]
    fn no_byte_of_a_body_becomes_a_head_nor_the_reverse(requests in vec(request(), 1..5), edits in vec(edit(), 1..4), pieces in pieces()) {
        let mut stream: Vec<u8> = requests.into_iter().flat_map(|(sent, _)| sent).collect();
        apply(&mut stream, edits);
        compare(&stream, &pieces)?;
    }
}

/// The same streams in every run, so that a change that breaks one is seen at once.
#[test]
fn a_thousand_fixed_streams_are_read_as_the_reference_reads_them() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let streams = (vec(request(), 1..5), vec(edit(), 0..4), pieces());
    for _ in 0..1000 {
        let (requests, edits, pieces) = streams.new_tree(&mut runner).unwrap().current();
        let mut stream: Vec<u8> = requests.into_iter().flat_map(|(sent, _)| sent).collect();
        apply(&mut stream, edits);
        compare(&stream, &pieces).unwrap_or_else(|error| panic!("{error}"));
    }
}
