//! Subject: the names a certificate was issued to.
use crate::PkiError;

/// The common name and the organizations of a certificate: a user and its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// The subject of a DER certificate. The certificate is not verified.
pub fn subject_of(certificate: &[u8]) -> Result<Subject, PkiError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).map_err(|error| PkiError::Certificate(error.to_string()))?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue| {
        attribute.as_str().map(str::to_owned).map_err(|error| PkiError::Certificate(format!("its subject is not text: {error}")))
    };
    let subject = certificate.subject();
    Ok(Subject {
        common_name: subject.iter_common_name().next().map(text).transpose()?.unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect::<Result<_, _>>()?,
    })
}
