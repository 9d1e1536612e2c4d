//! Certificate requests (PKCS #10): made by whoever holds a key, looked at and signed by whoever is an authority.
use crate::authority::{CertificateAuthority, alternative_names_of_request};
use crate::{PkiError, Subject};
use aws_lc_rs::digest;
use clock::Clock;
use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, SanType};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use x509_parser::prelude::FromDer;

/// What a request asks for. Its signature is verified: who made it holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    pub subject: Subject,
    pub dns_names: BTreeSet<String>,
    pub ip_addresses: BTreeSet<IpAddr>,
    /// Whether it asks for e-mail addresses, URIs or other names too.
    pub has_other_names: bool,
    /// SHA-256 of the key's SubjectPublicKeyInfo, in hex.
    pub key_fingerprint: String,
}

impl CertificateRequest {
    pub fn parse(pem: &[u8]) -> Result<Self, PkiError> {
        let unreadable = |error: &dyn std::fmt::Display| PkiError::Certificate(error.to_string());
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| unreadable(&error))?;
        let (_, request) = x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).map_err(|error| unreadable(&error))?;
        // It verifies the signature.
        CertificateSigningRequestParams::from_der(&pem.contents.as_slice().into())?;
        let info = &request.certification_request_info;
        let (dns_names, ip_addresses, has_other_names) = alternative_names_of_request(&request);
        Ok(Self {
            subject: crate::subject::subject(&info.subject)?,
            dns_names,
            ip_addresses,
            has_other_names,
            key_fingerprint: digest::digest(&digest::SHA256, info.subject_pki.raw).as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

/// A new P-256 key, PEM.
pub fn new_key_pem() -> Result<String, PkiError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?.serialize_pem())
}

/// A request for a certificate of one organization, PEM, signed by the key it is for.
pub fn request_pem(common_name: &str, organization: &str, names: &[String], addresses: &[IpAddr], key_pem: &str) -> Result<String, PkiError> {
    let key = KeyPair::from_pem(key_pem).map_err(|error| PkiError::Key(error.to_string()))?;
    let mut parameters = CertificateParams::default();
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::OrganizationName, organization);
    name.push(rcgen::DnType::CommonName, common_name);
    parameters.distinguished_name = name;
    for name in names {
        parameters.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    parameters.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    Ok(parameters.serialize_request(&key)?.pem()?)
}

/// What a certificate made of a request is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Client,
    Server,
}

impl CertificateAuthority {
    /// The certificate a request asks for: its names and key, the usage and validity that are given here, nothing else of it.
    pub fn sign_request(&self, request_pem: &str, usage: Usage, validity: Duration, clock: &dyn Clock) -> Result<String, PkiError> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)?;
        let subject = CertificateRequest::parse(request_pem.as_bytes())?.subject;
        self.sign(request, &subject, usage, validity, clock.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::ManualClock;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn a_signed_request_is_a_certificate_of_its_names_and_the_authoritys_usage() {
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let authority = CertificateAuthority::generate("ca", &clock).unwrap();
        let key = new_key_pem().unwrap();
        let pem = request_pem("system:node:n1", "system:nodes", &["n1".into()], &["192.0.2.7".parse().unwrap()], &key).unwrap();
        let parsed = CertificateRequest::parse(pem.as_bytes()).unwrap();
        assert_eq!(parsed.subject, Subject { common_name: "system:node:n1".into(), organizations: vec!["system:nodes".into()] });
        assert_eq!((parsed.dns_names.len(), parsed.ip_addresses.len(), parsed.has_other_names), (1, 1, false));
        let again = request_pem("system:node:n1", "system:nodes", &[], &[], &key).unwrap();
        assert_eq!(CertificateRequest::parse(again.as_bytes()).unwrap().key_fingerprint, parsed.key_fingerprint, "it is the key's");
        let certificate = authority.sign_request(&pem, Usage::Client, Duration::from_hours(24), &clock).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        assert_eq!(crate::subject_of(&der).unwrap(), parsed.subject);
        let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(clock.now().as_second() as u64));
        let verifier = crate::client_certificate_verifier(authority.certificate_pem()).unwrap();
        verifier.verify_client_cert(&der, &[], now).unwrap();
        let serving = authority.sign_request(&pem, Usage::Server, Duration::from_hours(24), &clock).unwrap();
        verifier.verify_client_cert(&CertificateDer::from_pem_slice(serving.as_bytes()).unwrap(), &[], now).unwrap_err();
        crate::client_config(authority.certificate_pem(), Some((&certificate, &key))).unwrap();
    }

    #[test]
    fn a_request_somebody_changed_is_none() {
        let key = new_key_pem().unwrap();
        let pem = request_pem("system:node:n1", "system:nodes", &[], &[], &key).unwrap();
        let (_, parsed) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let mut der = parsed.contents;
        let at = der.windows(2).position(|pair| pair == b"n1").unwrap();
        der[at + 1] = b'2';
        CertificateSigningRequestParams::from_der(&der.as_slice().into()).unwrap_err();
        CertificateRequest::parse(b"nothing").unwrap_err();
    }
}
