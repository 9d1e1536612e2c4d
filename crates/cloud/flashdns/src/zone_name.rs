//! Names and values as the API takes them: checked, in lower case, without the last dot. Pure.
use crate::record::RecordData;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// A zone's name: two labels at least, for nobody has all of a top-level domain.
pub fn zone(text: &str) -> Result<String, String> {
    let name = host(text)?;
    if name.contains('.') { Ok(name) } else { Err("a zone has at least two labels".into()) }
}

/// A record's name within its zone: `www`, `*`, `*.www`; `@` and nothing are the zone's own.
pub fn record(text: &str, zone: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "" | "@") {
        return Ok(String::new());
    }
    let plain = match lower.strip_prefix('*') {
        Some("") => return Ok(lower),
        Some(below) => below.strip_prefix('.').ok_or("\"*\" is a whole label, the first")?,
        None => lower.as_str(),
    };
    if plain.ends_with('.') {
        return Err("it is within its zone, so it does not end in a dot".into());
    }
    host(plain)?;
    if absolute(&lower, zone).len() > MOST_BYTES {
        return Err(format!("with its zone it is longer than {MOST_BYTES} bytes"));
    }
    Ok(lower)
}

/// What a record of a type says, from how a zone file writes it.
pub fn parse_data(kind: &str, value: &str) -> Result<RecordData, String> {
    let name = |text: &str| host(text).map(Arc::<str>::from);
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    Ok(match (kind, &words[..]) {
        ("A", _) => RecordData::A(value.parse().map_err(|_| "it is no IPv4 address")?),
        ("AAAA", _) => RecordData::Aaaa(value.parse().map_err(|_| "it is no IPv6 address")?),
        ("CNAME", _) => RecordData::Cname(name(value)?),
        ("PTR", _) => RecordData::Ptr(name(value)?),
        ("TXT", _) if value.len() > 255 || !value.bytes().all(|byte| (b' '..127).contains(&byte)) => {
            return Err("a text is of at most 255 plain characters".into());
        }
        ("TXT", _) => RecordData::Txt(value.into()),
        ("MX", [preference, exchange]) => RecordData::Mx { preference: number(preference)?, exchange: name(exchange)? },
        ("MX", _) => return Err("it is not PREFERENCE NAME".into()),
        ("SRV", [priority, weight, port, target]) => {
            RecordData::Srv { priority: number(priority)?, weight: number(weight)?, port: number(port)?, target: name(target)? }
        }
        ("SRV", _) => return Err("it is not PRIORITY WEIGHT PORT NAME".into()),
        _ => return Err("the type is none of A, AAAA, CNAME, MX, PTR, SRV, TXT".into()),
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number of 0 to 65535"))
}

/// The name that a reverse zone's pattern gives an address.
pub fn of_pattern(pattern: &str, address: IpAddr) -> Result<String, String> {
    let numbers: Vec<String> = match address {
        IpAddr::V4(address) => address.octets().iter().map(ToString::to_string).collect(),
        IpAddr::V6(address) => address.segments().iter().map(|segment| format!("{segment:x}")).collect(),
    };
    let mut name = pattern.replace("{ip}", &numbers.join("-"));
    for (at, number) in numbers.iter().enumerate() {
        name = name.replace(&format!("{{{}}}", at + 1), number);
    }
    if name == pattern {
        return Err("it gives all addresses one name: \"{ip}\" stands for the address, \"{1}\" for its first number".into());
    }
    host(&name)
}

/// RFC 1035 allows 255 on the wire: so much text.
const MOST_BYTES: usize = 253;

/// A name of letters, digits, `-` and (as names of services have) `_`.
fn host(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > MOST_BYTES || !name.split('.').all(label) {
        return Err("it is no DNS name".into());
    }
    Ok(name)
}

/// Whether a name is `top` or below it.
pub fn is_inside(name: &str, top: &str) -> bool {
    name.strip_suffix(top).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The whole name of a record.
pub fn absolute(record: &str, zone: &str) -> String {
    if record.is_empty() { zone.to_owned() } else { format!("{record}.{zone}") }
}

/// The names above one, the closest first.
pub fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    let above = |name: &str| name.split_once('.').map(|(_, rest)| rest.len());
    let mut at = name;
    std::iter::from_fn(move || {
        at = &at[at.len() - above(at)?..];
        Some(at)
    })
}

/// A name and those above it, as far as they are below `top`.
pub fn ancestors_within<'a>(name: &'a str, top: &'a str) -> impl Iterator<Item = &'a str> {
    std::iter::once(name).chain(ancestors(name)).take_while(move |name| name.len() > top.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_addresses() {
        let name = |pattern: &str, address: &str| of_pattern(pattern, address.parse().unwrap());
        assert_eq!(name("{1}-{2}-{3}-{4}.hosts.example.org", "198.51.100.7").unwrap(), "198-51-100-7.hosts.example.org");
        assert_eq!(name("h{4}.Example.org.", "198.51.100.7").unwrap(), "h7.example.org");
        assert_eq!(name("{ip}.example.org", "2001:db8::1").unwrap(), "2001-db8-0-0-0-0-0-1.example.org");
        assert!(name("host.example.org", "198.51.100.7").is_err());
        assert!(name("{8}.example.org", "198.51.100.7").is_err());
    }

    #[test]
    fn what_is_above_a_name_is_found() {
        assert_eq!(ancestors("a.b.c").collect::<Vec<_>>(), ["b.c", "c"]);
        assert_eq!(ancestors_within("a.b.c.d", "c.d").collect::<Vec<_>>(), ["a.b.c.d", "b.c.d"]);
        assert!(is_inside("a.b", "b") && is_inside("b", "b") && !is_inside("ab", "b"));
        assert_eq!(parse_data("SRV", "0 50 80 Web.example.org.").unwrap().to_string(), "0 50 80 web.example.org");
    }
}
