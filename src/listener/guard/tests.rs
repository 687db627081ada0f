use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What can be read of a stream that arrives in pieces of these sizes, and why it was refused.
fn passed(stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<Reason>) {
    let mut guard = Guard::new(Most { bytes: 1024, fields: 20 });
    let mut out = Vec::new();
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() && guard.refused().is_none() {
        let size = (*sizes.next().unwrap_or(&1)).clamp(1, rest.len());
        let (piece, next) = rest.split_at(size);
        rest = next;
        let passed = guard.check(piece);
        out.extend_from_slice(&piece[..passed]);
    }
    while let Some(more) = guard.instead(2).ok().filter(|more| !more.is_empty()) {
        out.extend_from_slice(more);
    }
    (out, guard.refused().map(|refusal| refusal.reason))
}

#[test]
fn good_messages_pass_untouched_however_they_are_cut() {
    let stream = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n\
        POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /\
        PUT /y HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\n\r\n\r\nx\r\n00\r\nx-sum: 1\r\n\r\n\
        \r\nGET / HTTP/1.0\r\nx: \xff caf\xc3\xa9\r\n\r\n";
    for size in 1..stream.len() {
        assert_eq!(passed(stream, &[size]), (stream.to_vec(), None), "{size}");
    }
}

#[test]
fn what_two_parsers_could_read_differently_is_spoilt_before_its_end() {
    use Reason::{Framing, Syntax};
    let bad: [(&[u8], Reason); 34] = [
        (b"GET / HTTP/1.1\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\nx: y\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\nx: y\r\n\n", Syntax),
        (b"GET / HTTP/1.1\r\nx: a\rb\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\nx: a\0\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\nx: a\x7f\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\nx : a\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\n x: a\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\nx\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1\r\n: a\r\n\r\n", Syntax),
        (b"GET  / HTTP/1.1\r\n\r\n", Syntax),
        (b"GET /a b HTTP/1.1\r\n\r\n", Syntax),
        (b"GET\t/ HTTP/1.1\r\n\r\n", Syntax),
        (b" GET / HTTP/1.1\r\n\r\n", Syntax),
        (b"GET / HTTP/1.1 \r\n\r\n", Syntax),
        (b"GET / HTTP/1.2\r\n\r\n", Syntax),
        (b"GET / HTTP/2.0\r\n\r\n", Syntax),
        (b"GET /\r\n\r\n", Syntax),
        (b"GET /# HTTP/1.1\r\n\r\n", Syntax),
        (b"GET /\xff HTTP/1.1\r\n\r\n", Syntax),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Syntax),
        (b"POST / HTTP/1.1\r\ncontent-length: 2\r\nCONTENT-length: 2\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ncontent-length: 2, 2\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ncontent-length: +2\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ncontent-length:\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n\r\n", Framing),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n", Framing),
        (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", Framing),
    ];
    for (stream, reason) in bad {
        for size in [1, 7, stream.len()] {
            let (out, refused) = passed(stream, &[size]);
            assert_eq!(refused, Some(reason), "{}", stream.escape_ascii());
            let kept = out.strip_suffix(SPOILT).expect("the end is spoilt");
            assert!(stream.starts_with(kept) && kept.len() < stream.len(), "{}", out.escape_ascii());
        }
    }
}

#[test]
fn a_head_that_never_ends_is_cut_where_hyper_takes_it_for_too_long() {
    let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 2000]].concat();
    let (out, refused) = passed(&endless, &[100]);
    assert_eq!((out.len(), refused), (1024, Some(Reason::TooLong)));
}

#[test]
fn broken_chunks_let_nothing_pass_that_looks_like_an_end() {
    let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    for chunks in [
        "\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\na",
        "1 \r\na",
        "1\na",
        "1\r\nab",
        "1\r\na\n",
        "11111111111111111\r\n",
        ";x\r\n",
        "1;\0\r\n",
        "1;\n\r\n",
        "1;\r\r\n",
        "0\r\nx\r\n\r\n",
        "0\r\nx: 1\n\r\n",
        "0\r\n x: 1\r\n\r\n",
        "0\r\ncontent-length: 3\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\n\n",
    ] {
        let stream = format!("{head}{chunks}");
        let (out, refused) = passed(stream.as_bytes(), &[3]);
        assert!(refused.is_some(), "{chunks:?}");
        assert!(stream.as_bytes().starts_with(&out) && out.len() < stream.len(), "{chunks:?}");
    }
    let long = format!("{head}1;{}\r\n", "x".repeat(300));
    assert_eq!(passed(long.as_bytes(), &[40]).1, Some(Reason::Chunk));
    let trailers = format!("{head}0\r\nx: {}\r\n\r\n", "x".repeat(1100));
    assert_eq!(passed(trailers.as_bytes(), &[40]).1, Some(Reason::TooLong));
}

proptest! {
    /// No byte of a body is taken for a head: a body of anything, then a request that must be refused.
    #[test]
    fn bodies_are_never_read_as_heads(body in vec(any::<u8>(), 0..300), sizes in vec(1usize..40, 1..5)) {
        let head = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
        let good = [head.as_bytes(), &body, b"GET /next HTTP/1.1\r\n\r\n"].concat();
        prop_assert_eq!(passed(&good, &sizes), (good.clone(), None));
        let bad = [head.as_bytes(), &body, b"GET /next HTTP/1.1\n\n"].concat();
        let (out, refused) = passed(&bad, &sizes);
        prop_assert!(refused.is_some() && out.len() > head.len() + body.len());
    }
}
