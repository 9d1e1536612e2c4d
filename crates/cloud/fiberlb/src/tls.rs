//! TLS of HTTPS listeners: the certificate of the name that is asked for, else one of our own that nobody trusts.
use crate::{Certificates, Error};
use parking_lot::RwLock;
use pki::{CertificateAuthority, LeafRequest};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;

/// It is made anew at every start.
const FALLBACK_VALIDITY: Duration = Duration::from_secs(3650 * 24 * 3600);

/// A certificate with its key, as a `kubernetes.io/tls` Secret holds them in PEM.
pub fn certified_key(certificate_pem: &[u8], key_pem: &[u8], provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Certificate(error.to_string());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<_, _>>().map_err(|error| wrong(&error))?;
    if chain.is_empty() {
        return Err(Error::Certificate("the PEM text holds none".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| wrong(&error))?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| wrong(&error))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| wrong(&error))?;
    Ok(certified)
}

/// Certificates that may be replaced while connections come.
#[derive(Debug)]
pub struct Resolver {
    certificates: RwLock<Arc<Certificates>>,
    fallback: Arc<CertifiedKey>,
}

impl Resolver {
    pub fn new(certificates: Arc<Certificates>, fallback: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self { certificates: RwLock::new(certificates), fallback })
    }
    pub fn replace(&self, certificates: Arc<Certificates>) {
        *self.certificates.write() = certificates;
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase).unwrap_or_default();
        let found = self.certificates.read().of(&name).cloned();
        Some(found.unwrap_or_else(|| self.fallback.clone()))
    }
}

/// The certificate for names that nobody gave one for.
pub fn fallback(clock: &dyn clock::Clock) -> Result<Arc<CertifiedKey>, Error> {
    let wrong = |error: pki::PkiError| Error::Certificate(error.to_string());
    let authority = CertificateAuthority::generate("FiberLB default certificate", clock).map_err(wrong)?;
    let request = LeafRequest {
        common_name: "fiberlb.default".into(),
        organizations: Vec::new(),
        dns_names: vec!["fiberlb.default".into()],
        ip_addresses: Vec::new(),
        server: true,
        client: false,
        validity: FALLBACK_VALIDITY,
    };
    let issued = authority.issue(&request, clock).map_err(wrong)?;
    Ok(Arc::new(certified_key(issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes(), &pki::provider())?))
}

/// HTTP/2 and HTTP/1.1 over TLS 1.2 or later.
pub fn server_config(resolver: Arc<Resolver>) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(pki::provider()).with_safe_default_protocol_versions();
    let mut config = builder.map_err(|error| Error::Certificate(error.to_string()))?.with_no_client_auth().with_cert_resolver(resolver);
    // Clients that come back need no new key exchange, and no memory of ours: their tickets are sealed for some hours.
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|error| Error::Certificate(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
