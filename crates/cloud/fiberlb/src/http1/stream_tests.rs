//! Whole streams of requests, as a connection follows them: the same however they are cut, and read alike by who gets them.
use super::body::{Body, Written};
use super::buffer::Buffer;
use super::framing::Length;
use super::head::{HeadEnd, LineEnds};
use super::outgoing;
use super::request_head::{RequestHead, slots};
use proptest::prelude::*;

/// What a stream comes to: what is led on, the requests in it, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Meaning {
    led: Vec<u8>,
    requests: Vec<Seen>,
    refused: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    line: String,
    body: Vec<u8>,
    whole: bool,
}

/// Follows a stream that comes in these pieces.
fn follow<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Meaning {
    let (mut meaning, mut input, mut end, mut body) = (Meaning::default(), Buffer::default(), HeadEnd::default(), (Body::Done, Written::Plain));
    for piece in pieces {
        input.put(piece);
        loop {
            let mut out = Buffer::default();
            if !body.0.is_done() {
                if body.0.pass(&mut input, &mut out, body.1).is_err() {
                    meaning.refused = Some(400);
                    return meaning;
                }
                note(&mut meaning, &out, body.1, body.0.is_done());
                if !body.0.is_done() && input.is_empty() {
                    break;
                }
                continue;
            }
            let length = match end.find(input.filled(), LineEnds::Strict) {
                Ok(Some(length)) => length,
                Ok(None) => break,
                Err(_) => {
                    meaning.refused = Some(400);
                    return meaning;
                }
            };
            let mut slots = slots();
            match RequestHead::parse(&input.filled()[..length], &mut slots) {
                Err(code) => {
                    meaning.refused = Some(code.as_u16());
                    return meaning;
                }
                Ok(head) => {
                    let written = outgoing::request(&head, "", &mut out);
                    body = (Body::of(head.body), written);
                    meaning.led.extend_from_slice(out.filled());
                    let whole = head.body == Length::None;
                    meaning.requests.push(Seen { line: format!("{} {} {}", head.method, head.host, head.target), body: Vec::new(), whole });
                    let stays = head.stays();
                    input.consume(length);
                    end = HeadEnd::default();
                    if !stays {
                        // What follows is for nobody here; its body is.
                        if whole {
                            return meaning;
                        }
                    }
                }
            }
        }
    }
    meaning
}

fn note(meaning: &mut Meaning, out: &Buffer, written: Written, done: bool) {
    meaning.led.extend_from_slice(out.filled());
    let Some(last) = meaning.requests.last_mut() else { return };
    last.whole = done;
    match written {
        Written::Plain => last.body.extend_from_slice(out.filled()),
        Written::InChunks => {
            let (mut input, mut data) = (Buffer::default(), Buffer::default());
            input.put(out.filled());
            // A part of our own, which has no end yet.
            Body::of(Length::Chunked).pass(&mut input, &mut data, Written::Plain).unwrap();
            last.body.extend_from_slice(data.filled());
        }
    }
}

/// Chunks are cut by how they came; what they hold is not. Of a body that is refused in its middle, what came before is led on or not.
fn comparable(mut meaning: Meaning) -> (Vec<Seen>, Option<u16>) {
    if let Some(last) = meaning.requests.last_mut().filter(|last| meaning.refused.is_some() && !last.whole) {
        last.body.clear();
    }
    (meaning.requests, meaning.refused)
}

fn check(stream: &[u8], cuts: &[usize]) {
    let whole = follow([stream]);
    // Who reads what is led on finds the same requests, and no others.
    let read = follow([&whole.led[..]]);
    assert_eq!(read.refused, None, "{:?}", String::from_utf8_lossy(&whole.led));
    assert_eq!(read.requests, whole.requests, "{:?}", String::from_utf8_lossy(&whole.led));
    let whole = comparable(whole);
    let mut pieces = Vec::new();
    let mut from = 0;
    for cut in cuts {
        pieces.push(&stream[from..*cut]);
        from = *cut;
    }
    pieces.push(&stream[from..]);
    assert_eq!(comparable(follow(pieces)), whole, "{:?} cut at {cuts:?}", String::from_utf8_lossy(stream));
}

const STREAMS: [&str; 6] = [
    "GET /a?b HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: y\r\n\r\nGET /c HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloPOST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;e=f\r\nabc\r\n0a\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET /d HTTP/1.1\r\nHost: x\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: x\r\nX: y\nZ: w\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n",
    "\r\nPUT /a HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n",
    "POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
];

#[test]
fn a_stream_means_the_same_wherever_it_is_cut() {
    for stream in STREAMS.map(str::as_bytes) {
        for first in 0..=stream.len() {
            check(stream, &[first]);
            for second in first..=stream.len().min(first + 20) {
                check(stream, &[first, second]);
            }
        }
        check(stream, &(0..=stream.len()).collect::<Vec<_>>());
    }
}

proptest! {
    #[test]
    fn damaged_streams_mean_the_same_wherever_they_are_cut(
        which in 0..STREAMS.len(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&b"\r\n\0 \t:;,0af-+xHC\x7f\x80"[..]), 0..3u8), 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut stream = STREAMS[which].as_bytes().to_vec();
        for (at, byte, how) in damages {
            let at = at.index(stream.len());
            match how {
                0 => stream[at] = byte,
                1 => stream.insert(at, byte),
                _ => {
                    stream.remove(at);
                }
            }
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        check(&stream, &cuts);
    }
}
