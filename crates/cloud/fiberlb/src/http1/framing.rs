//! Framing: how long a message's body is by its head (RFC 9112 6.3), decided once. Pure.
use crate::header_kind::HeaderKind;
use httparse::Header;

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    None,
    Of(u64),
    Chunked,
    /// With the connection: answers alone.
    ToTheEnd,
}

/// What has no one meaning.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// What the framing headers of a head say, if they say it once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Framing {
    pub length: Option<u64>,
    pub chunked: bool,
}

impl Framing {
    /// `old` is a message of HTTP/1.0, which knows no chunks.
    pub fn of(headers: &[Header<'_>], old: bool) -> Result<Self, Malformed> {
        let mut framing = Self::default();
        for header in headers {
            match HeaderKind::of(header.name) {
                HeaderKind::ContentLength if framing.length.is_none() => framing.length = Some(number(header.value)?),
                HeaderKind::TransferEncoding if !framing.chunked && !old && header.value.eq_ignore_ascii_case(b"chunked") => framing.chunked = true,
                HeaderKind::ContentLength | HeaderKind::TransferEncoding | HeaderKind::Disguised => return Err(Malformed),
                _ => {}
            }
        }
        if framing.chunked && framing.length.is_some() { Err(Malformed) } else { Ok(framing) }
    }

    pub fn of_request(&self) -> Length {
        match self {
            Self { chunked: true, .. } => Length::Chunked,
            Self { length: Some(length @ 1..), .. } => Length::Of(*length),
            _ => Length::None,
        }
    }

    /// An answer with this code to a request that may have been HEAD.
    pub fn of_answer(&self, code: u16, to_head: bool) -> Length {
        match self {
            _ if to_head || matches!(code, 100..200 | 204 | 304) => Length::None,
            Self { chunked: true, .. } => Length::Chunked,
            Self { length: Some(0), .. } => Length::None,
            Self { length: Some(length), .. } => Length::Of(*length),
            _ => Length::ToTheEnd,
        }
    }
}

/// Digits alone, and few enough of them.
fn number(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > 18 {
        return Err(Malformed);
    }
    value.iter().try_fold(0, |number, byte| if byte.is_ascii_digit() { Ok(number * 10 + u64::from(byte - b'0')) } else { Err(Malformed) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(text: &str, old: bool) -> Result<Framing, Malformed> {
        let headers: Vec<Header<'_>> =
            text.lines().filter_map(|line| line.split_once(": ")).map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        Framing::of(&headers, old)
    }

    #[test]
    fn a_head_gives_its_body_one_length_or_is_refused() {
        for (text, expected) in [
            ("Host: a", Ok((None, false))),
            ("Content-Length: 0", Ok((Some(0), false))),
            ("content-length: 0042", Ok((Some(42), false))),
            ("Transfer-Encoding: Chunked", Ok((None, true))),
            ("Content-Length: 1\nContent-Length: 1", Err(())),
            ("Content-Length: 1\nContent-Length: 2", Err(())),
            ("Content-Length: 1, 1", Err(())),
            ("Content-Length: ", Err(())),
            ("Content-Length: -1", Err(())),
            ("Content-Length: +1", Err(())),
            ("Content-Length: 0x1", Err(())),
            ("Content-Length: 1 ", Err(())),
            ("Content-Length: 99999999999999999999", Err(())),
            ("Content_Length: 1", Err(())),
            ("Transfer_Encoding: chunked", Err(())),
            ("Transfer-Encoding: chunked\nContent-Length: 1", Err(())),
            ("Content-Length: 1\nTransfer-Encoding: chunked", Err(())),
            ("Transfer-Encoding: chunked\nTransfer-Encoding: chunked", Err(())),
            ("Transfer-Encoding: gzip, chunked", Err(())),
            ("Transfer-Encoding: chunked, identity", Err(())),
            ("Transfer-Encoding: identity", Err(())),
            ("Transfer-Encoding: xchunked", Err(())),
            ("Transfer-Encoding: \"chunked\"", Err(())),
            ("Transfer-Encoding: chunked;x", Err(())),
        ] {
            let found = framing(text, false).map(|framing| (framing.length, framing.chunked)).map_err(|_| ());
            assert_eq!(found, expected, "{text:?}");
        }
        assert_eq!(framing("Transfer-Encoding: chunked", true), Err(Malformed), "HTTP/1.0 knows none");
    }

    #[test]
    fn what_an_answer_has_depends_on_what_it_answers() {
        for (text, code, to_head, expected) in [
            ("Content-Length: 5", 200, false, Length::Of(5)),
            ("Content-Length: 0", 200, false, Length::None),
            ("Content-Length: 5", 200, true, Length::None),
            ("Content-Length: 5", 304, false, Length::None),
            ("Transfer-Encoding: chunked", 204, false, Length::None),
            ("Transfer-Encoding: chunked", 200, false, Length::Chunked),
            ("X: y", 200, false, Length::ToTheEnd),
            ("X: y", 200, true, Length::None),
            ("X: y", 103, false, Length::None),
        ] {
            assert_eq!(framing(text, false).unwrap().of_answer(code, to_head), expected, "{text} {code}");
        }
    }
}
