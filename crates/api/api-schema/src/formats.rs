//! The string formats upstream checks in custom resources.
use std::net::IpAddr;

/// Whether `text` has this format; formats upstream does not know are not checked.
pub(crate) fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" | "datetime" => crate::go_time::canonical(text, false).is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => is_duration(text),
        "byte" => crate::base64_text::canonical(text).is_ok(),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => is_uuid(text, format),
        "ipv4" => matches!(text.parse(), Ok(IpAddr::V4(_))),
        "ipv6" => matches!(text.parse(), Ok(IpAddr::V6(_))),
        "cidr" => is_cidr(text),
        "mac" => text.len() == 17 && text.split([':', '-']).all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit())),
        "hostname" => is_hostname(text),
        "email" => text.rsplit_once('@').is_some_and(|(user, host)| !user.is_empty() && is_hostname(host) && !text.contains(char::is_whitespace)),
        "uri" => text.split_once(':').is_some_and(|(scheme, rest)| !rest.is_empty() && is_scheme(scheme)) || text.starts_with('/'),
        _ => true,
    }
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

fn is_hostname(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 255 && text.split('.').all(label)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|l| l <= most)
}

fn is_uuid(text: &str, format: &str) -> bool {
    let plain: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let right_version = match format.strip_prefix("uuid") {
        Some(version) if !version.is_empty() => plain.get(12) == version.as_bytes().first(),
        _ => true,
    };
    plain.len() == 32 && plain.iter().all(u8::is_ascii_hexdigit) && right_version
}

/// Go's `time.ParseDuration`, e.g. `1h30m`, `-1.5s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, unit) = rest.split_at(number);
        let unit_end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        if !digits.bytes().any(|b| b.is_ascii_digit())
            || digits.matches('.').count() > 1
            || !["ns", "us", "µs", "ms", "s", "m", "h"].contains(&&unit[..unit_end])
        {
            return false;
        }
        rest = &unit[unit_end..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_theirs_and_refuse_others() {
        for (format, good, bad) in [
            ("date-time", "2020-01-01T00:00:00Z", "2020-01-01"),
            ("date", "2020-01-01", "2020-1-1"),
            ("duration", "1h30m", "1x"),
            ("byte", "aGk=", "!"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("ipv4", "10.0.0.1", "::1"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("hostname", "a.example.com", "-a"),
            ("email", "a@b.c", "a"),
            ("uri", "https://a/b", "a b"),
        ] {
            assert!(has_format(good, format), "{format}");
            assert!(!has_format(bad, format), "{format}");
        }
        assert!(has_format("anything", "my-own"));
    }
}
