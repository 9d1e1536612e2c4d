//! TrustedLeaf: a server's certificate that is itself one of those trusted, as whoever signs their own certificate shows it.
//!
//! Such a certificate is mostly marked as an authority's, which the library takes from no server. Go's does, and so do
//! those who write webhooks: `openssl req -x509` makes nothing else.
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Verifies as the library does, and takes a trusted certificate for what it says it is.
#[derive(Debug)]
pub struct TrustedLeaf {
    pub chains: Arc<WebPkiServerVerifier>,
    pub trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for TrustedLeaf {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.trusted.contains(end_entity) {
            return self.chains.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        }
        check_time(end_entity, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > parsed.validity().not_after.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const DAY: u64 = 24 * 3600;

    /// A certificate signed with its own key, an authority's by its marks.
    fn self_signed(name: &str) -> (String, CertificateDer<'static>) {
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2026, 2, 1);
        let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        (certificate.pem(), certificate.der().clone())
    }

    #[test]
    fn who_signs_their_own_certificate_is_believed_by_who_trusts_that_one() {
        let ((pem, own), (_, other)) = (self_signed("a.example.com"), self_signed("a.example.com"));
        let verifier = crate::tls::server_verifier(&pem).unwrap();
        let january = u64::try_from(rcgen::date_time_ymd(2026, 1, 1).unix_timestamp()).unwrap();
        let check = |certificate: &CertificateDer<'_>, name: &str, day: u64| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(january + day * DAY));
            verifier.verify_server_cert(certificate, &[], &ServerName::try_from(name.to_owned()).unwrap(), &[], at).is_ok()
        };
        assert!(check(&own, "a.example.com", 10));
        assert!(!check(&own, "b.example.com", 10), "a certificate is for its names");
        assert!(!check(&own, "a.example.com", 40), "and for its time");
        assert!(!check(&other, "a.example.com", 10), "of another key it is another");
    }
}
