//! What a certificate says: until when it is good, for which addresses, and of whom it is.
use crate::PkiError;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The first and the last second of a PEM certificate. It is not verified.
pub fn validity_of(certificate_pem: &str) -> Result<(Timestamp, Timestamp), PkiError> {
    let unreadable = |error: &dyn std::fmt::Display| PkiError::Certificate(error.to_string());
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).map_err(|error| unreadable(&error))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&pem.contents).map_err(|error| unreadable(&error))?;
    let second = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|error| unreadable(&error));
    Ok((second(certificate.validity().not_before)?, second(certificate.validity().not_after)?))
}

/// The DER form of a PEM certificate.
pub fn der_of(certificate_pem: &str) -> Result<Vec<u8>, PkiError> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).map_err(|error| PkiError::Certificate(error.to_string()))?;
    Ok(pem.contents)
}

/// The addresses a PEM certificate is for.
pub fn addresses_of(certificate_pem: &str) -> Result<BTreeSet<IpAddr>, PkiError> {
    let der = der_of(certificate_pem)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(|error| PkiError::Certificate(error.to_string()))?;
    Ok(crate::authority::alternative_names(&certificate).1)
}

/// Whether an authority's key has signed a certificate, both PEM. What can't be read was not.
pub fn is_issued_by(certificate_pem: &str, authority_pem: &str) -> bool {
    let (Ok(leaf), Ok(authority)) = (der_of(certificate_pem), der_of(authority_pem)) else { return false };
    let (Ok((_, leaf)), Ok((_, authority))) = (x509_parser::parse_x509_certificate(&leaf), x509_parser::parse_x509_certificate(&authority)) else {
        return false;
    };
    let key = authority.public_key().subject_public_key.data.as_ref();
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1, key);
    key.verify(leaf.tbs_certificate.as_ref(), &leaf.signature_value.data).is_ok()
}
