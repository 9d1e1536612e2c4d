//! ServedCertificate: what a server shows its clients, replaced while they come and go.
use crate::tls::{certificates, private_key, provider};
use crate::{Issued, PkiError};
use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// Connections under way keep the certificate they began with.
#[derive(Debug)]
pub struct ServedCertificate(ArcSwap<CertifiedKey>);

impl ServedCertificate {
    pub fn new(issued: &Issued) -> Result<Arc<Self>, PkiError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(issued)?))))
    }

    /// Shows another from the next connection on.
    pub fn replace(&self, issued: &Issued) -> Result<(), PkiError> {
        self.0.store(Arc::new(certified(issued)?));
        Ok(())
    }
}

impl ResolvesServerCert for ServedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified(issued: &Issued) -> Result<CertifiedKey, PkiError> {
    Ok(CertifiedKey::from_der(certificates(&issued.certificate_pem)?, private_key(&issued.key_pem)?, &provider())?)
}
