//! A subject with any number of organizations, which rcgen's names, one value a type, cannot hold.
use crate::{PkiError, Subject};
use rcgen::{KeyPair, SigningKey};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x0a];
/// AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758, 3.2).
const ECDSA_WITH_SHA256: &[u8] = &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// The same certificate issued to `subject`, signed again by `key`, which must be the P-256 key that signed it.
pub(crate) fn with_subject(certificate: &[u8], subject: &Subject, key: &KeyPair) -> Result<Vec<u8>, PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| PkiError::Certificate(error.to_string()))?;
    let body = parsed.tbs_certificate.as_ref();
    let old = parsed.tbs_certificate.subject.as_raw();
    // Both are slices of `certificate`, so their addresses say where one lies in the other.
    let start = old.as_ptr() as usize - body.as_ptr() as usize;
    let header = header_length(body);
    let body = element(SEQUENCE, &[&body[header..start], &name(subject), &body[start + old.len()..]]);
    let signature = key.sign(&body)?;
    // A BIT STRING's first byte counts the unused bits of its last.
    Ok(element(SEQUENCE, &[&body, ECDSA_WITH_SHA256, &element(BIT_STRING, &[&[0], &signature])]))
}

fn name(subject: &Subject) -> Vec<u8> {
    let attribute = |kind: &[u8], value: &str| element(SET, &[&element(SEQUENCE, &[kind, &element(UTF8_STRING, &[value.as_bytes()])])]);
    let organizations = subject.organizations.iter().map(|organization| attribute(ORGANIZATION, organization));
    let parts: Vec<Vec<u8>> = organizations.chain([attribute(COMMON_NAME, &subject.common_name)]).collect();
    element(SEQUENCE, &[&parts.concat()])
}

fn element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let length: usize = contents.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().position(|b| *b != 0).unwrap_or(0)..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    contents.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// Bytes of tag and length of the DER element that `bytes` starts with.
fn header_length(bytes: &[u8]) -> usize {
    match bytes.get(1) {
        Some(length) if length & 0x80 != 0 => 2 + usize::from(length & 0x7f),
        _ => 2,
    }
}
