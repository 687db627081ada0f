use proptest::prelude::*;

use super::*;

/// What passes of a stream that arrives in pieces of these sizes.
fn passed(stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Option<&'static str>) {
    let mut guard = Guard::new(1024);
    let mut out = Vec::new();
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap_or(&1)).clamp(1, rest.len());
        let (piece, next) = rest.split_at(size);
        rest = next;
        let mut piece = piece.to_vec();
        match guard.check(&mut piece) {
            Ok(passed) => out.extend_from_slice(&piece[..passed]),
            Err(_) => break,
        }
    }
    (out, guard.refused.map(|refusal| refusal.0))
}

#[test]
fn good_messages_pass_untouched_however_they_are_cut() {
    let stream = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n\
        POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /\
        PUT /y HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\n\r\n\r\nx\r\n00\r\nx-sum: 1\r\n\r\n\
        GET / HTTP/1.0\r\nx: \xff caf\xc3\xa9\r\n\r\n";
    for size in 1..stream.len() {
        assert_eq!(passed(stream, &[size]), (stream.to_vec(), None), "{size}");
    }
}

#[test]
fn what_two_parsers_could_read_differently_is_spoilt_before_its_end() {
    let bad: [&[u8]; 26] = [
        b"GET / HTTP/1.1\n\r\n",
        b"GET / HTTP/1.1\r\nx: y\n\r\n",
        b"GET / HTTP/1.1\r\nx: y\r\n\n",
        b"GET / HTTP/1.1\r\nx: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nx : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n x: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nx\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET /#x HTTP/1.1\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length:\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: \x0bchunked\r\n\r\n",
        b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
    ];
    for stream in bad {
        for size in [1, 7, stream.len()] {
            let (out, refused) = passed(stream, &[size]);
            assert!(refused.is_some(), "{:?}", String::from_utf8_lossy(stream));
            assert_eq!(out.last(), Some(&0), "{:?}", String::from_utf8_lossy(stream));
            assert!(out.len() <= stream.len());
        }
    }
}

#[test]
fn a_head_that_never_ends_is_refused() {
    let endless = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 2000]].concat();
    assert_eq!(passed(&endless, &[100]).1, Some("the head is too long"));
}

#[test]
fn broken_chunks_end_the_connection() {
    for chunks in [
        "\r\n",
        "-1\r\n",
        "0x1\r\na",
        "1\na",
        "1\r\nab",
        "1\r\na\n",
        "11111111111111111\r\n",
        ";x\r\n",
        "1;\0\r\n",
    ] {
        let stream = format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert!(passed(stream.as_bytes(), &[3]).1.is_some(), "{chunks:?}");
    }
}

proptest! {
    /// No byte of a body is taken for a head: a body of anything, then a request that must be refused.
    #[test]
    fn bodies_are_never_read_as_heads(body in proptest::collection::vec(any::<u8>(), 0..300), sizes in proptest::collection::vec(1usize..40, 1..5)) {
        let head = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
        let good = [head.as_bytes(), &body, b"GET /next HTTP/1.1\r\n\r\n"].concat();
        prop_assert_eq!(passed(&good, &sizes), (good.clone(), None));
        let bad = [head.as_bytes(), &body, b"GET /next HTTP/1.1\n\n"].concat();
        let (out, refused) = passed(&bad, &sizes);
        prop_assert!(refused.is_some() && out.len() > head.len() + body.len());
    }

    /// Chunked bodies of anything pass whole, however the stream is cut.
    #[test]
    fn chunks_of_anything_pass(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..6), sizes in proptest::collection::vec(1usize..40, 1..5)) {
        let mut stream = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            stream.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            stream.extend_from_slice(chunk);
            stream.extend_from_slice(b"\r\n");
        }
        stream.extend_from_slice(b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        prop_assert_eq!(passed(&stream, &sizes), (stream.clone(), None));
    }
}
