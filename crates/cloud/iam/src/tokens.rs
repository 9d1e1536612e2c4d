//! Tokens: signs IAM's JWTs and tells good ones from bad. Whether their account still exists is not looked at here.
use crate::signing_keys::SigningKeys;
use crate::{IamError, IamSettings};
use aws_lc_rs::digest;
use clock::Clock;
use cloud_api::{JwksVerifier, TokenError};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Tokens whose signature was found right, remembered so that each costs one check.
const REMEMBERED: usize = 4096;
/// What clocks of two machines may differ by.
const CLOCK_SKEW: i64 = 10;
/// No token is longer; what is, costs nothing.
const LONGEST: usize = 8192;

/// What a token says. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// `user-<uuid>` or `sa-<name>@<project>`.
    pub sub: String,
    #[serde(default, skip_serializing_if = "Audience::is_none")]
    pub aud: Audience,
    pub exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub email: String,
    pub org_id: String,
    /// Empty: all the subject's projects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project_id: String,
    #[serde(default)]
    pub roles: Vec<String>,
}

/// RFC 7519 allows one audience, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Many(Vec<String>),
    #[default]
    None,
}

impl Audience {
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
            Self::None => &[],
        }
    }
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

struct Signing {
    header: Header,
    key: EncodingKey,
    jwks: Value,
}

pub struct Tokens {
    verifier: JwksVerifier,
    shared_secret: Option<DecodingKey>,
    signing: RwLock<Option<Signing>>,
    issuer: String,
    remembered: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl Tokens {
    /// Knows no keys yet.
    pub fn new(settings: &IamSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            verifier: JwksVerifier::new(br#"{"keys": []}"#, clock).expect("no keys are a set of keys"),
            shared_secret: settings.shared_secret.as_deref().map(DecodingKey::from_secret),
            signing: RwLock::default(),
            issuer: settings.issuer.clone(),
            remembered: Mutex::default(),
        }
    }

    /// From now on these keys alone count.
    pub fn replace(&self, keys: &SigningKeys) -> Result<(), IamError> {
        let jwks = keys.jwks()?;
        let (header, key) = keys.signer()?;
        self.verifier.replace(jwks.to_string().as_bytes()).map_err(|error| IamError::Key(error.to_string()))?;
        *self.signing.write() = Some(Signing { header, key, jwks });
        self.remembered.lock().clear();
        Ok(())
    }

    pub fn jwks(&self) -> Option<Value> {
        self.signing.read().as_ref().map(|signing| signing.jwks.clone())
    }

    pub fn sign(&self, claims: &Claims) -> Result<String, IamError> {
        let signing = self.signing.read();
        let signing = signing.as_ref().ok_or(IamError::NotReady)?;
        jsonwebtoken::encode(&signing.header, claims, &signing.key).map_err(|error| IamError::Key(error.to_string()))
    }

    /// The claims of a token that one of our keys signed, that is in its time, and that is for one of `audiences`.
    ///
    /// A token that names no issuer or audience, as other holders of the shared secret may make, is for us.
    pub fn verify(&self, token: &str, audiences: &[String], now: jiff::Timestamp) -> Result<Arc<Claims>, TokenError> {
        let claims = self.signed(token)?;
        let now = now.as_second();
        if now >= claims.exp.saturating_add(CLOCK_SKEW) {
            return Err(TokenError::Expired);
        }
        if now < claims.nbf.or(claims.iat).unwrap_or(i64::MIN).saturating_sub(CLOCK_SKEW) {
            return Err(TokenError::NotYet);
        }
        if claims.iss.as_ref().is_some_and(|issuer| *issuer != self.issuer) {
            return Err(TokenError::Issuer);
        }
        let named = claims.aud.names();
        if !named.is_empty() && !named.iter().any(|audience| audiences.contains(audience)) {
            return Err(TokenError::Audience);
        }
        Ok(claims)
    }

    fn signed(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Malformed("it is too long".into()));
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        if let Some(claims) = self.remembered.lock().get(&fingerprint) {
            return Ok(claims.clone());
        }
        let claims: Arc<Claims> = Arc::new(match &self.shared_secret {
            Some(secret) if is_hs256(token) => by_secret(token, secret)?,
            _ => self.verifier.signed(token)?,
        });
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(fingerprint, claims.clone());
        Ok(claims)
    }
}

