//! HeaderKind: what a header is to a proxy, whichever version of HTTP it came by. Pure.

/// What becomes of a header on its way through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderKind {
    /// Led on as it is.
    Other,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Upgrade,
    Te,
    Expect,
    Date,
    /// Between neighbours alone.
    HopByHop,
    /// Said by us to backends, whatever a client claims.
    Forwarding,
    /// Would be one of the framing headers to a server that takes an underscore for a hyphen, as CGI does.
    Disguised,
}

use HeaderKind::*;

const KNOWN: [(&str, HeaderKind); 18] = [
    ("te", Te),
    ("host", Host),
    ("date", Date),
    ("expect", Expect),
    ("trailer", HopByHop),
    ("upgrade", Upgrade),
    ("forwarded", Forwarding),
    ("x-real-ip", Forwarding),
    ("connection", Connection),
    ("keep-alive", HopByHop),
    ("content-length", ContentLength),
    ("x-forwarded-for", Forwarding),
    ("x-forwarded-host", Forwarding),
    ("x-forwarded-port", Forwarding),
    ("proxy-connection", HopByHop),
    ("transfer-encoding", TransferEncoding),
    ("x-forwarded-proto", Forwarding),
    ("proxy-authenticate", HopByHop),
];

impl HeaderKind {
    pub fn of(name: &str) -> Self {
        let known = match name.len() {
            2 => &KNOWN[..1],
            4 => &KNOWN[1..3],
            6 => &KNOWN[3..4],
            7 => &KNOWN[4..6],
            9 => &KNOWN[6..8],
            10 => &KNOWN[8..10],
            14 => &KNOWN[10..11],
            15 => &KNOWN[11..12],
            16 => &KNOWN[12..15],
            17 => &KNOWN[15..17],
            18 => &KNOWN[17..],
            _ => return Other,
        };
        let Some((exact, kind)) = known.iter().find_map(|(known, kind)| same(name.as_bytes(), known.as_bytes()).map(|exact| (exact, *kind))) else {
            return Other;
        };
        match kind {
            ContentLength | TransferEncoding if !exact => Disguised,
            kind => kind,
        }
    }
}

/// Whether two names are the same to somebody, and then whether they are to everybody.
fn same(name: &[u8], known: &[u8]) -> Option<bool> {
    let mut exact = true;
    for (byte, known) in name.iter().zip(known) {
        if byte.to_ascii_lowercase() != *known {
            if *byte != b'_' || *known != b'-' {
                return None;
            }
            exact = false;
        }
    }
    Some(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_in_disguise() {
        for (name, kind) in KNOWN {
            assert_eq!(HeaderKind::of(name), kind, "{name}");
            assert_eq!(HeaderKind::of(&name.to_ascii_uppercase()), kind, "{name}");
            let framing = matches!(kind, ContentLength | TransferEncoding);
            assert_eq!(HeaderKind::of(&name.replace('-', "_")), if framing { Disguised } else { kind }, "{name}");
            assert_eq!(HeaderKind::of(&format!("{name}x")), Other, "{name}");
        }
        for name in ["", "x", "accept", "content_type", "cookie", "x-forwarded-fob", "content-lengti"] {
            assert_eq!(HeaderKind::of(name), Other, "{name}");
        }
    }
}
