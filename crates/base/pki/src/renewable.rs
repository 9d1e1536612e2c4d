//! Renewable: a certificate and key that can be replaced while connections are made and taken with them.
use crate::tls::{AnyServer, certificates, private_key, provider};
use crate::{Issued, PkiError};
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use std::sync::{Arc, RwLock};

/// What a process shows of itself. Connections that exist keep what they began with.
#[derive(Debug)]
pub struct Renewable(RwLock<Arc<CertifiedKey>>);

impl Renewable {
    pub fn new(issued: &Issued) -> Result<Arc<Self>, PkiError> {
        Ok(Arc::new(Self(RwLock::new(certified(issued)?))))
    }

    pub fn replace(&self, issued: &Issued) -> Result<(), PkiError> {
        let new = certified(issued)?;
        *self.0.write().expect("no holder of this lock panics") = new;
        Ok(())
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.0.read().expect("no holder of this lock panics").clone()
    }
}

impl ResolvesClientCert for Renewable {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Renewable {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// A client's TLS that trusts `ca_pem` alone and shows what `identity` holds at that moment.
pub fn client_config_renewable(ca_pem: &str, identity: Arc<Renewable>) -> Result<ClientConfig, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem)? {
        roots.add(certificate)?;
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_client_cert_resolver(identity))
}

/// A client's TLS that **trusts whoever answers** and shows what `identity` holds at that moment.
pub fn client_config_unverified_renewable(identity: Arc<Renewable>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer)).with_client_cert_resolver(identity))
}

fn certified(issued: &Issued) -> Result<Arc<CertifiedKey>, PkiError> {
    let key = private_key(&issued.key_pem)?;
    let key = CertifiedKey::from_der(certificates(&issued.certificate_pem)?, key, &provider())?;
    Ok(Arc::new(key))
}
