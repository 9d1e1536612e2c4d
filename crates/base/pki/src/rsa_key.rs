//! RsaKey: the RSA key of 2048 bits that signs tokens (RS256) where elliptic curves are not known.
use crate::PkiError;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

pub struct RsaKey(KeyPair);

fn unusable(error: impl std::fmt::Display) -> PkiError {
    PkiError::Key(error.to_string())
}

impl RsaKey {
    pub fn generate() -> Result<Self, PkiError> {
        KeyPair::generate(KeySize::Rsa2048).map(Self).map_err(unusable)
    }

    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(unusable)?;
        KeyPair::from_pkcs8(der.secret_pkcs8_der()).map(Self).map_err(unusable)
    }

    /// The private key, PKCS#8 PEM.
    pub fn pem(&self) -> Result<String, PkiError> {
        let der: Pkcs8V1Der = self.0.as_der().map_err(unusable)?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
    }

    fn public_der(&self) -> Result<PublicKeyX509Der<'static>, PkiError> {
        self.0.public_key().as_der().map_err(unusable)
    }

    /// As for keys of other kinds: the SHA-256 of the public key's DER, base64url.
    pub fn key_id(&self) -> Result<String, PkiError> {
        Ok(URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.public_der()?.as_ref()).as_ref()))
    }

    /// Modulus and exponent, base64url, as a JWK has them.
    pub fn numbers(&self) -> Result<(String, String), PkiError> {
        let der = self.public_der()?;
        let (_, info) = SubjectPublicKeyInfo::from_der(der.as_ref()).map_err(unusable)?;
        let PublicKey::RSA(numbers) = info.parsed().map_err(unusable)? else { return Err(unusable("it is no RSA key")) };
        // DER has a zero in front of a first bit that is set; a JWK has none.
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(&bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]);
        Ok((number(numbers.modulus), number(numbers.exponent)))
    }
}
