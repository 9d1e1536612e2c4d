//! JSON Web Tokens of issuers elsewhere, and who is let in without any credentials, as an AuthenticationConfiguration says.
mod claims;
mod configuration;
mod issuer;
mod signature;
#[cfg(test)]
mod tests;
mod validate;

use crate::configuration_file::{checked, decoded};
use crate::metrics::jwt_latency;
use crate::remembered::{Remembered, fingerprint};
use crate::{AuthError, User};
use clock::Clock;
use configuration::{Anonymous, AuthenticationConfiguration};
use issuer::Issuer;
use parking_lot::RwLock;
use signature::Unverified;
use std::sync::Arc;
use std::time::Duration;

/// A verified token is believed for so long without another look at it.
const REMEMBER: Duration = Duration::from_secs(10);

/// What the file says now. A new one takes its place as a whole.
pub struct JwtAuthentication {
    own_issuers: Vec<String>,
    clock: Arc<dyn Clock>,
    current: RwLock<Arc<Current>>,
}

#[derive(Default)]
struct Current {
    issuers: Vec<Arc<Issuer>>,
    anonymous: Option<Anonymous>,
    verified: Remembered<User>,
}

impl JwtAuthentication {
    /// Of the text of a file. `own_issuers`: whose tokens no other may vouch for.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn new(text: &str, own_issuers: Vec<String>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let this = Self { own_issuers, clock, current: RwLock::default() };
        this.replace(text)?;
        Ok(this)
    }

    /// Puts what `text` says into the place of what was said before; all stays as it is when that is wrong.
    pub fn replace(&self, text: &str) -> Result<(), String> {
        let configuration: AuthenticationConfiguration = decoded(text, "AuthenticationConfiguration")?;
        let (meanings, errors) = validate::compiled(&configuration, &self.own_issuers);
        checked(&errors)?;
        let issuers = configuration.jwt.into_iter().zip(meanings);
        let issuers = issuers.map(|(authenticator, meaning)| Issuer::new(authenticator.issuer, meaning, self.clock.clone()).map(Arc::new));
        let issuers: Vec<Arc<Issuer>> = issuers.collect::<Result<_, _>>()?;
        *self.current.write() = Arc::new(Current { issuers, anonymous: configuration.anonymous, verified: Remembered::default() });
        Ok(())
    }

    /// Asks all issuers for their keys, so that the first tokens need not wait for that.
    pub async fn fetch_keys(&self) {
        let current = self.current.read().clone();
        for issuer in &current.issuers {
            if let Err(error) = issuer.fetch().await {
                tracing::warn!(issuer = issuer.url(), error, "the issuer's keys are not known");
            }
        }
    }

    /// Whether who brings no credentials is let in at a path; `None` when the file does not say.
    pub fn anonymous(&self, path: &str) -> Option<bool> {
        let current = self.current.read();
        let Anonymous { enabled, conditions } = current.anonymous.as_ref()?;
        Some(*enabled && (conditions.is_empty() || conditions.iter().any(|condition| condition.path == path)))
    }

    /// The user of a token; `None` for one of no issuer known here.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Option<User>, AuthError> {
        let current = self.current.read().clone();
        if current.issuers.is_empty() {
            return Ok(None);
        }
        let (asked, started) = (fingerprint(token.as_bytes()), self.clock.instant());
        if let Some(user) = current.verified.get(&asked, started) {
            return Ok(Some(user));
        }
        let Some(token) = Unverified::parse(token) else { return Ok(None) };
        let Some(issuer) = current.issuers.iter().find(|issuer| issuer.url() == token.issuer()) else { return Ok(None) };
        let outcome = issuer.user(&token).await;
        let now = self.clock.instant();
        jwt_latency(issuer.url(), outcome.is_ok(), now.duration_since(started));
        let (user, end) = outcome.map_err(AuthError::Jwt)?;
        let left = Duration::from_secs(end.saturating_sub(self.clock.now().as_second()).max(0).unsigned_abs());
        current.verified.keep(asked, user.clone(), now, now + left.min(REMEMBER));
        Ok(Some(user))
    }
}
