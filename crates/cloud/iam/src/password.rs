//! Passwords: hashed with argon2id, compared without telling which accounts there are.
use crate::IamError;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::LazyLock;

/// Shorter ones are refused; so are longer ones than anybody types.
const LENGTHS: std::ops::RangeInclusive<usize> = 12..=256;

/// Against which passwords of accounts that are not there are checked, so that they take as long.
static NOBODYS: LazyLock<String> = LazyLock::new(|| hashed("nobody's password"));

/// OWASP's second choice: 19 MiB, two passes, one lane.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(19 * 1024, 2, 1, None).expect("these parameters are within argon2's bounds"))
}

/// # Errors
/// When it is too short or too long.
pub fn hash(password: &str) -> Result<String, IamError> {
    if !LENGTHS.contains(&password.len()) {
        return Err(IamError::Invalid(format!("a password must have {} to {} bytes", LENGTHS.start(), LENGTHS.end())));
    }
    Ok(hashed(password))
}

fn hashed(password: &str) -> String {
    let salt = SaltString::encode_b64(&clock::random_bytes::<16>()).expect("sixteen bytes are a salt");
    argon2().hash_password(password.as_bytes(), &salt).expect("hashing works within argon2's bounds").to_string()
}

/// Whether it is the password. `None` is no account's, and takes as long to say no. It takes tens of milliseconds: not for a task of the runtime.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    let parsed = PasswordHash::new(hash.unwrap_or(&NOBODYS));
    let right = parsed.is_ok_and(|parsed| password.len() <= *LENGTHS.end() && argon2().verify_password(password.as_bytes(), &parsed).is_ok());
    right && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_is_right() {
        let stored = hash("correct horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify("correct horse battery", Some(&stored)));
        assert!(!verify("correct horse batterz", Some(&stored)));
        assert!(!verify("nobody's password", None));
        assert!(!verify("correct horse battery", Some("not a hash")));
        assert!(hash("short").is_err() && hash(&"x".repeat(257)).is_err());
        assert_ne!(hash("correct horse battery").unwrap(), stored, "each has a salt of its own");
    }
}
