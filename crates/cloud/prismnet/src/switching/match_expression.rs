//! Match expressions: what an ACL says it is about, in OVN's words, as nft writes it. Pure.
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// What names in an expression stand for. `None`: there is no such thing.
pub trait Names {
    /// An address set's name in nft.
    fn address_set(&self, name: &str) -> Option<String>;
    fn port(&self, name: &str) -> Option<Ipv4Addr>;
}

/// The same for nft. `Ok(None)`: it names a port that is not there, so it matches nothing.
///
/// # Errors
/// What is wrong with it, for its author.
pub fn rule(expression: &str, names: &dyn Names) -> Result<Option<String>, String> {
    if expression.len() > 4096 {
        return Err("a match has no more than 4096 bytes".into());
    }
    if expression.trim() == "1" {
        return Ok(Some(String::new()));
    }
    let mut terms = Vec::new();
    for text in expression.split("&&") {
        match term(text.trim(), names)? {
            Some(text) => terms.push(text),
            None => return Ok(None),
        }
    }
    terms.retain(|term| !term.is_empty());
    Ok(Some(terms.iter().map(|term| format!("{term} ")).collect()))
}

fn term(text: &str, names: &dyn Names) -> Result<Option<String>, String> {
    match text {
        "ip4" | "ip" => return Ok(Some(String::new())),
        "tcp" | "udp" | "sctp" => return Ok(Some(format!("meta l4proto {text}"))),
        "icmp4" | "icmp" => return Ok(Some("meta l4proto icmp".into())),
        "" => return Err("a match is comparisons joined by `&&`".into()),
        _ => {}
    }
    let (field, operator, operand) = comparison(text)?;
    let only_equal = || if matches!(operator, "==" | "!=") { Ok(()) } else { Err(format!("{field} can only be compared by == and !=, in {text:?}")) };
    let not = if operator == "!=" { "!= " } else { "" };
    Ok(Some(match field {
        "ip4.src" | "ip4.dst" => {
            only_equal()?;
            format!("ip {} {not}{}", if field == "ip4.src" { "saddr" } else { "daddr" }, addresses(operand, names)?)
        }
        "tcp.src" | "tcp.dst" | "udp.src" | "udp.dst" | "sctp.src" | "sctp.dst" => {
            let (protocol, end) = field.split_once('.').unwrap_or_default();
            let end = if end == "src" { "sport" } else { "dport" };
            let operator = if operator == "==" { String::new() } else { format!("{operator} ") };
            format!("{protocol} {end} {operator}{}", numbers(operand, &operator)?)
        }
        "inport" | "outport" => {
            only_equal()?;
            let name =
                operand.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(|| format!("a port's name stands in quotes, in {text:?}"))?;
            match names.port(name) {
                Some(address) => format!("ip {} {not}{address}", if field == "inport" { "saddr" } else { "daddr" }),
                None if operator == "!=" => String::new(),
                None => return Ok(None),
            }
        }
        other => return Err(format!("{other:?} is no field that can be compared")),
    }))
}

fn comparison(text: &str) -> Result<(&str, &str, &str), String> {
    let at = text.find(['=', '!', '<', '>']).ok_or_else(|| format!("{text:?} compares nothing"))?;
    let (field, rest) = text.split_at(at);
    let operator = ["==", "!=", "<=", ">=", "<", ">"].into_iter().find(|operator| rest.starts_with(operator));
    let operator = operator.ok_or_else(|| format!("{text:?} compares by none of ==, !=, <, <=, >, >="))?;
    Ok((field.trim(), operator, rest[operator.len()..].trim()))
}

/// The elements of `{ a, b }`, or the one there is.
fn elements(operand: &str) -> Result<Vec<&str>, String> {
    let inner = match operand.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(|| format!("{operand:?} lacks its closing brace"))?,
        None => operand,
    };
    let all: Vec<&str> = inner.split(',').map(str::trim).collect();
    if all.len() > 1 && !operand.starts_with('{') { Err(format!("{operand:?} lacks its braces")) } else { Ok(all) }
}

