//! ServerOptions: what an API server may be told besides what it is made of; without it, upstream's defaults.
use crate::FrontProxy;
use crate::audit::Audit;
use api_auth::User;
use async_trait::async_trait;
use http::Method;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Seals Secrets in the store, for who asks about it or wants new keys.
#[async_trait]
pub trait SecretsEncryption: Send + Sync + 'static {
    /// The names of all keys, the one that is written with first.
    fn keys(&self) -> Vec<String>;
    /// The state of the last rotation: `start`, `reencrypt_active`, or `reencrypt_finished`.
    fn stage(&self) -> &'static str;
    /// Makes a new key and seals everything with it; gives its name.
    async fn rotate(&self) -> Result<String, String>;
}

/// Answers at paths of its own on this server, for whomever the server says it is.
#[async_trait]
pub trait Extension: Send + Sync + 'static {
    /// Whether a path of the host cluster is its (`Some`), and, if so, whether nobody need say who they are there.
    fn is_open(&self, path: &str) -> Option<bool>;
    /// The HTTP code and the JSON body. `peer` is who the connection is from.
    async fn answer(&self, user: &User, peer: &str, method: &Method, path: &str, body: &[u8]) -> (u16, Value);
}

/// A file that is read again when it changes, and what it said when the server was made from it.
#[derive(Clone, Debug)]
pub struct ConfigurationFile {
    pub path: PathBuf,
    pub text: String,
}

pub struct ServerOptions {
    /// What the server's [`Authentication`](api_auth::Authentication) was made from (`authentication-config`).
    pub authentication_config: Option<ConfigurationFile>,
    /// What the server's [`Authorizer`](api_auth::Authorizer) was made from (`authorization-config`).
    pub authorization_config: Option<ConfigurationFile>,
    /// `None`: this server has no paths but its own.
    pub extension: Option<Arc<dyn Extension>>,
    /// How aggregated servers know this one; `None`: none are asked.
    pub front_proxy: Option<FrontProxy>,
    pub encryption: Option<Arc<dyn SecretsEncryption>>,
    /// `None`: nothing is recorded.
    pub audit: Option<Arc<Audit>>,
    /// Whether FlowSchemas say who is served when not all can be (`enable-priority-and-fairness`): `max_reads` and `max_changes` together
    /// are then the seats of all levels.
    pub priority_and_fairness: bool,
    /// Reads served at the same time (`max-requests-inflight`); 0 for no limit.
    pub max_reads: usize,
    /// Changes served at the same time (`max-mutating-requests-inflight`); 0 for no limit.
    pub max_changes: usize,
    /// How long an Event lives after it was last written (`event-ttl`).
    pub event_ttl: Duration,
    /// How long a request may take that neither watches nor streams (`request-timeout`).
    pub request_timeout: Duration,
    /// How long a watch lasts at least that says nothing of it (`min-request-timeout`).
    pub least_watch: Duration,
    /// Whether tokens of projected volumes outlive what was asked for (`service-account-extend-token-expiration`).
    pub extend_tokens: bool,
    /// The longest life of a ServiceAccount's token (`service-account-max-token-expiration`).
    pub longest_token: Option<Duration>,
    /// Threads that give way to all others, for connections that have taken more than their share; without them all are served alike.
    pub behind: Option<Handle>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            authentication_config: None,
            authorization_config: None,
            extension: None,
            front_proxy: None,
            encryption: None,
            audit: None,
            priority_and_fairness: true,
            max_reads: 400,
            max_changes: 200,
            event_ttl: Duration::from_secs(3600),
            request_timeout: Duration::from_secs(60),
            least_watch: Duration::from_secs(1800),
            extend_tokens: true,
            longest_token: None,
            behind: None,
        }
    }
}