/// Whether it says to be signed with a secret. Public keys are never tried on it, nor the secret on others.
fn is_hs256(token: &str) -> bool {
    jsonwebtoken::decode_header(token).is_ok_and(|header| header.alg == Algorithm::HS256)
}

fn by_secret(token: &str, secret: &DecodingKey) -> Result<Claims, TokenError> {
    let mut validation = Validation::new(Algorithm::HS256);
    // Times, issuer and audience are compared with the clock and settings given.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<Claims>(token, secret, &validation).map(|decoded| decoded.claims).map_err(|_| TokenError::Signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing_keys::SigningAlgorithm;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use clock::ManualClock;
    use serde_json::json;
    use std::time::Duration;

    const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

    struct Set {
        tokens: Tokens,
        keys: SigningKeys,
        clock: ManualClock,
    }

    fn set(shared_secret: Option<&[u8]>) -> Set {
        let clock = ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap());
        let settings = IamSettings { shared_secret: shared_secret.map(<[u8]>::to_vec), ..IamSettings::default() };
        let tokens = Tokens::new(&settings, Arc::new(clock.clone()));
        let keys = SigningKeys::replaced(SigningAlgorithm::Es256, &clock).unwrap();
        tokens.replace(&keys).unwrap();
        Set { tokens, keys, clock }
    }

    fn claims(clock: &ManualClock) -> Claims {
        let now = clock.now().as_second();
        Claims {
            iss: Some(IamSettings::default().issuer),
            sub: "user-1".into(),
            aud: Audience::Many(vec!["k8shost".into()]),
            exp: now + 3600,
            nbf: Some(now),
            iat: Some(now),
            jti: "j".into(),
            org_id: "org-1".into(),
            ..Claims::default()
        }
    }

    impl Set {
        fn verify(&self, token: &str) -> Result<Arc<Claims>, TokenError> {
            self.tokens.verify(token, &["k8shost".into()], self.clock.now())
        }
    }

    /// A token with any header and claims, signed by nobody or with bytes as a secret.
    fn forged(header: &Value, claims: &Value, secret: Option<&[u8]>) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = secret.map_or(String::new(), |secret| {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
            URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes()))
        });
        format!("{message}.{signature}")
    }

    #[test]
    fn a_token_is_good_in_its_time_and_for_its_audience() {
        let set = set(None);
        let good = set.tokens.sign(&claims(&set.clock)).unwrap();
        assert_eq!(set.verify(&good).unwrap().sub, "user-1");
        assert_eq!(set.tokens.verify(&good, &["vault".into()], set.clock.now()).unwrap_err(), TokenError::Audience);
        let foreign = Claims { iss: Some("https://elsewhere".into()), ..claims(&set.clock) };
        assert_eq!(set.verify(&set.tokens.sign(&foreign).unwrap()).unwrap_err(), TokenError::Issuer);
        let early = Claims { nbf: Some(claims(&set.clock).exp - 60), ..claims(&set.clock) };
        assert_eq!(set.verify(&set.tokens.sign(&early).unwrap()).unwrap_err(), TokenError::NotYet);
        set.clock.advance(Duration::from_secs(3609));
        assert!(set.verify(&good).is_ok(), "clocks may differ a little");
        set.clock.advance(Duration::from_secs(1));
        assert_eq!(set.verify(&good).unwrap_err(), TokenError::Expired, "also when its signature is remembered");
    }

    #[test]
    fn forged_tokens_are_refused() {
        let set = set(None);
        let good = set.tokens.sign(&claims(&set.clock)).unwrap();
        let kid = jsonwebtoken::decode_header(&good).unwrap().kid.unwrap();
        let said = serde_json::to_value(claims(&set.clock)).unwrap();
        let parts: Vec<&str> = good.split('.').collect();
        let administrator = URL_SAFE_NO_PAD.encode(json!({"sub": "user-2", "org_id": "org-1", "exp": 9_999_999_999_i64}).to_string());
        let public_pem = pki::SigningKey::from_pem(&set.keys.keys[0].pem).unwrap().public_pem();
        let other = self::set(None);
        for (what, token) in [
            ("of nothing", String::new()),
            ("that is none", "a.b.c".into()),
            ("with other claims", format!("{}.{administrator}.{}", parts[0], parts[2])),
            ("without a signature", format!("{}.{}.", parts[0], parts[1])),
            ("of alg none", forged(&json!({"alg": "none", "typ": "JWT", "kid": kid}), &said, None)),
            ("of alg none in other letters", forged(&json!({"alg": "None", "kid": kid}), &said, None)),
            ("with the public key as a secret", forged(&json!({"alg": "HS256", "kid": kid}), &said, Some(public_pem.as_bytes()))),
            ("with the empty secret", forged(&json!({"alg": "HS256", "kid": kid}), &said, Some(b""))),
            ("by another key", other.tokens.sign(&claims(&set.clock)).unwrap()),
            ("that is endless", "e".repeat(1 << 20)),
        ] {
            assert!(set.verify(&token).is_err(), "a token {what}");
        }
        assert!(set.verify(&good).is_ok());
    }

    #[test]
    fn shared_secrets_count_only_where_they_are_set() {
        let (with, without) = (set(Some(SECRET)), set(None));
        let header = json!({"alg": "HS256", "typ": "JWT"});
        // As in the specification's example: neither issuer nor audience.
        let said = json!({"sub": "user-1", "email": "user@example.com", "org_id": "org-1", "roles": ["org_admin"], "exp": claims(&with.clock).exp});
        let token = forged(&header, &said, Some(SECRET));
        assert_eq!(with.verify(&token).unwrap().email, "user@example.com");
        assert!(without.verify(&token).is_err());
        assert!(with.verify(&forged(&header, &said, Some(b"another"))).is_err());
        assert!(with.verify(&forged(&json!({"alg": "none"}), &said, None)).is_err());
    }

    #[test]
    fn rotation_keeps_what_was_signed_and_replacement_does_not() {
        let set = set(None);
        let old = set.tokens.sign(&claims(&set.clock)).unwrap();
        let rotated = set.keys.clone().rotated(SigningAlgorithm::Rs256, Duration::from_secs(86_400), &set.clock).unwrap();
        set.tokens.replace(&rotated).unwrap();
        let new = set.tokens.sign(&claims(&set.clock)).unwrap();
        assert!(set.verify(&old).is_ok() && set.verify(&new).is_ok());
        let algorithm = |token: &str| jsonwebtoken::decode_header(token).unwrap().alg;
        assert_eq!((algorithm(&old), algorithm(&new)), (Algorithm::ES256, Algorithm::RS256), "also when it changes how tokens are signed");
        let kid = jsonwebtoken::decode_header(&new).unwrap().kid;
        let said = serde_json::to_value(claims(&set.clock)).unwrap();
        assert!(set.verify(&forged(&json!({"alg": "HS256", "kid": kid}), &said, Some(rotated.keys[0].pem.as_bytes()))).is_err());
        assert_eq!(set.tokens.jwks().unwrap()["keys"].as_array().unwrap().len(), 2);
        set.clock.advance(Duration::from_secs(86_400));
        let third = rotated.rotated(SigningAlgorithm::Es256, Duration::from_secs(86_400), &set.clock).unwrap();
        assert_eq!(third.keys.len(), 2, "what the first has signed has ended");
        set.tokens.replace(&SigningKeys::replaced(SigningAlgorithm::Es256, &set.clock).unwrap()).unwrap();
        let at = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(set.tokens.verify(&old, &["k8shost".into()], at).unwrap_err(), TokenError::UnknownKey, "though it was remembered");
    }
}