fn addresses(operand: &str, names: &dyn Names) -> Result<String, String> {
    if let Some(name) = operand.strip_prefix('$') {
        return names.address_set(name).map(|set| format!("@{set}")).ok_or_else(|| format!("there is no address set {name:?}"));
    }
    let all: Vec<Ipv4Net> = elements(operand)?.into_iter().map(address).collect::<Result<_, _>>()?;
    Ok(format!("{{ {} }}", networks(&all)))
}

/// Networks as elements of a set, in which none may be in another.
pub fn networks(all: &[Ipv4Net]) -> String {
    Ipv4Net::aggregate(&all.to_vec()).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// An address or a network.
pub fn address(text: &str) -> Result<Ipv4Net, String> {
    let network = text.parse::<Ipv4Net>().or_else(|_| text.parse::<Ipv4Addr>().map(Ipv4Net::from));
    network.map(|network| network.trunc()).map_err(|_| format!("{text:?} is neither an IPv4 address nor a network"))
}

fn numbers(operand: &str, operator: &str) -> Result<String, String> {
    let all = elements(operand)?;
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port's number"));
    let all: BTreeSet<u16> = all.into_iter().map(number).collect::<Result<_, _>>()?;
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    match &all[..] {
        [one] => Ok(one.clone()),
        _ if operator.is_empty() || operator.starts_with("!=") => Ok(format!("{{ {} }}", all.join(", "))),
        _ => Err(format!("{operand:?} can only be compared by == and !=")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known;

    impl Names for Known {
        fn address_set(&self, name: &str) -> Option<String> {
            (name == "frontend_pods").then(|| "set-1".to_owned())
        }
        fn port(&self, name: &str) -> Option<Ipv4Addr> {
            (name == "web-c1").then_some(Ipv4Addr::new(10, 244, 1, 5))
        }
    }

    #[test]
    fn matches_are_written_for_nft() {
        for (expression, expected) in [
            ("ip4.src == $frontend_pods && tcp.dst == 80", "ip saddr @set-1 tcp dport 80 "),
            ("1", ""),
            ("ip4", ""),
            ("ip4 && icmp4", "meta l4proto icmp "),
            ("ip4.dst != 10.0.0.1", "ip daddr != { 10.0.0.1/32 } "),
            ("ip4.src=={10.0.0.0/8,192.0.2.1} && udp", "ip saddr { 10.0.0.0/8, 192.0.2.1/32 } meta l4proto udp "),
            ("tcp.dst == {80, 443}", "tcp dport { 80, 443 } "),
            ("udp.src >= 1024", "udp sport >= 1024 "),
            ("sctp.dst == 7", "sctp dport 7 "),
            ("inport == \"web-c1\" && ip4.dst == 10.0.0.7", "ip saddr 10.244.1.5 ip daddr { 10.0.0.7/32 } "),
            ("outport != \"gone\"", ""),
        ] {
            assert_eq!(rule(expression, &Known), Ok(Some(expected.to_owned())), "{expression}");
        }
        assert_eq!(rule("outport == \"gone\" && tcp", &Known), Ok(None));
    }

    #[test]
    fn what_can_not_be_read_is_refused() {
        for (expression, why) in [
            ("", "joined by"),
            ("tcp.dst == 80 || udp.dst == 80", "no port's number"),
            ("ip4.src == $nobody", "no address set"),
            ("ip4.src == x; drop", "neither an IPv4 address"),
            ("ip4.src < 10.0.0.1", "only be compared by"),
            ("tcp.dst == 70000", "no port's number"),
            ("tcp.dst < {1, 2}", "only be compared by"),
            ("tcp.dst == {1, 2", "closing brace"),
            ("tcp.dst == 1, 2", "lacks its braces"),
            ("eth.src == 1", "no field"),
            ("inport == web", "in quotes"),
            ("ip4.src = 10.0.0.1", "compares by none"),
            ("accept", "compares nothing"),
        ] {
            let told = rule(expression, &Known).unwrap_err();
            assert!(told.contains(why), "{expression}: {told}");
        }
    }
}
