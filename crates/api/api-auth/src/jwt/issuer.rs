//! Issuer: one provider whose tokens are taken (OpenID Connect Discovery 1.0): its keys, and what its tokens have to say.
use super::claims::Meaning;
use super::configuration;
use super::signature::{Key, Unverified, keys_of};
use crate::User;
use clock::Clock;
use https::Https;
use parking_lot::RwLock;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys are asked for at most so often, whatever tokens are shown.
const BETWEEN_FETCHES: Duration = Duration::from_secs(1);
/// What a clock may be behind its issuer's (`nbf`).
const NOT_BEFORE_LEEWAY: i64 = 300;

pub(super) struct Issuer {
    settings: configuration::Issuer,
    meaning: Meaning,
    https: Https,
    keys: RwLock<Arc<Vec<Key>>>,
    /// When keys were last asked for, and why there were none.
    fetched: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
    clock: Arc<dyn Clock>,
}

impl Issuer {
    pub fn new(settings: configuration::Issuer, meaning: Meaning, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let authority = Some(settings.certificate_authority.as_str()).filter(|pem| !pem.is_empty());
        let https = Https::trusting(authority).map_err(|error| format!("issuer {:?}: {error:#}", settings.url))?;
        Ok(Self { settings, meaning, https, keys: RwLock::default(), fetched: tokio::sync::Mutex::default(), clock })
    }

    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// The user of a token that names this issuer, and the second since 1970 that it ends at.
    pub async fn user(&self, token: &Unverified<'_>) -> Result<(User, i64), String> {
        let verify = |why: String| format!("oidc: verify token: {why}");
        let end = self.check(token.unverified_claims()).map_err(verify)?;
        token.check_algorithm().map_err(verify)?;
        let known = self.keys.read().clone();
        if !token.is_signed_by(&known) {
            // It may be signed by a key that has come since.
            self.fetch().await?;
            let known = self.keys.read().clone();
            if !token.is_signed_by(&known) {
                return Err(verify("failed to verify signature: failed to verify id token signature".into()));
            }
        }
        Ok((self.meaning.user(token.unverified_claims())?, end))
    }

    /// Audience and time (OpenID Connect Core 1.0, 3.1.3.7). Gives the time the token ends.
    fn check(&self, claims: &Value) -> Result<i64, String> {
        let audiences: Vec<&str> = match &claims["aud"] {
            Value::String(one) => vec![one],
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let wanted = &self.settings.audiences;
        if !wanted.iter().any(|audience| audiences.contains(&audience.as_str())) {
            return Err(match &wanted[..] {
                [one] => format!("oidc: expected audience {one:?} got {audiences:?}"),
                _ => format!("oidc: expected audience in {wanted:?} got {audiences:?}"),
            });
        }
        let now = self.clock.now().as_second();
        let seconds = |claim: &str| claims[claim].as_i64().or_else(|| claims[claim].as_f64().map(|seconds| seconds as i64));
        let end = seconds("exp").unwrap_or_default();
        if end <= now {
            return Err(format!("oidc: token is expired (Token Expiry: {})", shown(end)));
        }
        match seconds("nbf") {
            Some(begin) if now.saturating_add(NOT_BEFORE_LEEWAY) < begin => {
                Err(format!("oidc: current time {} before the nbf (not before) time: {}", shown(now), shown(begin)))
            }
            _ => Ok(end),
        }
    }

    /// Asks for the keys, unless somebody has just done so.
    pub async fn fetch(&self) -> Result<(), String> {
        let mut fetched = self.fetched.lock().await;
        let now = self.clock.instant();
        if let Some((last, outcome)) = &*fetched
            && now.duration_since(*last) < BETWEEN_FETCHES
        {
            return outcome.clone();
        }
        let outcome = self.keys().await.map(|keys| *self.keys.write() = Arc::new(keys));
        *fetched = Some((now, outcome.clone()));
        outcome
    }

    async fn keys(&self) -> Result<Vec<Key>, String> {
        let url = &self.settings.url;
        let failed = |why: String| format!("oidc: issuer {url:?}: {why}");
        let place = match self.settings.discovery_url.as_str() {
            "" => format!("{}/.well-known/openid-configuration", url.trim_end_matches('/')),
            elsewhere => elsewhere.to_owned(),
        };
        let told = self.https.get(&place).await.map_err(|error| failed(format!("{error:#}")))?;
        if told["issuer"] != url.as_str() {
            let got = told["issuer"].as_str().unwrap_or_default();
            return Err(failed(format!("issuer did not match the issuer returned by provider, expected {url:?} got {got:?}")));
        }
        let place = told["jwks_uri"].as_str().ok_or_else(|| failed("it names no jwks_uri".into()))?;
        let set = self.https.get(place).await.map_err(|error| failed(format!("{error:#}")))?;
        keys_of(&set).map_err(failed)
    }
}

fn shown(second: i64) -> String {
    jiff::Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.to_string())
}
