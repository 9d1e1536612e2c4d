//! Signers and what they sign: names, key usages, PEM blocks.
use crate::check::{At, Report};
use crate::fields::Read;
use api_meta::{FieldErrors, names};
use base64::{Engine, engine::general_purpose::STANDARD};

pub const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The name of a signer: a domain of at least two labels, a slash, and a path.
pub fn name(errors: &mut FieldErrors, at: &At) {
    const LONGEST: usize = 571;
    if at.text().is_empty() {
        return errors.required(at, "");
    }
    if at.text().len() > LONGEST {
        errors.too_long(at, LONGEST);
    }
    let parts: Vec<&str> = at.text().split('/').collect();
    let [domain, path] = parts[..] else {
        return errors.invalid(at, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
    };
    if domain.split('.').count() < 2 {
        errors.invalid_as(at, domain, "should be a domain with at least two segments separated by dots");
    }
    for label in domain.split('.') {
        for reason in names::dns1123_label(label) {
            errors.invalid_as(at, domain, format!("validating label {label:?}: {reason}"));
        }
    }
    for reason in names::dns1123_subdomain(path) {
        errors.invalid_as(at, path, format!("validating label {path:?}: {reason}"));
    }
}

/// Whether base64 text holds a PEM block of this kind.
pub fn holds_pem(encoded: &str, kind: &str) -> bool {
    let decoded = STANDARD.decode(encoded).unwrap_or_default();
    let text = String::from_utf8_lossy(&decoded);
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    text.find(&begin).is_some_and(|start| text[start..].contains(&end))
}
