//! FrontProxy: how this server proves to aggregated servers that it speaks for somebody else.
use super::Backend;
use parking_lot::Mutex;
use pki::Renewable;
use std::collections::HashMap;
use std::sync::Arc;

/// What aggregated servers learn from a ConfigMap: the name in the certificate they may believe.
pub const FRONT_PROXY: &str = "front-proxy-client";
/// Kept configurations; more would be of authorities that were replaced.
const MOST: usize = 256;

pub struct FrontProxy {
    /// Of the authority that aggregated servers are told of.
    pub authority_pem: String,
    /// The certificate this server shows them.
    pub identity: Arc<Renewable>,
    /// By what proves who the server is; `None`: nothing need.
    known: Mutex<HashMap<Option<String>, Arc<rustls::ClientConfig>>>,
}

impl FrontProxy {
    pub fn new(authority_pem: String, identity: Arc<Renewable>) -> Self {
        Self { authority_pem, identity, known: Mutex::default() }
    }

    /// How to speak to this server. The error says why nobody can.
    pub(super) fn tls(&self, backend: &Backend) -> Result<Arc<rustls::ClientConfig>, String> {
        let key = (!backend.unverified).then(|| backend.authority.clone());
        if let Some(known) = self.known.lock().get(&key) {
            return Ok(known.clone());
        }
        let made = match &key {
            None => pki::client_config_unverified_renewable(self.identity.clone()),
            Some(authority) if authority.is_empty() => pki::client_config_renewable(&api_admission::system_authorities(), self.identity.clone()),
            Some(authority) => pki::client_config_renewable(authority, self.identity.clone()),
        };
        let made = Arc::new(made.map_err(|error| format!("unable to load root certificates: {error}"))?);
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, made.clone());
        Ok(made)
    }
}
