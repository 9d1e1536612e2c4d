//! JoinToken: what lets a machine join, and by which it knows the server it joins.
use sha2::{Digest, Sha256};

const PREFIX: &str = "K10";
const HASH_LENGTH: usize = 64;

/// `K10<SHA-256 of the server's authority>::<user>:<secret>`, as k3s writes it; the secret alone pins no server.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Hex, of the authority's PEM text.
    pub ca_hash: Option<String>,
    pub secret: String,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("ca_hash", &self.ca_hash).finish_non_exhaustive()
    }
}

impl JoinToken {
    /// # Errors
    /// What is wrong with the text. It does not show the secret.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(PREFIX).filter(|rest| rest.contains("::")) else {
            return if text.is_empty() || text.contains(char::is_whitespace) {
                Err("it is empty or has blanks in it")
            } else {
                Ok(Self { ca_hash: None, secret: text.to_owned() })
            };
        };
        let (hash, credentials) = rest.split_once("::").ok_or("it has no ::")?;
        if hash.len() != HASH_LENGTH || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("between K10 and :: there has to be the SHA-256 of the server's authority");
        }
        let secret = credentials.split_once(':').map_or(credentials, |(_, secret)| secret);
        if secret.is_empty() || secret.contains(char::is_whitespace) {
            return Err("its secret is empty or has blanks in it");
        }
        Ok(Self { ca_hash: Some(hash.to_ascii_lowercase()), secret: secret.to_owned() })
    }

    /// As users get it: for whoever has the secret, of the server with this authority.
    pub fn render(ca_pem: &str, user: Option<&str>, secret: &str) -> String {
        let user = user.map(|user| format!("{user}:")).unwrap_or_default();
        format!("{PREFIX}{}::{user}{secret}", Self::hash(ca_pem))
    }

    /// Whether this authority is the one that the token names.
    pub fn pins(&self, ca_pem: &str) -> bool {
        self.ca_hash.as_ref().is_none_or(|hash| *hash == Self::hash(ca_pem))
    }

    fn hash(ca_pem: &str) -> String {
        Sha256::digest(ca_pem).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_pins_its_server() {
        let text = JoinToken::render("PEM", Some("node"), "s3cret");
        let token = JoinToken::parse(&text).unwrap();
        assert_eq!(token.secret, "s3cret");
        assert!(token.pins("PEM") && !token.pins("other"));
        let bootstrap = JoinToken::parse(&JoinToken::render("PEM", None, "abcdef.0123456789abcdef")).unwrap();
        assert_eq!(bootstrap.secret, "abcdef.0123456789abcdef");
        let plain = JoinToken::parse("abcdef.0123456789abcdef\n").unwrap();
        assert!(plain.pins("any") && plain.secret == bootstrap.secret);
        assert!(!format!("{token:?}").contains("s3cret"));
        for wrong in ["", "a b", "K10abc::node:x", &text[..text.len() - 6], "K10::x"] {
            JoinToken::parse(wrong).unwrap_err();
        }
    }
}
