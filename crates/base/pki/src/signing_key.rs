//! SigningKey: the P-256 key that signs service account tokens (ES256).
use crate::{PkiError, files};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData};
use std::path::Path;

pub struct SigningKey(KeyPair);

impl SigningKey {
    pub fn generate() -> Result<Self, PkiError> {
        Ok(Self(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?))
    }

    /// The key in `path` (PKCS#8 PEM, mode 0600), made when there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, PkiError> {
        if let Some(pem) = files::read(path)? {
            return Self::from_pem(&pem).map_err(|error| PkiError::File { path: path.to_owned(), what: "P-256 key", why: error.to_string() });
        }
        if let Some(directory) = path.parent() {
            files::create_directory(directory)?;
        }
        let key = Self::generate()?;
        files::write_atomically(path, key.pem().as_bytes(), files::SECRET)?;
        Ok(key)
    }

    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        KeyPair::from_pkcs8_pem_and_sign_algo(pem, &rcgen::PKCS_ECDSA_P256_SHA256).map(Self).map_err(|error| PkiError::Key(error.to_string()))
    }

    /// The private key, PKCS#8 PEM.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }
    /// The public key, SubjectPublicKeyInfo PEM.
    pub fn public_pem(&self) -> String {
        self.0.public_key_pem()
    }
    /// Upstream's key id: the SHA-256 of the public key's DER, base64url.
    pub fn key_id(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.0.subject_public_key_info());
        URL_SAFE_NO_PAD.encode(digest.as_ref())
    }
    /// The public point's coordinates, base64url, as a JWK has them.
    pub fn coordinates(&self) -> (String, String) {
        // The uncompressed point: 0x04, then 32 bytes each.
        let point = &self.0.public_key_raw()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
    }
}
