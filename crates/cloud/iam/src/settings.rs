//! IamSettings: how tokens are made and checked, and how often may be asked.
use crate::oidc::ProviderSettings;
use crate::signing_keys::SigningAlgorithm;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct IamSettings {
    /// `iss` of tokens, and the only one accepted.
    pub issuer: String,
    /// `aud` of tokens that name no other, and what a token must be for at the API.
    pub audience: String,
    /// How long a token is good that asks for nothing else.
    pub token_ttl: Duration,
    pub longest_token: Duration,
    /// How long after a login no new password is asked for.
    pub session_ttl: Duration,
    pub signing_algorithm: SigningAlgorithm,
    /// Whether this IAM says what is signed with, where several share their keys.
    pub makes_keys: bool,
    /// Where users may log in instead of by a password.
    pub providers: Vec<ProviderSettings>,
    /// Accept tokens signed with this secret (HS256). None are issued.
    pub shared_secret: Option<Vec<u8>>,
    /// Reviews a second that one client may ask for, and as many at once.
    pub reviews_per_second: u32,
    /// Passwords a minute that may be tried for one account.
    pub logins_per_minute: u32,
}

impl Default for IamSettings {
    fn default() -> Self {
        Self {
            issuer: "https://iam.plasmacloud.io".into(),
            audience: "k8shost".into(),
            token_ttl: Duration::from_secs(3600),
            longest_token: Duration::from_secs(24 * 3600),
            session_ttl: Duration::from_secs(30 * 24 * 3600),
            signing_algorithm: SigningAlgorithm::default(),
            makes_keys: false,
            providers: Vec::new(),
            shared_secret: None,
            reviews_per_second: 20_000,
            logins_per_minute: 10,
        }
    }
}
