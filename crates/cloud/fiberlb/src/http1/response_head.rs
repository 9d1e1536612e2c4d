//! ResponseHead: a backend's answer, read from the bytes of its head. Pure.
use super::framing::{Framing, Length, Malformed};
use super::request_head::{Connection, Slots};
use crate::header_kind::HeaderKind;
use httparse::{Header, ParserConfig, Response};

#[derive(Debug)]
pub struct ResponseHead<'b, 'h> {
    pub code: u16,
    pub reason: &'b str,
    pub headers: &'h [Header<'b>],
    pub framing: Framing,
    pub body: Length,
    pub connection: Connection<'b>,
    /// Of HTTP/1.0.
    old: bool,
}

impl<'b, 'h> ResponseHead<'b, 'h> {
    /// `bytes` are those of one whole head, which answers a request that may have been HEAD.
    pub fn parse(bytes: &'b [u8], slots: &'h mut Slots<'b>, to_head: bool) -> Result<Self, Malformed> {
        let mut response = Response::new(&mut []);
        match ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, slots) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            _ => return Err(Malformed),
        }
        let code = response.code.filter(|code| *code >= 100).ok_or(Malformed)?;
        let (old, headers) = (response.version == Some(0), &*response.headers);
        let framing = Framing::of(headers, old)?;
        let mut connection = Connection::default();
        for header in headers {
            if HeaderKind::of(header.name) == HeaderKind::Connection {
                connection.note(header.value).ok_or(Malformed)?;
            }
        }
        let body = framing.of_answer(code, to_head);
        Ok(Self { code, reason: response.reason.unwrap_or_default(), headers, framing, body, connection, old })
    }

    /// Whether the backend's connection may have another request after this.
    pub fn stays(&self) -> bool {
        // Some send a body where none may be: then it would be the next answer.
        let claims_body = matches!(self.code, 100..200 | 204) && (self.framing.chunked || self.framing.length.is_some_and(|length| length > 0));
        self.body != Length::ToTheEnd && !claims_body && !self.connection.close && (!self.old || self.connection.keep_alive)
    }

    /// What the backend goes on in.
    pub fn upgrade(&self) -> Option<&'b [u8]> {
        self.headers.iter().find(|header| HeaderKind::of(header.name) == HeaderKind::Upgrade).map(|header| header.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request_head::slots;

    #[test]
    fn an_answer_has_one_meaning_or_is_none() {
        for (head, to_head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, Some((200, Length::Of(5), true))),
            ("HTTP/1.1 200\r\nContent-Length: 5\n\n", false, Some((200, Length::Of(5), true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Some((200, Length::None, true))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", false, Some((200, Length::Chunked, false))),
            ("HTTP/1.1 200 OK\r\n\r\n", false, Some((200, Length::ToTheEnd, false))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, Some((200, Length::Of(5), false))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", false, Some((200, Length::Of(5), true))),
            ("HTTP/1.1 204 No Content\r\n\r\n", false, Some((204, Length::None, true))),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false, Some((204, Length::None, false))),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, Some((304, Length::None, true))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", false, None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", false, None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, None),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false, None),
            ("HTTP/1.1 099 OK\r\n\r\n", false, None),
            ("HTTP/2.0 200 OK\r\n\r\n", false, None),
            ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", false, None),
            ("SSH-2.0-x\r\n\r\n", false, None),
        ] {
            let found = ResponseHead::parse(head.as_bytes(), &mut slots(), to_head).ok().map(|head| (head.code, head.body, head.stays()));
            assert_eq!(found, expected, "{head:?}");
        }
    }
}
