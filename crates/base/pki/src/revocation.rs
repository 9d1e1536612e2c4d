//! Revocation: serial numbers of certificates, and the list an authority signs of those that no longer count (RFC 5280).
use crate::{CertificateAuthority, PkiError};
use clock::Clock;
use jiff::Timestamp;
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, RevokedCertParams, SerialNumber};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::time::Duration;

/// How long a list is good: whoever holds it fetches another before.
const GOOD_FOR: Duration = Duration::from_hours(24);

/// A certificate's serial number in hexadecimal, without leading zeros.
pub fn serial_of(der: &[u8]) -> Result<String, PkiError> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|error| PkiError::Certificate(error.to_string()))?;
    let hex: String = certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(hex.trim_start_matches('0').to_owned())
}

/// The same of a PEM certificate.
pub fn serial_of_pem(pem: &str) -> Result<String, PkiError> {
    serial_of(&CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| PkiError::Certificate(error.to_string()))?)
}

impl CertificateAuthority {
    /// The list, in PEM, of revoked serial numbers (hexadecimal) and since when. Those of other authorities do no harm in it.
    pub fn revocation_list(&self, revoked: &[(String, Timestamp)], clock: &dyn Clock) -> Result<String, PkiError> {
        let time = |at: Timestamp| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at.as_second().max(0).unsigned_abs());
        let now = clock.now();
        let entry = |(serial, since): &(String, Timestamp)| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from(bytes_of(serial)?),
                revocation_time: time(*since),
                reason_code: None,
                invalidity_date: None,
            })
        };
        let parameters = CertificateRevocationListParams {
            this_update: time(now),
            next_update: time(now) + GOOD_FOR,
            // Lists of one authority are told apart by their time.
            crl_number: SerialNumber::from(now.as_millisecond().max(0).unsigned_abs()),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, PkiError>>()?,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(parameters.signed_by(&Issuer::from_ca_cert_der(self.certificate(), self.key())?)?.pem()?)
    }
}

fn bytes_of(hex: &str) -> Result<Vec<u8>, PkiError> {
    let even = if hex.len().is_multiple_of(2) { hex.to_owned() } else { format!("0{hex}") };
    let byte = |at: usize| even.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..even.len()).step_by(2).map(byte).collect();
    bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| PkiError::Certificate(format!("{hex:?} is not a serial number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeafRequest;
    use clock::ManualClock;
    use x509_parser::prelude::FromDer;

    #[test]
    fn a_list_names_what_was_revoked_and_is_the_authoritys() {
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let authority = CertificateAuthority::generate("ca", &clock).unwrap();
        let request = LeafRequest {
            common_name: "eve".into(),
            organizations: vec![],
            dns_names: vec![],
            ip_addresses: vec![],
            server: false,
            client: true,
            validity: Duration::from_hours(1),
        };
        let serial = |_| serial_of_pem(&authority.issue(&request, &clock).unwrap().certificate_pem).unwrap();
        let serials: Vec<String> = (0..3).map(serial).collect();
        let pem = authority.revocation_list(&[(serials[0].clone(), clock.now()), (serials[1].clone(), clock.now())], &clock).unwrap();
        let (_, parsed) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, list) = x509_parser::revocation_list::CertificateRevocationList::from_der(&parsed.contents).unwrap();
        let named: Vec<String> = list.iter_revoked_certificates().map(|revoked| format!("{:x}", revoked.user_certificate)).collect();
        assert_eq!(named, serials[..2]);
        let der = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1, certificate.public_key().subject_public_key.data.as_ref())
            .verify(list.tbs_cert_list.as_ref(), &list.signature_value.data)
            .unwrap();
        assert!(authority.revocation_list(&[("nothing".into(), clock.now())], &clock).is_err());
    }
}
