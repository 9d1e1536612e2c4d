//! SecretsKeys: the keys Secrets are sealed with on disk, and their rotation, for the API server to offer.
use api_server::SecretsEncryption;
use async_trait::async_trait;
use clock::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store_encryption::Encryption;
use store_sqlite::SqliteStore;

pub struct SecretsKeys {
    encryption: Arc<Encryption>,
    store: Arc<SqliteStore>,
    clock: Arc<dyn Clock>,
    /// One rotation at a time.
    rotating: tokio::sync::Mutex<()>,
    rotated: AtomicBool,
}

impl SecretsKeys {
    pub fn new(encryption: Arc<Encryption>, store: Arc<SqliteStore>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { encryption, store, clock, rotating: tokio::sync::Mutex::default(), rotated: AtomicBool::new(false) })
    }
}

#[async_trait]
impl SecretsEncryption for SecretsKeys {
    fn keys(&self) -> Vec<String> {
        self.encryption.key_names()
    }
    fn stage(&self) -> &'static str {
        match (self.rotating.try_lock().is_err(), self.rotated.load(Ordering::Acquire) || self.keys().len() > 1) {
            (true, _) => "reencrypt_active",
            (false, true) => "reencrypt_finished",
            (false, false) => "start",
        }
    }
    async fn rotate(&self) -> Result<String, String> {
        let _one = self.rotating.lock().await;
        let name = self.encryption.add_key(&*self.clock).map_err(|error| error.to_string())?;
        let rows = self.store.reseal().await.map_err(|error| error.to_string())?;
        self.rotated.store(true, Ordering::Release);
        tracing::info!(key = name, rows, "the encryption key of Secrets was rotated");
        Ok(name)
    }
}
