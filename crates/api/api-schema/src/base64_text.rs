//! Base64 as Go's `encoding/base64` reads it, down to where its errors point.
use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD};

/// Go ignores the unused bits of the last character.
const LENIENT: GeneralPurpose = GeneralPurpose::new(&ALPHABET, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The text re-encoded if it was not canonical, `None` if it was.
/// Error: `illegal base64 data at input byte N`.
pub(crate) fn canonical(text: &str) -> Result<Option<String>, String> {
    if STANDARD.decode(text).is_ok() {
        return Ok(None);
    }
    if let Some(at) = corrupt_at(text.as_bytes()) {
        return Err(format!("illegal base64 data at input byte {at}"));
    }
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = LENIENT.decode(plain).map_err(|why| why.to_string())?;
    Ok(Some(STANDARD.encode(bytes)))
}

/// Where Go's decoder would stop, if it would.
fn corrupt_at(text: &[u8]) -> Option<usize> {
    let new_line = |at: usize| matches!(text.get(at), Some(b'\r' | b'\n'));
    let (mut at, mut in_quantum) = (0, 0);
    while at < text.len() {
        if new_line(at) {
            at += 1;
            continue;
        }
        let byte = text[at];
        at += 1;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') {
            in_quantum = (in_quantum + 1) % 4;
            continue;
        }
        if byte != b'=' || in_quantum < 2 {
            return Some(at - 1);
        }
        if in_quantum == 2 {
            while new_line(at) {
                at += 1;
            }
            match text.get(at) {
                None => return Some(text.len()),
                Some(b'=') => at += 1,
                Some(_) => return Some(at - 1),
            }
        }
        while new_line(at) {
            at += 1;
        }
        return (at < text.len()).then_some(at);
    }
    (in_quantum > 0).then(|| at - in_quantum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_where_go_points() {
        for (text, want) in [("!", 0), ("abc", 0), ("abcdab", 4), ("abcd=", 4), ("ab=c", 2), ("ab=", 3), ("abc=x", 4), ("ab cd", 2)] {
            assert_eq!(canonical(text), Err(format!("illegal base64 data at input byte {want}")), "{text}");
        }
        for (text, want) in [("", None), ("aGVsbG8=", None), ("aGVs\r\nbG8=\n", Some("aGVsbG8=")), ("aGVsbG9=", Some("aGVsbG8="))] {
            assert_eq!(canonical(text), Ok(want.map(str::to_owned)), "{text}");
        }
    }
}
