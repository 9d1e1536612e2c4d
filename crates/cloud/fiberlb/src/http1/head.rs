//! HeadEnd: finds where a message's head ends, line by line as it comes. Pure.
use memchr::memchr;

/// How lines may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnds {
    /// CR LF alone: what clients send.
    Strict,
    /// LF too: backends are known to.
    Tolerant,
}

/// A line that different readers end in different places, or put together with the one before.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine;

/// Goes on where it stopped, so bytes that come one by one are each looked at once.
#[derive(Debug, Default)]
pub struct HeadEnd {
    scanned: usize,
    line: usize,
    begun: bool,
}

impl HeadEnd {
    /// How long the head is that these bytes begin with, if all of it is there. They are those of the last call, and more.
    /// Empty lines before it are part of it.
    pub fn find(&mut self, bytes: &[u8], ends: LineEnds) -> Result<Option<usize>, BadLine> {
        while let Some(at) = memchr(b'\n', &bytes[self.scanned..]) {
            let end = self.scanned + at;
            let line = &bytes[self.line..end];
            let text = match line.strip_suffix(b"\r") {
                Some(text) => text,
                None if ends == LineEnds::Strict => return Err(BadLine),
                None => line,
            };
            (self.scanned, self.line) = (end + 1, end + 1);
            match text.first() {
                None if self.begun => return Ok(Some(end + 1)),
                None => {}
                Some(b' ' | b'\t') => return Err(BadLine),
                Some(_) => self.begun = true,
            }
        }
        self.scanned = bytes.len();
        // Something else than HTTP may never come to a line's end.
        match bytes.get(self.line) {
            Some(first) if !self.begun && !first.is_ascii_graphic() && *first != b'\r' => Err(BadLine),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LineEnds::{Strict, Tolerant};

    #[test]
    fn a_head_ends_with_its_first_empty_line() {
        for (bytes, ends, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest", Strict, Ok(Some(27))),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Strict, Ok(Some(22))),
            ("GET / HTTP/1.1\r\nHost: a\r\n\r", Strict, Ok(None)),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", Strict, Err(BadLine)),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Strict, Err(BadLine)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", Strict, Err(BadLine)),
            ("\nGET / HTTP/1.1\r\n\r\n", Strict, Err(BadLine)),
            ("GET / HTTP/1.1\r\nX: a\r\n b: c\r\n\r\n", Strict, Err(BadLine)),
            ("GET / HTTP/1.1\r\n\tX: a\r\n\r\n", Strict, Err(BadLine)),
            (" GET / HTTP/1.1\r\n\r\n", Strict, Err(BadLine)),
            ("\x16\x03\x01", Strict, Err(BadLine)),
            ("HTTP/1.1 200 OK\nA: b\n\n", Tolerant, Ok(Some(22))),
            ("HTTP/1.1 200 OK\r\nA: b\n\r\nx", Tolerant, Ok(Some(24))),
            ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Tolerant, Err(BadLine)),
            ("", Strict, Ok(None)),
        ] {
            assert_eq!(HeadEnd::default().find(bytes.as_bytes(), ends), expected, "{bytes:?}");
            let mut end = HeadEnd::default();
            let in_drops = (0..=bytes.len()).map(|count| end.find(&bytes.as_bytes()[..count], ends)).find(|found| *found != Ok(None));
            assert_eq!(in_drops.unwrap_or(Ok(None)), expected, "{bytes:?} in drops");
        }
    }
}
