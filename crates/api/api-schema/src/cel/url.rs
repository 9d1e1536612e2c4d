//! Url: the parts of an absolute URL, as Go's `url.ParseRequestURI` takes it apart.
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub text: String,
    pub scheme: String,
    /// With its port.
    pub host: String,
    pub path: String,
    pub query: String,
}

impl Url {
    /// A URL with a scheme, or a path that starts with a slash.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("URL parse error during conversion from string: parse {text:?}: {why}"));
        if text.is_empty() {
            return bad("empty url");
        }
        if text.chars().any(|c| c.is_control()) {
            return bad("net/url: invalid control character in URL");
        }
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = match before.find(':') {
            Some(0) => return bad("missing protocol scheme"),
            Some(at) if is_scheme(&before[..at]) => (before[..at].to_ascii_lowercase(), &before[at + 1..]),
            _ => (String::new(), before),
        };
        if scheme.is_empty() && !rest.starts_with('/') || !scheme.is_empty() && !rest.starts_with('/') {
            return bad("invalid URI for request");
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() => {
                let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
                (authority.rsplit('@').next().unwrap_or_default(), path)
            }
            _ => ("", rest),
        };
        if host.chars().any(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')) {
            return bad("invalid character in host name");
        }
        let after_host = if host.starts_with('[') {
            match host.find(']') {
                Some(at) => &host[at + 1..],
                None => return bad("missing ']' in host"),
            }
        } else {
            host.find(':').map_or("", |at| &host[at..])
        };
        if !after_host.is_empty() && !after_host.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit())) {
            return bad(&format!("invalid port {after_host:?} after host"));
        }
        Ok(Self { text: text.to_owned(), scheme, host: host.to_owned(), path: path.to_owned(), query: query.to_owned() })
    }

    pub fn hostname(&self) -> &str {
        let host = match self.host.strip_prefix('[') {
            Some(rest) => return rest.split(']').next().unwrap_or_default(),
            None => &self.host,
        };
        host.split(':').next().unwrap_or_default()
    }
    pub fn port(&self) -> &str {
        let after = self.host.rsplit(']').next().unwrap_or_default();
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }
    /// The path with what must be escaped escaped.
    pub fn escaped_path(&self) -> String {
        const KEPT: percent_encoding::AsciiSet =
            percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}').add(b'|').add(b'\\').add(b'^');
        percent_encoding::utf8_percent_encode(&self.path, &KEPT).to_string()
    }
    pub fn parameters(&self) -> BTreeMap<String, Vec<String>> {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for part in self.query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            all.entry(decode(key)).or_default().push(decode(value));
        }
        all
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = Url::parse("https://user@example.com:80/a b?x=1&x=2&y=c%20d").unwrap();
        assert_eq!((url.scheme.as_str(), url.host.as_str(), url.hostname(), url.port()), ("https", "example.com:80", "example.com", "80"));
        assert_eq!((url.escaped_path().as_str(), url.parameters()["x"].len(), url.parameters()["y"][0].as_str()), ("/a%20b", 2, "c d"));
        assert_eq!(Url::parse("https://[::1]:80/").unwrap().hostname(), "::1");
        assert!(Url::parse("/path").is_ok() && Url::parse("path").is_err() && Url::parse("https://a:b/").is_err() && Url::parse("").is_err());
    }
}
