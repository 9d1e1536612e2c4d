//! The authority a request is for: its host, and a port that nobody needs. Pure.

/// The host of an authority, `None` where it is none: user information, spaces, and whatever else no host's name holds.
pub fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            let inner = &rest.as_bytes()[..end];
            let right = !inner.is_empty() && inner.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            (right.then(|| &authority[..end + 2])?, &rest[end + 1..])
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let host = &authority[..end];
            let right = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte));
            (right.then_some(host)?, &authority[end..])
        }
    };
    let right = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    right.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_reading() {
        for (authority, host) in [
            ("a.example.com", Some("a.example.com")),
            ("A.example.com.:8080", Some("A.example.com.")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("[2001:db8::1]:80", Some("[2001:db8::1]")),
            ("[::ffff:192.0.2.1]", Some("[::ffff:192.0.2.1]")),
            ("a:", Some("a")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:80:80", None),
            ("a:123456", None),
            ("x@a", None),
            ("a b", None),
            ("a/b", None),
            ("a,b c", None),
            ("a\\b", None),
            ("[]", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[v1.a]", None),
            ("a?b", None),
            ("a#b", None),
            ("é", None),
        ] {
            assert_eq!(host_of(authority), host, "{authority:?}");
        }
    }
}
