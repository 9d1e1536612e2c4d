//! Oidc: users who log in at a provider elsewhere (OpenID Connect Core 1.0): its keys by discovery, its claims as users.
use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;
use clock::Clock;
use cloud_api::{JwksVerifier, TokenError};
use https::Https;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLOCK_SKEW: i64 = 10;
/// No token is longer; what is, costs nothing.
const LONGEST: usize = 16_384;
/// Keys are asked for anew at most so often, whatever tokens are shown.
const BETWEEN_FETCHES: Duration = Duration::from_secs(30);

/// A provider that the platform trusts to say who somebody is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderSettings {
    /// As in tokens, and where its configuration is found.
    pub issuer: String,
    /// What tokens have to be for.
    pub client_id: String,
    /// The authority (PEM) of its certificate, if it is none that the machine trusts.
    #[serde(default)]
    pub certificate_authority: Option<String>,
    /// Only users of this organisation: who runs the provider may say who any of its users is.
    #[serde(default)]
    pub organization: Option<String>,
    /// The claim with the user's address. That of `email` has to be verified.
    #[serde(default = "email")]
    pub email_claim: String,
}

fn email() -> String {
    "email".to_owned()
}

/// The providers of a file: YAML or JSON, `providers:` and a list of settings.
///
/// # Errors
/// When it can't be read, or an issuer is not `https`.
pub fn providers(text: &str) -> Result<Vec<ProviderSettings>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        providers: Vec<ProviderSettings>,
    }
    let File { providers } = serde_saphyr::from_str(text)?;
    for provider in &providers {
        ensure!(provider.issuer.starts_with("https://"), "issuer {:?} is not https", provider.issuer);
        ensure!(!provider.client_id.is_empty(), "issuer {:?} has no clientId", provider.issuer);
        ensure!(providers.iter().filter(|other| other.issuer == provider.issuer).count() == 1, "issuer {:?} is there twice", provider.issuer);
    }
    Ok(providers)
}

pub struct Provider {
    pub settings: ProviderSettings,
    https: Https,
    verifier: JwksVerifier,
    fetched: tokio::sync::Mutex<Option<Instant>>,
    /// Tokens that were used, until they end.
    used: Mutex<HashMap<[u8; 32], i64>>,
    clock: Arc<dyn Clock>,
}

impl Provider {
    pub fn new(settings: ProviderSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let https = Https::trusting(settings.certificate_authority.as_deref()).with_context(|| format!("issuer {:?}", settings.issuer))?;
        let verifier = JwksVerifier::new(br#"{"keys": []}"#, clock.clone())?;
        Ok(Self { settings, https, verifier, fetched: tokio::sync::Mutex::default(), used: Mutex::default(), clock })
    }

    /// The address of the user that a good ID token is about. A token is good once.
    pub async fn verify(&self, token: &str) -> Result<String, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Malformed("it is too long".into()));
        }
        let claims: Value = match self.verifier.signed(token) {
            Err(TokenError::UnknownKey) => {
                self.fetch().await;
                self.verifier.signed(token)?
            }
            signed => signed?,
        };
        let now = self.clock.now().as_second();
        let email = check(&self.settings, &claims, now)?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        let mut used = self.used.lock();
        used.retain(|_, end| *end > now);
        let end = claims["exp"].as_i64().unwrap_or(i64::MAX).saturating_add(CLOCK_SKEW);
        if used.insert(fingerprint, end).is_some() {
            return Err(TokenError::Revoked);
        }
        Ok(email)
    }

    /// Asks for the provider's keys, unless somebody has just done so.
    async fn fetch(&self) {
        let mut fetched = self.fetched.lock().await;
        let now = self.clock.instant();
        if fetched.is_some_and(|last| now.duration_since(last) < BETWEEN_FETCHES) {
            return;
        }
        *fetched = Some(now);
        let issuer = &self.settings.issuer;
        let keys = async {
            let told = discover(&self.https, issuer).await?;
            let keys = self.https.get(told["jwks_uri"].as_str().context("it names no jwks_uri")?).await?;
            self.verifier.replace(keys.to_string().as_bytes())?;
            anyhow::Ok(())
        };
        if let Err(error) = keys.await {
            tracing::warn!(issuer, error = &*error as &dyn std::error::Error, "the provider's keys are not known");
            // What is troubled now may be well for the next login.
            *fetched = None;
        }
    }
}

