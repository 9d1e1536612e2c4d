//! Body: how much of a message's body is still to come, and where it ends. Pure.
use super::buffer::{Buffer, SIZE};
use super::chunks::Chunks;
use super::framing::{Length, Malformed};

/// A body that is followed.
#[derive(Debug)]
pub enum Body {
    Done,
    Left(u64),
    Chunked(Chunks),
    ToTheEnd,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As it is: its length was said, or its end is the connection's.
    Plain,
    InChunks,
}

impl Body {
    pub fn of(length: Length) -> Self {
        match length {
            Length::None | Length::Of(0) => Self::Done,
            Length::Of(length) => Self::Left(length),
            Length::Chunked => Self::Chunked(Chunks::default()),
            Length::ToTheEnd => Self::ToTheEnd,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes what came of it out of `input`, and writes it anew to `out`, as long as that has room. What follows the body
    /// is left.
    pub fn pass(&mut self, input: &mut Buffer, out: &mut Buffer, written: Written) -> Result<(), Malformed> {
        while !self.is_done() && !input.is_empty() && out.len() < SIZE {
            let bytes = input.filled();
            let (taken, data) = match self {
                Self::Done => return Ok(()),
                Self::Left(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= here as u64;
                    (here, 0..here)
                }
                Self::ToTheEnd => (bytes.len(), 0..bytes.len()),
                Self::Chunked(chunks) => chunks.take(bytes)?,
            };
            put(&bytes[data], out, written);
            input.consume(taken);
            let done = match self {
                Self::Left(left) => *left == 0,
                Self::Chunked(chunks) => chunks.is_done(),
                Self::Done | Self::ToTheEnd => false,
            };
            if done {
                self.finish(out, written);
            }
        }
        Ok(())
    }

    /// The stream it comes from has ended.
    pub fn end(&mut self, out: &mut Buffer, written: Written) -> Result<(), Malformed> {
        match self {
            Self::Done => Ok(()),
            Self::ToTheEnd => {
                self.finish(out, written);
                Ok(())
            }
            Self::Left(_) | Self::Chunked(_) => Err(Malformed),
        }
    }

    fn finish(&mut self, out: &mut Buffer, written: Written) {
        *self = Self::Done;
        if written == Written::InChunks {
            out.put(b"0\r\n\r\n");
        }
    }
}

/// Writes a part of a body.
pub fn put(data: &[u8], out: &mut Buffer, written: Written) {
    if written == Written::Plain {
        return out.put(data);
    }
    // An empty chunk would be the last.
    if !data.is_empty() {
        out.put_number(data.len() as u64, 16);
        out.put(b"\r\n");
        out.put(data);
        out.put(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of these bytes as they come in pieces, what is left of them, and whether the body has ended.
    fn passed(length: Length, bytes: &str, piece: usize, written: Written) -> (String, String, bool) {
        let (mut body, mut input, mut out) = (Body::of(length), Buffer::default(), Buffer::default());
        for part in bytes.as_bytes().chunks(piece) {
            input.put(part);
            body.pass(&mut input, &mut out, written).unwrap();
        }
        let text = |buffer: &Buffer| String::from_utf8(buffer.filled().to_vec()).unwrap();
        (text(&out), text(&input), body.is_done())
    }

    #[test]
    fn nothing_behind_a_body_goes_with_it() {
        for (length, bytes, expected) in [
            (Length::None, "GET", ("", "GET", true)),
            (Length::Of(3), "abcGET", ("abc", "GET", true)),
            (Length::Of(7), "abcGET", ("abcGET", "", false)),
            (Length::Chunked, "1\r\na\r\n2;x\r\nbc\r\n0\r\nT: u\r\n\r\nGET", ("abc", "GET", true)),
            (Length::ToTheEnd, "abc", ("abc", "", false)),
        ] {
            for piece in [100, 1, 4] {
                let (out, left, done) = passed(length, bytes, piece, Written::Plain);
                assert_eq!((&*out, &*left, done), expected, "{bytes:?} in pieces of {piece}");
            }
        }
        let anew = passed(Length::Chunked, "01;x\r\na\r\n2\r\nbc\r\n00\r\nT: u\r\n\r\n", 100, Written::InChunks);
        assert_eq!(anew.0, "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n");
        assert_eq!(passed(Length::Of(12), "abcdefghijkl", 100, Written::InChunks).0, "c\r\nabcdefghijkl\r\n0\r\n\r\n");
    }

    #[test]
    fn only_what_ends_with_its_connection_may_end_so() {
        for (length, right) in [(Length::None, true), (Length::ToTheEnd, true), (Length::Of(1), false), (Length::Chunked, false)] {
            assert_eq!(Body::of(length).end(&mut Buffer::default(), Written::Plain).is_ok(), right, "{length:?}");
        }
    }
}
