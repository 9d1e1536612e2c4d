//! Service account tokens for projected volumes: requested for the pod, renewed well before they expire.
use crate::error::SetUpError;
use crate::referenced_objects::api_message;
use clock::Clock;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, PostParams};
use std::time::Duration;

/// A token in use.
#[derive(Clone)]
pub struct Token {
    pub value: String,
    /// When to ask for the next one.
    pub renew_at: Timestamp,
    pub expires_at: Timestamp,
}

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_SECONDS: i64 = 3600;
/// A token is renewed at this age even if it lives longer.
const GREATEST_AGE: SignedDuration = SignedDuration::from_hours(24);
const GREATEST_JITTER_SECONDS: u8 = 10;

/// Asks for a token bound to the pod.
pub async fn request(client: kube::Client, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<Token, SetUpError> {
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into());
    let seconds = projection.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
    let spec = TokenRequestSpec {
        audiences: Some(projection.audience.clone().filter(|audience| !audience.is_empty()).into_iter().collect()),
        expiration_seconds: Some(seconds),
        bound_object_ref: Some(BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        }),
        ..TokenRequestSpec::default()
    };
    let api = Api::<ServiceAccount>::namespaced(client, pod.metadata.namespace.as_deref().unwrap_or_default());
    let body = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, api.create_token_request(&account, &PostParams::default(), &body))
        .await
        .map_err(|_| SetUpError::Token(format!("no answer in {} seconds", REQUEST_TIMEOUT.as_secs())))?
        .map_err(|error| SetUpError::Token(api_message(&error)))?;
    // The server may grant another lifetime than the one asked for, and says so in the spec.
    let granted = answer.spec.and_then(|spec| spec.expiration_seconds).unwrap_or(seconds);
    let status = answer.status.unwrap_or_default();
    match (status.token, status.expiration_timestamp) {
        (Some(value), Some(expires)) => Ok(Token { value, renew_at: renew_at(expires.0, granted, jitter()), expires_at: expires.0 }),
        _ => Err(SetUpError::Token("the server's answer holds no token".into())),
    }
}

impl Token {
    pub fn is_due(&self, clock: &dyn Clock) -> bool {
        clock.now() >= self.renew_at
    }
    pub fn is_expired(&self, clock: &dyn Clock) -> bool {
        clock.now() >= self.expires_at
    }
}

/// At 80 % of its life or at 24 hours of age, whichever is first, and a little earlier.
fn renew_at(expires: Timestamp, seconds: i64, jitter: SignedDuration) -> Timestamp {
    let life = SignedDuration::from_secs(seconds);
    let issued = expires.saturating_sub(life).unwrap_or(expires);
    let age = GREATEST_AGE.min(SignedDuration::from_secs(seconds - seconds * 20 / 100));
    issued.saturating_add(age - jitter).unwrap_or(expires)
}

/// Spreads the renewals of pods that started together.
fn jitter() -> SignedDuration {
    let [random] = clock::random_bytes::<1>();
    SignedDuration::from_secs(i64::from(random % (GREATEST_JITTER_SECONDS + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_at_four_fifths_of_their_life_or_after_a_day() {
        let issued: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let due = |seconds: i64| renew_at(issued + SignedDuration::from_secs(seconds), seconds, SignedDuration::ZERO).duration_since(issued).as_secs();
        assert_eq!(due(3607), 3607 - 721);
        assert_eq!(due(600), 480);
        assert_eq!(due(365 * 24 * 3600), 24 * 3600);
    }
}
