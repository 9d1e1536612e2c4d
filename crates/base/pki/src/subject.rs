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
    subject(certificate.subject())
}

/// The subject a PEM certificate request asks for. Its signature is not verified.
pub fn requested_subject(pem: &[u8]) -> Result<Subject, PkiError> {
    use x509_parser::prelude::FromDer;
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|error| PkiError::Certificate(error.to_string()))?;
    let (_, request) =
        x509_parser::certification_request::X509CertificationRequest::from_der(&pem.contents).map_err(|error| PkiError::Certificate(error.to_string()))?;
    subject(&request.certification_request_info.subject)
}

pub(crate) fn subject(name: &x509_parser::x509::X509Name<'_>) -> Result<Subject, PkiError> {
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue| {
        attribute.as_str().map(str::to_owned).map_err(|error| PkiError::Certificate(format!("its subject is not text: {error}")))
    };
    Ok(Subject {
        common_name: name.iter_common_name().next().map(text).transpose()?.unwrap_or_default(),
        organizations: name.iter_organization().map(text).collect::<Result<_, _>>()?,
    })
}