/// What a provider says of itself (OpenID Connect Discovery 1.0).
pub async fn discover(https: &Https, issuer: &str) -> Result<Value> {
    let told = https.get(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).await?;
    ensure!(told["issuer"] == issuer, "the provider says it is {}, not {issuer:?}", told["issuer"]);
    Ok(told)
}

/// The user's address, of claims whose signature is good (Core 1.0, 3.1.3.7).
fn check(settings: &ProviderSettings, claims: &Value, now: i64) -> Result<String, TokenError> {
    if claims["iss"] != settings.issuer.as_str() {
        return Err(TokenError::Issuer);
    }
    let own = |audience: &Value| *audience == settings.client_id.as_str();
    let alone = match &claims["aud"] {
        Value::Array(all) if all.len() == 1 => own(&all[0]),
        // For several, the one it was made for has to be this.
        Value::Array(all) => all.iter().any(own) && own(&claims["azp"]),
        one => own(one),
    };
    if !alone || !(claims["azp"].is_null() || own(&claims["azp"])) {
        return Err(TokenError::Audience);
    }
    if claims["exp"].as_i64().is_none_or(|end| now >= end.saturating_add(CLOCK_SKEW)) {
        return Err(TokenError::Expired);
    }
    let begin = claims["nbf"].as_i64().max(claims["iat"].as_i64());
    if begin.is_some_and(|begin| now < begin.saturating_sub(CLOCK_SKEW)) {
        return Err(TokenError::NotYet);
    }
    let email = claims[&settings.email_claim].as_str().filter(|email| !email.is_empty());
    let email = email.ok_or_else(|| TokenError::Malformed(format!("it has no claim {:?}", settings.email_claim)))?;
    // Else whoever may write what they like into their profile is anybody.
    if settings.email_claim == "email" && claims["email_verified"] != true && claims["email_verified"] != "true" {
        return Err(TokenError::Malformed("the address is not verified".into()));
    }
    Ok(email.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> ProviderSettings {
        let text = "providers:\n- issuer: https://login.example.com\n  clientId: k8shost\n  organization: org-a\n";
        providers(text).unwrap().remove(0)
    }

    #[test]
    fn a_file_names_providers_once_and_by_https() {
        assert_eq!((settings().email_claim.as_str(), settings().organization.as_deref()), ("email", Some("org-a")));
        for bad in [
            "providers:\n- {issuer: 'http://a', clientId: x}",
            "providers:\n- {issuer: 'https://a', clientId: ''}",
            "providers:\n- {issuer: 'https://a', clientId: x}\n- {issuer: 'https://a', clientId: y}",
            "providers:\n- {issuer: 'https://a', clientId: x, secret: y}",
            "others: []",
        ] {
            assert!(providers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn claims_are_good_for_this_client_in_their_time_with_a_verified_address() {
        let good = json!({
            "iss": "https://login.example.com", "aud": "k8shost", "exp": 2000, "iat": 1000, "sub": "1", "email": "eve@example.com", "email_verified": true,
        });
        let checked = |changes: Value, now: i64| {
            let mut claims = good.clone();
            for (name, value) in changes.as_object().unwrap() {
                claims[name] = value.clone();
            }
            check(&settings(), &claims, now)
        };
        assert_eq!(checked(json!({}), 1500).unwrap(), "eve@example.com");
        assert!(checked(json!({"aud": ["k8shost"]}), 1500).is_ok());
        assert!(checked(json!({"aud": ["k8shost", "other"], "azp": "k8shost"}), 1500).is_ok());
        for (changes, now, why) in [
            (json!({}), 2010, TokenError::Expired),
            (json!({"exp": null}), 1500, TokenError::Expired),
            (json!({}), 900, TokenError::NotYet),
            (json!({"iss": "https://evil.example.com"}), 1500, TokenError::Issuer),
            (json!({"aud": "other"}), 1500, TokenError::Audience),
            (json!({"aud": ["k8shost", "other"]}), 1500, TokenError::Audience),
            (json!({"azp": "other"}), 1500, TokenError::Audience),
            (json!({"aud": null}), 1500, TokenError::Audience),
        ] {
            assert_eq!(checked(changes.clone(), now).unwrap_err(), why, "{changes}");
        }
        for changes in [json!({"email": null}), json!({"email": ""}), json!({"email_verified": false}), json!({"email_verified": null})] {
            assert!(matches!(checked(changes.clone(), 1500), Err(TokenError::Malformed(_))), "{changes}");
        }
    }
}
