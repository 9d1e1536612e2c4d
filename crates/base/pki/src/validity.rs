//! Validity: from when until when a certificate is good.
use crate::PkiError;
use jiff::Timestamp;

/// The first and the last second of a PEM certificate. It is not verified.
pub fn validity_of(certificate_pem: &str) -> Result<(Timestamp, Timestamp), PkiError> {
    let unreadable = |error: &dyn std::fmt::Display| PkiError::Certificate(error.to_string());
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).map_err(|error| unreadable(&error))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&pem.contents).map_err(|error| unreadable(&error))?;
    let second = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|error| unreadable(&error));
    Ok((second(certificate.validity().not_before)?, second(certificate.validity().not_after)?))
}
