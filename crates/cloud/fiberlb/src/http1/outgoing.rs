//! Heads as they are sent on: each line written anew, what is between neighbours left out, what backends are told put in. Pure.
use super::body::Written;
use super::buffer::Buffer;
use super::framing::Length;
use super::request_head::{Connection, RequestHead};
use super::response_head::ResponseHead;
use crate::header_kind::HeaderKind;
use crate::http_service::Arrival;
use http::StatusCode;
use httparse::Header;

/// What a client's connection tells all backends, as lines.
pub fn told(arrival: Arrival) -> String {
    let (client, port, scheme) = (arrival.client.ip().to_canonical(), arrival.port, if arrival.tls { "https" } else { "http" });
    format!("x-forwarded-for: {client}\r\nx-real-ip: {client}\r\nx-forwarded-port: {port}\r\nx-forwarded-proto: {scheme}\r\n")
}

/// The request as a backend gets it, and how its body follows.
pub fn request(head: &RequestHead<'_, '_>, told: &str, out: &mut Buffer) -> Written {
    for part in [head.method, " ", &*head.target, " HTTP/1.1\r\nhost: ", head.authority, "\r\n"] {
        out.put(part.as_bytes());
    }
    lead(head.headers, &head.connection, out);
    if head.trailers {
        out.put(b"te: trailers\r\n");
    }
    // What a client claims here could be anything: there is nobody before us whom backends would have to know.
    for part in [told, "x-forwarded-host: ", head.authority, "\r\n"] {
        out.put(part.as_bytes());
    }
    if let Some(protocol) = head.upgrade {
        out.put(b"connection: upgrade\r\n");
        line("upgrade", protocol, out);
    }
    let written = match head.body {
        Length::Chunked => {
            out.put(b"transfer-encoding: chunked\r\n");
            Written::InChunks
        }
        Length::Of(length) => {
            length_line(length, out);
            Written::Plain
        }
        Length::None | Length::ToTheEnd => {
            // Said by a client that sends nothing, it is no news, but where a body is usual it is asked for.
            if matches!(head.method, "POST" | "PUT" | "PATCH") {
                length_line(0, out);
            }
            Written::Plain
        }
    };
    out.put(b"\r\n");
    written
}

/// How an answer goes to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub written: Written,
    /// Another request may follow.
    pub stays: bool,
}

/// The answer as a client gets it: one that speaks HTTP/1.0 (`old`), and would send another request if it may (`stays`).
pub fn answer(head: &ResponseHead<'_, '_>, old: bool, stays: bool, date: &str, out: &mut Buffer) -> Reply {
    status(head.code, head.reason, out);
    lead(head.headers, &head.connection, out);
    if !head.headers.iter().any(|header| HeaderKind::of(header.name) == HeaderKind::Date) {
        line("date", date.as_bytes(), out);
    }
    let in_chunks = matches!(head.body, Length::Chunked | Length::ToTheEnd) && !old;
    let to_the_end = matches!(head.body, Length::Chunked | Length::ToTheEnd) && old;
    if in_chunks {
        out.put(b"transfer-encoding: chunked\r\n");
    } else if let Some(length) = head.framing.length.filter(|_| head.code >= 200 && head.code != 204) {
        length_line(length, out);
    }
    let stays = stays && !to_the_end;
    connection(old, stays, out);
    out.put(b"\r\n");
    Reply { written: if in_chunks { Written::InChunks } else { Written::Plain }, stays }
}

/// Leave for a client to go on in another protocol.
pub fn switched(head: &ResponseHead<'_, '_>, protocol: &[u8], out: &mut Buffer) {
    status(head.code, head.reason, out);
    lead(head.headers, &head.connection, out);
    out.put(b"connection: upgrade\r\n");
    line("upgrade", protocol, out);
    out.put(b"\r\n");
}

/// An answer of our own.
pub fn refusal(code: StatusCode, to_head: bool, old: bool, stays: bool, date: &str, out: &mut Buffer) {
    let reason = code.canonical_reason().unwrap_or("Error");
    let text = format!("{} {reason}\n", code.as_u16());
    status(code.as_u16(), reason, out);
    line("content-type", b"text/plain; charset=utf-8", out);
    line("date", date.as_bytes(), out);
    length_line(text.len() as u64, out);
    connection(old, stays, out);
    out.put(b"\r\n");
    if !to_head {
        out.put(text.as_bytes());
    }
}

pub fn status(code: u16, reason: &str, out: &mut Buffer) {
    out.put(b"HTTP/1.1 ");
    out.put_number(code.into(), 10);
    out.put(b" ");
    let canonical = || StatusCode::from_u16(code).ok().and_then(|code| code.canonical_reason()).unwrap_or_default();
    out.put(if reason.is_empty() { canonical() } else { reason }.as_bytes());
    out.put(b"\r\n");
}

pub fn line(name: &str, value: &[u8], out: &mut Buffer) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.put(part);
    }
}

pub fn length_line(length: u64, out: &mut Buffer) {
    out.put(b"content-length: ");
    out.put_number(length, 10);
    out.put(b"\r\n");
}

