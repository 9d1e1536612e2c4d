//! RequestHead: a client's request, read from the bytes of its head and refused where it has no one meaning. Pure.
use super::HEADERS;
use super::authority::host_of;
use super::framing::{Framing, Length};
use crate::header_kind::HeaderKind;
use http::StatusCode;
use httparse::{Header, ParserConfig, Request};
use std::borrow::Cow;
use std::mem::MaybeUninit;

/// A client that names more headers as its neighbour's alone wants something else than an answer.
const NAMED: usize = 32;

/// Where headers are put while a head is looked at.
pub type Slots<'b> = [MaybeUninit<Header<'b>>; HEADERS];

pub fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; HEADERS]
}

#[derive(Debug)]
pub struct RequestHead<'b, 'h> {
    pub method: &'b str,
    /// Path and query, or `*`.
    pub target: Cow<'b, str>,
    pub authority: &'b str,
    /// In lower case, without its port.
    pub host: Cow<'b, str>,
    /// Of HTTP/1.0.
    pub old: bool,
    pub headers: &'h [Header<'b>],
    pub body: Length,
    pub connection: Connection<'b>,
    /// What the client wants to go on in, if that can be led through.
    pub upgrade: Option<&'b [u8]>,
    /// The client asked to go on in something: without leave nobody knows what it goes on to say.
    pub leaves: bool,
    /// It waits with its body until it is told to send it.
    pub expects: bool,
    /// It takes trailers.
    pub trailers: bool,
}

/// What the headers `Connection` say.
#[derive(Debug, Default)]
pub struct Connection<'b> {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
    /// Headers that are between neighbours alone.
    pub named: Vec<&'b str>,
}

impl<'b, 'h> RequestHead<'b, 'h> {
    /// `bytes` are those of one whole head.
    pub fn parse(bytes: &'b [u8], slots: &'h mut Slots<'b>) -> Result<Self, StatusCode> {
        let bad = StatusCode::BAD_REQUEST;
        let mut request = Request::new(&mut []);
        let parsed = ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, slots);
        match parsed {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(bad),
            Err(httparse::Error::TooManyHeaders) => return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            Err(httparse::Error::Version) => return Err(StatusCode::HTTP_VERSION_NOT_SUPPORTED),
            Err(_) => return Err(bad),
        }
        let (method, target) = (request.method.ok_or(bad)?, request.path.ok_or(bad)?);
        let (old, headers) = (request.version == Some(0), &*request.headers);
        if matches!(method, "CONNECT" | "TRACE") {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let body = Framing::of(headers, old).map_err(|_| bad)?.of_request();
        let (mut named, mut connection, mut upgrade, mut expects, mut trailers) = (None, Connection::default(), None, false, false);
        for header in headers {
            match HeaderKind::of(header.name) {
                HeaderKind::Host if named.is_some() || header.name.len() != 4 => return Err(bad),
                HeaderKind::Host => named = Some(std::str::from_utf8(header.value).map_err(|_| bad)?),
                HeaderKind::Connection => connection.note(header.value).ok_or(bad)?,
                HeaderKind::Upgrade if upgrade.is_some() => return Err(bad),
                HeaderKind::Upgrade => upgrade = Some(header.value),
                HeaderKind::Te => trailers |= tokens(header.value).any(|token| token.eq_ignore_ascii_case("trailers")),
                HeaderKind::Expect if header.value.eq_ignore_ascii_case(b"100-continue") => expects = !old,
                HeaderKind::Expect => return Err(StatusCode::EXPECTATION_FAILED),
                _ => {}
            }
        }
        let (asked, target) = split(method, target).ok_or(bad)?;
        let authority = match (asked, named) {
            (Some(asked), Some(named)) if !asked.eq_ignore_ascii_case(named) => return Err(bad),
            (Some(_), None) if !old => return Err(bad),
            (Some(authority), _) | (None, Some(authority)) => authority,
            (None, None) => return Err(bad),
        };
        let host = host_of(authority).ok_or(bad)?.trim_end_matches('.');
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) };
        let leaves = upgrade.is_some();
        // Requests hidden in HTTP/2 would go by no route.
        let upgrade = upgrade.filter(|protocol| {
            connection.upgrade && !old && !protocol.is_empty() && !tokens(protocol).any(|token| token.to_ascii_lowercase().starts_with("h2c"))
        });
        Ok(Self { method, target, authority, host, old, headers, body, connection, upgrade, leaves, expects, trailers })
    }

    /// What routes go by.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether another request may follow on the connection.
    pub fn stays(&self) -> bool {
        !self.connection.close && !self.leaves && (!self.old || self.connection.keep_alive)
    }

    /// Methods that may be sent twice (RFC 9110 9.2.2).
    pub fn is_repeatable(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
    }
}

