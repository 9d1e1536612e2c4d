//! Rules for names that the base vocabulary has no need of: ports, variables, headers, hosts, paths.
use api_meta::names;
pub use api_meta::names::domain_prefixed_path;

/// An IANA service name, as container ports have: "http", "metrics-2".
pub fn port_name(name: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if name.len() > 15 {
        reasons.push("must be no more than 15 bytes".into());
    }
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        reasons.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        reasons.push("must contain at least one letter (a-z)".into());
    }
    if name.contains("--") {
        reasons.push("must not contain consecutive hyphens".into());
    }
    if name.starts_with('-') || name.ends_with('-') {
        reasons.push("must not begin or end with a hyphen".into());
    }
    reasons
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn variable_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|byte| (0x20..=0x7e).contains(&byte) && byte != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
}

/// The name of an HTTP header.
pub fn header_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    vec!["a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".into()]
}

/// A subdomain whose first label is `*`.
pub fn wildcard_subdomain(name: &str) -> Vec<String> {
    let rest = name.strip_prefix("*.").unwrap_or_default();
    if names::dns1123_subdomain(rest).is_empty() {
        return Vec::new();
    }
    vec!["a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".into()]
}

/// A name with a domain: `example.com/name`, or at least three labels for a plain domain.
pub fn fully_qualified(name: &str) -> Vec<String> {
    let mut reasons = names::dns1123_subdomain(name);
    if reasons.is_empty() && name.split('.').count() < 3 {
        reasons.push("should be a domain with at least three segments separated by dots".into());
    }
    reasons
}

/// An identifier of the C kind.
pub fn c_identifier(name: &str) -> Vec<String> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Vec::new();
    }
    vec!["a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')".into()]
}

/// A relative path that stays below where it starts.
pub fn descending_path(path: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    if path.starts_with('/') {
        reasons.push("must be a relative path".into());
    }
    reasons.extend(no_backsteps(path));
    reasons
}

/// A descending path that also leaves `..`-names to the kubelet.
pub fn unreserved_path(path: &str) -> Vec<String> {
    let mut reasons = descending_path(path);
    if path.starts_with("..") && !path.split('/').any(|part| part == "..") {
        reasons.push("must not start with '..'".into());
    }
    reasons
}

/// A path without a step back.
pub fn no_backsteps(path: &str) -> Vec<String> {
    if path.split('/').any(|part| part == "..") { vec!["must not contain '..'".into()] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_tell_good_names_from_bad_ones() {
        let check = |rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]| {
            good.iter().for_each(|name| assert!(rule(name).is_empty(), "{name}: {:?}", rule(name)));
            bad.iter().for_each(|name| assert!(!rule(name).is_empty(), "{name}"));
        };
        check(port_name, &["http", "a-1", "1a"], &["", "80", "-a", "a-", "a--b", "HTTP", "a_b", "sixteen-letters-"]);
        check(variable_name, &["A", "my.var-1", "a b"], &["", "A=B", "ä"]);
        check(wildcard_subdomain, &["*.example.com"], &["*", "*.", "a.*.b", "example.com"]);
        check(domain_prefixed_path, &["example.com/x", "k8s.io/ingress/nginx"], &["x", "/x", "a/", "A_/x"]);
        check(descending_path, &["a/b", "..a"], &["/a", "a/../b", ".."]);
        check(unreserved_path, &["a/b"], &["..a", ".."]);
    }
}
