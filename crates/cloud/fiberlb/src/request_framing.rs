//! RequestFraming: follows where an HTTP/1 connection's requests begin and end, and finds what could be read in two ways. Pure.
//!
//! The HTTP library mends some of that silently (two lengths that agree, a length beside chunks); to say no, it has to be
//! seen before. Whatever passes here has one meaning by RFC 9112 alone, so both always agree where a request ends.

/// Longer lines are refused. The library refuses a head that is half as long before, and says so (431).
const LONGEST_LINE: usize = 128 << 10;

/// Follows one connection.
#[derive(Debug)]
pub struct RequestFraming {
    state: State,
    /// What there is of a line that has not ended.
    line: Vec<u8>,
}

#[derive(Debug, PartialEq)]
enum State {
    RequestLine,
    Head(Head),
    /// So many bytes of a body or a chunk are left; then comes that.
    Bytes(u64, After),
    ChunkSize,
    /// The line end behind a chunk.
    ChunkEnd,
    Trailer,
    /// No longer requests of HTTP/1, or not known to be.
    Through,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    Request,
    Chunk,
}

/// What a head has said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Head {
    old: bool,
    length: Option<u64>,
    chunked: bool,
    /// After this request the connection may speak something else; if not, it is closed.
    leaves: bool,
}

impl Default for RequestFraming {
    fn default() -> Self {
        Self { state: State::RequestLine, line: Vec::new() }
    }
}

impl RequestFraming {
    /// Takes in the connection's next bytes. `Err`: how many of them may be passed on; the one after them ends what is
    /// refused.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Through => return Ok(()),
                State::Bytes(left, after) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    *left -= here as u64;
                    at += here;
                    if *left == 0 {
                        self.state = if *after == After::Request { State::RequestLine } else { State::ChunkEnd };
                    }
                }
                _ => {
                    let rest = &bytes[at..];
                    let end = rest.iter().position(|byte| *byte == b'\n');
                    let part = &rest[..end.unwrap_or(rest.len())];
                    if self.line.len() + part.len() > LONGEST_LINE {
                        return Err(at + LONGEST_LINE - self.line.len());
                    }
                    self.line.extend_from_slice(part);
                    at += part.len();
                    if end.is_some() {
                        let line = std::mem::take(&mut self.line);
                        if !self.take_line(&line) {
                            return Err(at);
                        }
                        self.line = line;
                        self.line.clear();
                        at += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether this line, without its end, has one meaning.
    fn take_line(&mut self, line: &[u8]) -> bool {
        let whole = line.strip_suffix(b"\r");
        let text = whole.unwrap_or(line);
        let next = match &mut self.state {
            // Empty lines before a request are nothing (RFC 9112 2.2).
            State::RequestLine if text.is_empty() => State::RequestLine,
            State::RequestLine if text == b"PRI * HTTP/2.0" => State::Through,
            State::RequestLine => State::Head(Head { old: text.ends_with(b" HTTP/1.0"), leaves: text.starts_with(b"CONNECT "), ..Head::default() }),
            State::Head(head) if text.is_empty() => match head {
                Head { old: true, chunked: true, .. } | Head { chunked: true, length: Some(_), .. } => return false,
                Head { leaves: true, .. } => State::Through,
                Head { chunked: true, .. } => State::ChunkSize,
                Head { length: Some(length), .. } if *length > 0 => State::Bytes(*length, After::Request),
                _ => State::RequestLine,
            },
            State::Head(head) => return head.take_field(text),
            State::ChunkSize => match whole.and_then(chunk_size) {
                None => return false,
                Some(0) => State::Trailer,
                Some(size) => State::Bytes(size, After::Chunk),
            },
            State::ChunkEnd if whole.is_some_and(<[u8]>::is_empty) => State::ChunkSize,
            State::ChunkEnd => return false,
            State::Trailer if text.is_empty() => State::RequestLine,
            State::Trailer => return field(text).is_some(),
            State::Bytes(..) | State::Through => return true,
        };
        self.state = next;
        true
    }
}

impl Head {
    fn take_field(&mut self, line: &[u8]) -> bool {
        let Some((name, value)) = field(line) else { return false };
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            return self.length.is_none() && {
                self.length = length;
                length.is_some()
            };
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let first = !self.chunked;
            self.chunked = true;
            return first && value.eq_ignore_ascii_case(b"chunked");
        }
        self.leaves |= name.eq_ignore_ascii_case(b"upgrade");
        true
    }
}

/// Name and value of a field. None: a line that goes on with the one before, or a name with space around it (RFC 9112 5).
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = &line[..colon];
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    (!name.is_empty() && name.iter().all(token)).then(|| (name, line[colon + 1..].trim_ascii()))
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    let hex = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| hex)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n";

    /// How much is passed on, however the bytes are cut.
    fn passed(text: &str) -> Option<usize> {
        let whole = RequestFraming::default().follow(text.as_bytes()).err();
        for piece in [1, 2, 7] {
            let (mut framing, mut before) = (RequestFraming::default(), 0);
            let mut found = None;
            for part in text.as_bytes().chunks(piece) {
                if let Err(at) = framing.follow(part) {
                    found = Some(before + at);
                    break;
                }
                before += part.len();
            }
            assert_eq!(found, whole, "{text:?} in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn what_has_one_meaning_passes() {
        for text in [
            format!("{GET}\r\n{GET}\r\n"),
            format!("\r\n{GET}Content-Length: 2\r\n\r\nhi{GET}Content-Length: 0\r\n\r\n{GET}\r\n"),
            format!("{GET}Transfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhi\r\nA\r\n0123\r\n\r\n67\r\n0\r\nTrailer: x\r\n\r\n{GET}\r\n"),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0: :\n".into(),
            format!("{GET}Upgrade: websocket\r\n\r\n: anything\n\n: at all\n"),
            format!("{GET}Content-Length: 11\r\n\r\nno: field\n\n{GET}\r\n"),
        ] {
            assert_eq!(passed(&text), None, "{text:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_does_not() {
        for fields in [
            "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
            "Content-Length: 2, 2\r\n\r\nhi",
            "Content-Length: +2\r\n\r\nhi",
            "Content-Length: 0x2\r\n\r\nhi",
            "Content-Length:\r\n\r\nhi",
            "Content-Length: 99999999999999999999\r\n\r\nhi",
            "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: identity\r\n\r\n",
            "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "no colon\r\n\r\n",
            ": no name\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n",
        ] {
            assert!(passed(&format!("{GET}{fields}")).is_some(), "{fields:?}");
        }
        assert!(passed("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_some());
        let second = format!("{GET}\r\n{GET}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx");
        let up_to = passed(&second).unwrap();
        assert!(second[up_to..].starts_with("\n\r\nx"), "all before it passes");
        assert!(passed(&format!("{GET}X: {}", "x".repeat(LONGEST_LINE))).is_some());
    }
}