impl<'b> Connection<'b> {
    /// Takes in one header; `None`: there is too much of it.
    pub fn note(&mut self, value: &'b [u8]) -> Option<()> {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case("close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case("keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case("upgrade") {
                self.upgrade = true;
            } else if self.named.len() < NAMED {
                self.named.push(token);
            } else {
                return None;
            }
        }
        Some(())
    }

    pub fn names(&self, name: &str) -> bool {
        self.named.iter().any(|named| named.eq_ignore_ascii_case(name))
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &str> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.split(',').map(|token| token.trim_matches([' ', '\t'])).filter(|token| !token.is_empty())
}

/// The authority that a request's target names, if it does, and its path with its query.
fn split<'b>(method: &str, target: &'b str) -> Option<(Option<&'b str>, Cow<'b, str>)> {
    if target.bytes().any(|byte| matches!(byte, b'#' | b'<' | b'>')) {
        return None;
    }
    if target.starts_with('/') || target == "*" && method == "OPTIONS" {
        return Some((None, Cow::Borrowed(target)));
    }
    let scheme = ["http://", "https://"].into_iter().find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))?;
    let rest = &target[scheme.len()..];
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Some((Some(authority), if rest.starts_with('/') { Cow::Borrowed(rest) } else { Cow::Owned(format!("/{rest}")) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{HeadEnd, LineEnds};

    /// What a request comes to: its host, target, body and whether its connection stays, or the code it is refused with.
    fn meaning(text: &str) -> String {
        match HeadEnd::default().find(text.as_bytes(), LineEnds::Strict) {
            Err(_) => return "400".into(),
            Ok(None) => return "unfinished".into(),
            Ok(Some(end)) => assert_eq!(end, text.len()),
        }
        match RequestHead::parse(text.as_bytes(), &mut slots()) {
            Err(code) => code.as_str().into(),
            Ok(head) => {
                let upgrade = head.upgrade.map(|protocol| format!(" {}", String::from_utf8_lossy(protocol))).unwrap_or_default();
                format!("{} {} {:?} {}{upgrade}", head.host, head.target, head.body, if head.stays() { "stays" } else { "closes" })
            }
        }
    }

    #[test]
    fn a_request_has_one_meaning_or_is_refused() {
        let headers = |count: usize| "X: y\r\n".repeat(count);
        for (start, rest, expected) in [
            ("GET /x?y=/z HTTP/1.1", "Host: A.example.com.:80", "a.example.com /x?y=/z None stays"),
            ("\r\nGET / HTTP/1.1", "Host: a", "a / None stays"),
            ("GET /é HTTP/1.1", "Host: a", "a /é None stays"),
            ("OPTIONS * HTTP/1.1", "Host: a", "a * None stays"),
            ("GET http://a/x HTTP/1.1", "Host: A", "a /x None stays"),
            ("GET HTTPS://a?x HTTP/1.1", "Host: a", "a /?x None stays"),
            ("GET http://a HTTP/1.0", "X: y", "a / None closes"),
            ("GET / HTTP/1.0", "Host: a", "a / None closes"),
            ("GET / HTTP/1.0", "Host: a\r\nConnection: Keep-Alive", "a / None stays"),
            ("GET / HTTP/1.1", "Host: a\r\nConnection: x, Close", "a / None closes"),
            ("POST / HTTP/1.1", "Host: a\r\nContent-Length: 5", "a / Of(5) stays"),
            ("POST / HTTP/1.1", "Host: a\r\nTransfer-Encoding: chunked", "a / Chunked stays"),
            ("GET / HTTP/1.1", "Host: a\r\nConnection: upgrade\r\nUpgrade: websocket", "a / None closes websocket"),
            ("GET / HTTP/1.1", "Host: a\r\nUpgrade: websocket", "a / None closes"),
            ("GET / HTTP/1.1", "Host: a\r\nConnection: upgrade\r\nUpgrade: H2C", "a / None closes"),
            ("GET / HTTP/1.1", "Host: a\r\nConnection: upgrade\r\nUpgrade: x, h2c", "a / None closes"),
            // Who it is for.
            ("GET / HTTP/1.1", "X: y", "400"),
            ("GET / HTTP/1.0", "X: y", "400"),
            ("GET http://a/ HTTP/1.1", "X: y", "400"),
            ("GET / HTTP/1.1", "Host: a\r\nHost: a", "400"),
            ("GET / HTTP/1.1", "Host: a\r\nhost: b", "400"),
            ("GET / HTTP/1.1", "Host: ", "400"),
            ("GET / HTTP/1.1", "Host: a b", "400"),
            ("GET / HTTP/1.1", "Host: a, b", "400"),
            ("GET / HTTP/1.1", "Host: x@a", "400"),
            ("GET / HTTP/1.1", "Host: a/b", "400"),
            ("GET http://b/ HTTP/1.1", "Host: a", "400"),
            ("GET http:///x HTTP/1.1", "Host: a", "400"),
            ("GET ftp://a/ HTTP/1.1", "Host: a", "400"),
            ("GET a HTTP/1.1", "Host: a", "400"),
            ("GET * HTTP/1.1", "Host: a", "400"),
            ("GET /#x HTTP/1.1", "Host: a", "400"),
            // The first line.
            ("CONNECT a:80 HTTP/1.1", "Host: a:80", "405"),
            ("TRACE / HTTP/1.1", "Host: a", "405"),
            ("GET / HTTP/2.0", "Host: a", "505"),
            ("GET / HTTP/1.2", "Host: a", "505"),
            ("GET  / HTTP/1.1", "Host: a", "400"),
            ("GET /  HTTP/1.1", "Host: a", "505"),
            ("GET / HTTP/1.1 ", "Host: a", "400"),
            ("GET / http/1.1", "Host: a", "505"),
            ("GET /", "Host: a", "400"),
            ("G\0T / HTTP/1.1", "Host: a", "400"),
            ("GET /\0 HTTP/1.1", "Host: a", "400"),
            ("GET /\x7f HTTP/1.1", "Host: a", "400"),
            ("GET\t/\tHTTP/1.1", "Host: a", "400"),
            // Lines.
            ("GET / HTTP/1.1", "Host: a\nX: y", "400"),
            ("GET / HTTP/1.1", "Host: a\rX: y", "400"),
            ("GET / HTTP/1.1", "Host: a\r\n X: y", "400"),
            ("GET / HTTP/1.1", "Host: a\r\nX : y", "400"),
            ("GET / HTTP/1.1", "Host: a\r\n: y", "400"),
            ("GET / HTTP/1.1", "Host: a\r\nX y", "400"),
            ("GET / HTTP/1.1", "Host: a\r\nX\0: y", "400"),
            ("GET / HTTP/1.1", "Host: a\r\nX: y\0z", "400"),
            ("GET / HTTP/1.1", "Host: a\r\nX: y\x7f", "400"),
            // Lengths.
            ("POST / HTTP/1.1", "Host: a\r\nContent-Length: 1\r\nContent-Length: 1", "400"),
            ("POST / HTTP/1.1", "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", "400"),
            ("POST / HTTP/1.1", "Host: a\r\nTransfer-Encoding : chunked", "400"),
            ("POST / HTTP/1.1", "Host: a\r\nTransfer-Encoding:\x0bchunked", "400"),
            ("POST / HTTP/1.1", "Host: a\r\nTransfer-Encoding: gzip, chunked", "400"),
            ("POST / HTTP/1.0", "Host: a\r\nTransfer-Encoding: chunked", "400"),
            ("GET / HTTP/1.1", "Host: a\r\nUpgrade: x\r\nUpgrade: y", "400"),
            ("POST / HTTP/1.1", "Host: a\r\nExpect: a miracle", "417"),
            ("GET / HTTP/1.1", &format!("{}Host: a", headers(HEADERS - 1)), "a / None stays"),
            ("GET / HTTP/1.1", &format!("{}Host: a", headers(HEADERS)), "431"),
            ("GET / HTTP/1.1", &format!("Host: a\r\nConnection: {}", "x,".repeat(NAMED + 1)), "400"),
        ] {
            assert_eq!(meaning(&format!("{start}\r\n{rest}\r\n\r\n")), expected, "{start:?} {rest:.80?}");
        }
    }
}