/// What becomes of the client's connection, where that is not what it expects.
pub fn connection(old: bool, stays: bool, out: &mut Buffer) {
    match (old, stays) {
        (_, false) => out.put(b"connection: close\r\n"),
        (true, true) => out.put(b"connection: keep-alive\r\n"),
        (false, true) => {}
    }
}

/// Leads on the headers that are for both ends.
fn lead(headers: &[Header<'_>], connection: &Connection<'_>, out: &mut Buffer) {
    for header in headers {
        let kind = HeaderKind::of(header.name);
        if matches!(kind, HeaderKind::Other | HeaderKind::Date) && !connection.names(header.name) {
            line(header.name, header.value, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request_head::slots;

    fn text(buffer: &Buffer) -> String {
        String::from_utf8(buffer.filled().to_vec()).unwrap()
    }
    fn led(head: &str) -> String {
        let (mut out, mut slots) = (Buffer::default(), slots());
        request(&RequestHead::parse(head.as_bytes(), &mut slots).unwrap(), "told: by us\r\n", &mut out);
        text(&out)
    }
    fn answered(head: &str, to_head: bool, old: bool, stays: bool) -> (String, Reply) {
        let (mut out, mut slots) = (Buffer::default(), slots());
        let reply = answer(&ResponseHead::parse(head.as_bytes(), &mut slots, to_head).unwrap(), old, stays, "now", &mut out);
        (text(&out), reply)
    }

    #[test]
    fn a_backend_gets_one_length_and_nothing_that_was_for_us() {
        for (head, expected) in [
            (
                "GET http://A.b/x?y HTTP/1.0\r\nHost: A.b\r\nAccept:  */* \r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Secret: s\r\nConnection: x-secret, host, keep-alive\r\nKeep-Alive: 5\r\nTE: gzip, trailers\r\n\r\n",
                "GET /x?y HTTP/1.1\r\nhost: A.b\r\nAccept: */*\r\nte: trailers\r\ntold: by us\r\nx-forwarded-host: A.b\r\n\r\n",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 007\r\nExpect: 100-continue\r\nConnection: content-length\r\n\r\n",
                "POST / HTTP/1.1\r\nhost: a\r\ntold: by us\r\nx-forwarded-host: a\r\ncontent-length: 7\r\n\r\n",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
                "POST / HTTP/1.1\r\nhost: a\r\ntold: by us\r\nx-forwarded-host: a\r\ntransfer-encoding: chunked\r\n\r\n",
            ),
            (
                "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                "GET /ws HTTP/1.1\r\nhost: a\r\ntold: by us\r\nx-forwarded-host: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
            ),
            ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT / HTTP/1.1\r\nhost: a\r\ntold: by us\r\nx-forwarded-host: a\r\ncontent-length: 0\r\n\r\n"),
        ] {
            assert_eq!(led(head), expected);
        }
    }

    #[test]
    fn a_client_gets_an_answer_that_it_can_read_to_its_end() {
        let start = "HTTP/1.1 200 OK\r\n";
        for (head, (to_head, old, stays), expected, (in_chunks, goes_on)) in [
            ("Content-Length: 5\r\nDate: then\r\n", (false, false, true), "Date: then\r\ncontent-length: 5\r\n", (false, true)),
            (
                "Content-Length: 5\r\nX: y\r\nConnection: x, close\r\nKeep-Alive: 1\r\n",
                (false, false, true),
                "date: now\r\ncontent-length: 5\r\n",
                (false, true),
            ),
            ("Transfer-Encoding: chunked\r\n", (false, false, true), "date: now\r\ntransfer-encoding: chunked\r\n", (true, true)),
            ("", (false, false, true), "date: now\r\ntransfer-encoding: chunked\r\n", (true, true)),
            ("", (false, true, true), "date: now\r\nconnection: close\r\n", (false, false)),
            ("Transfer-Encoding: chunked\r\n", (false, true, true), "date: now\r\nconnection: close\r\n", (false, false)),
            ("Content-Length: 5\r\n", (false, true, true), "date: now\r\ncontent-length: 5\r\nconnection: keep-alive\r\n", (false, true)),
            ("Content-Length: 5\r\n", (true, false, true), "date: now\r\ncontent-length: 5\r\n", (false, true)),
            ("Transfer-Encoding: chunked\r\n", (true, false, true), "date: now\r\n", (false, true)),
            ("Content-Length: 0\r\n", (false, false, false), "date: now\r\ncontent-length: 0\r\nconnection: close\r\n", (false, false)),
        ] {
            let (found, reply) = answered(&format!("{start}{head}\r\n"), to_head, old, stays);
            assert_eq!(found, format!("{start}{expected}\r\n"), "{head:?}");
            assert_eq!((reply.written == Written::InChunks, reply.stays), (in_chunks, goes_on), "{head:?}");
        }
        let (found, _) = answered("HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\n", false, false, true);
        assert_eq!(found, "HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n");
    }
}
