//! Chunks: follows a body in chunks to its end (RFC 9112 7.1), and takes nothing that has two readings. Pure.
use super::framing::Malformed;
use std::ops::Range;

/// Extensions and trailers, which nobody is told of, may have so many bytes in a whole body.
const IGNORED: u32 = 16 << 10;
/// Sizes have at most so many digits, so none runs over.
const DIGITS: u8 = 15;

#[derive(Debug)]
pub struct Chunks {
    state: State,
    ignored: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8, value: u64 },
    Extension { size: u64 },
    SizeLineFeed { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { state: SIZE, ignored: 0 }
    }
}

const SIZE: State = State::Size { digits: 0, value: 0 };

impl Chunks {
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Follows these bytes up to and with the next data, or to their end: how many they were, and which of them are data.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Range<usize>), Malformed> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if let State::Data { left } = &mut self.state {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                *left -= here as u64;
                if *left == 0 {
                    self.state = State::DataReturn;
                }
                return Ok((at + here, at..at + here));
            }
            self.step(bytes[at])?;
            at += 1;
        }
        Ok((at, at..at))
    }

    /// Takes one byte that is no data.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        let text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let next = match (&self.state, byte) {
            (State::Size { digits, value }, _) if byte.is_ascii_hexdigit() && *digits < DIGITS => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                State::Size { digits: digits + 1, value: value * 16 + digit }
            }
            (State::Size { digits: 1.., value }, b';') => State::Extension { size: *value },
            (State::Size { digits: 1.., value: size } | State::Extension { size }, b'\r') => State::SizeLineFeed { size: *size },
            (State::Extension { size }, _) if text => State::Extension { size: *size },
            (State::SizeLineFeed { size: 0 }, b'\n') => State::TrailerStart,
            (State::SizeLineFeed { size }, b'\n') => State::Data { left: *size },
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => SIZE,
            (State::TrailerStart, b'\r') => State::LastLineFeed,
            (State::TrailerStart | State::TrailerName, _) if token => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, _) if text => State::TrailerValue,
            (State::TrailerLineFeed, b'\n') => State::TrailerStart,
            (State::LastLineFeed, b'\n') => State::Done,
            _ => return Err(Malformed),
        };
        if matches!(next, State::Extension { .. } | State::TrailerName | State::TrailerValue) {
            self.ignored += 1;
            if self.ignored > IGNORED {
                return Err(Malformed);
            }
        }
        self.state = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body, and what follows it, as it comes in pieces of this size; `None`: it does not end.
    fn read(body: &str, piece: usize) -> Result<Option<(String, usize)>, Malformed> {
        let (mut chunks, mut data, mut before) = (Chunks::default(), Vec::new(), 0);
        for part in body.as_bytes().chunks(piece) {
            let mut at = 0;
            while at < part.len() && !chunks.is_done() {
                let (taken, here) = chunks.take(&part[at..])?;
                data.extend_from_slice(&part[at..][here]);
                at += taken;
            }
            before += at;
        }
        Ok(chunks.is_done().then(|| (String::from_utf8(data).unwrap(), before)))
    }

    #[test]
    fn a_body_has_one_end_however_it_comes() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(IGNORED as usize + 1));
        let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(IGNORED as usize / 3));
        for (body, expected) in [
            ("3\r\nabc\r\n0\r\n\r\nGET", Ok(Some(("abc", 13)))),
            ("1\r\na\r\n0A\r\n0123456789\r\n000\r\n\r\n", Ok(Some(("a0123456789", 29)))),
            ("2;x=\"y\";z\r\nhi\r\n0;last\r\nTrailer: x\r\nB:\r\n\r\n", Ok(Some(("hi", 41)))),
            ("0\r\n\r\n", Ok(Some(("", 5)))),
            ("3\r\nabc\r\n0\r\n", Ok(None)),
            ("3\r\nab", Ok(None)),
            ("", Ok(None)),
            ("3\nabc\r\n0\r\n\r\n", Err(Malformed)),
            ("3\r\nabc\n0\r\n\r\n", Err(Malformed)),
            ("3\r\nabcd\r\n0\r\n\r\n", Err(Malformed)),
            ("3\r\nabc\r\n0\r\n\n", Err(Malformed)),
            ("3 \r\nabc\r\n", Err(Malformed)),
            (" 3\r\nabc\r\n", Err(Malformed)),
            ("3\r\r\nabc\r\n", Err(Malformed)),
            ("\r\n", Err(Malformed)),
            (";x\r\n", Err(Malformed)),
            ("0x3\r\nabc\r\n", Err(Malformed)),
            ("+3\r\nabc\r\n", Err(Malformed)),
            ("-3\r\nabc\r\n", Err(Malformed)),
            ("g\r\n", Err(Malformed)),
            ("1000000000000000\r\n", Err(Malformed)),
            ("3;a\nb\r\nabc\r\n", Err(Malformed)),
            ("3;\0\r\nabc\r\n", Err(Malformed)),
            ("0\r\nno colon\r\n\r\n", Err(Malformed)),
            ("0\r\n: no name\r\n\r\n", Err(Malformed)),
            ("0\r\na : b\r\n\r\n", Err(Malformed)),
            ("0\r\na: b\n\r\n", Err(Malformed)),
            ("0\r\na: b\r\n c\r\n\r\n", Err(Malformed)),
            (&long, Err(Malformed)),
            (&many, Err(Malformed)),
        ] {
            let expected = expected.map(|found| found.map(|(data, end)| (data.to_owned(), end)));
            for piece in [body.len().max(1), 1, 2, 3, 7] {
                assert_eq!(read(body, piece), expected, "{body:.60?} in pieces of {piece}");
            }
        }
    }
}
