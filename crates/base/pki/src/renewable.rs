//! Renewable: a certificate and key that can be replaced while connections are made and taken with them.
use crate::tls::{AnyServer, certificates, private_key, provider};
use crate::{Issued, PkiError};
use clock::Clock;
use jiff::Timestamp;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use std::fmt;
use std::sync::{Arc, OnceLock, RwLock};

/// What a process shows of itself. Connections that exist keep what they began with.
pub struct Renewable {
    shown: RwLock<Shown>,
    /// Whom to tell that it is time for another one.
    due: OnceLock<Due>,
}

struct Shown {
    key: Arc<CertifiedKey>,
    renewed_from: Timestamp,
}

struct Due {
    clock: Arc<dyn Clock>,
    tell: Box<dyn Fn() + Send + Sync>,
}

impl Shown {
    fn of(issued: &Issued) -> Result<Self, PkiError> {
        Ok(Self { key: certified(issued)?, renewed_from: crate::renewal_of(&issued.certificate_pem)? })
    }
}

impl Renewable {
    pub fn new(issued: &Issued) -> Result<Arc<Self>, PkiError> {
        Ok(Arc::new(Self { shown: RwLock::new(Shown::of(issued)?), due: OnceLock::new() }))
    }

    pub fn replace(&self, issued: &Issued) -> Result<(), PkiError> {
        let new = Shown::of(issued)?;
        *self.shown.write().expect("no holder of this lock panics") = new;
        Ok(())
    }

    /// Has `tell` called at each connection that finds it to be time for another certificate: timers sleep through a
    /// suspended machine and a clock that is set, connections don't. Only the first to ask is told.
    pub fn when_due(&self, clock: Arc<dyn Clock>, tell: impl Fn() + Send + Sync + 'static) {
        // A second one would say no more than the first.
        let _ = self.due.set(Due { clock, tell: Box::new(tell) });
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let shown = self.shown.read().expect("no holder of this lock panics");
        if let Some(due) = self.due.get().filter(|due| due.clock.now() >= shown.renewed_from) {
            (due.tell)();
        }
        shown.key.clone()
    }
}

impl fmt::Debug for Renewable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewable").finish_non_exhaustive()
    }
}

/// The certificate for a name, where there is one of its own.
type Choice = dyn Fn(&str) -> Option<Arc<Renewable>> + Send + Sync;

/// What a process shows of itself to clients that ask for a name: another certificate where `chosen` has one.
pub struct ByName {
    pub otherwise: Arc<Renewable>,
    pub chosen: Box<Choice>,
}

impl std::fmt::Debug for ByName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByName").field("otherwise", &self.otherwise).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let chosen = hello.server_name().and_then(|name| (self.chosen)(name));
        Some(chosen.as_ref().unwrap_or(&self.otherwise).current())
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

pub(crate) fn certified(issued: &Issued) -> Result<Arc<CertifiedKey>, PkiError> {
    let key = private_key(&issued.key_pem)?;
    let key = CertifiedKey::from_der(certificates(&issued.certificate_pem)?, key, &provider())?;
    Ok(Arc::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CertificateAuthority, LeafRequest};
    use clock::ManualClock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn whoever_connects_when_it_is_time_has_it_told() {
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let authority = CertificateAuthority::generate("ca", &clock).unwrap();
        let request = LeafRequest {
            common_name: "service".into(),
            organizations: vec![],
            dns_names: vec!["service".into()],
            ip_addresses: vec![],
            server: true,
            client: false,
            validity: Duration::from_hours(365 * 24),
        };
        let shown = Renewable::new(&authority.issue(&request, &clock).unwrap()).unwrap();
        let told = Arc::new(AtomicUsize::new(0));
        let telling = told.clone();
        shown.when_due(Arc::new(clock.clone()), move || {
            telling.fetch_add(1, Ordering::SeqCst);
        });
        clock.advance(Duration::from_hours(274 * 24));
        shown.current();
        assert_eq!(told.load(Ordering::SeqCst), 0, "ninety days before its end are not reached");
        clock.advance(Duration::from_hours(2 * 24));
        shown.current();
        assert_eq!(told.load(Ordering::SeqCst), 1);
        shown.replace(&authority.issue(&request, &clock).unwrap()).unwrap();
        shown.current();
        assert_eq!(told.load(Ordering::SeqCst), 1, "the new one is good for long");
    }
}
