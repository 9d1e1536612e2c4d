//! Verifies JWTs by a set of public keys (RFC 7517), as the IAM service publishes it.
use crate::{Caller, TokenError, TokenVerifier};
use clock::Clock;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, RwLock};

/// What clocks of two machines may differ by.
const CLOCK_SKEW: i64 = 10;

/// Accepts tokens that a key of the set signed (ES256 and RS256, whichever the key is for), for the audience and of the
/// issuer asked for. The set can be replaced at any time: keys rotate.
pub struct JwksVerifier {
    keys: RwLock<HashMap<String, (Algorithm, DecodingKey)>>,
    issuer: Option<String>,
    audience: Option<String>,
    clock: Arc<dyn Clock>,
}

/// Why a set of keys can't be used. The one in use stays.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    #[error("the key set can't be read")]
    Malformed(#[from] serde_json::Error),
    #[error("key {index} of the set has no `kid`")]
    NoId { index: usize },
    #[error("key `{id}` can't be used")]
    Key { id: String, source: jsonwebtoken::errors::Error },
}

impl JwksVerifier {
    pub fn new(document: &[u8], clock: Arc<dyn Clock>) -> Result<Self, JwksError> {
        Ok(Self { keys: RwLock::new(keys_of(document)?), issuer: None, audience: None, clock })
    }

    /// Only tokens whose `iss` is this.
    #[must_use]
    pub fn of_issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Only tokens that name this in `aud`.
    #[must_use]
    pub fn for_audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// From now on these keys alone are trusted.
    pub fn replace(&self, document: &[u8]) -> Result<(), JwksError> {
        let keys = keys_of(document)?;
        *self.keys.write().expect("no holder of this lock panics") = keys;
        Ok(())
    }

    /// What a token says that one of the keys signed. Neither its time nor its audience or issuer is looked at.
    pub fn signed<C: DeserializeOwned>(&self, token: &str) -> Result<C, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| TokenError::Malformed(error.to_string()))?;
        let keys = self.keys.read().expect("no holder of this lock panics");
        let (algorithm, key) = header.kid.as_deref().and_then(|id| keys.get(id)).ok_or(TokenError::UnknownKey)?;
        // INVARIANT: the key says how it signs, never the token: else a public key could be used as a shared secret.
        if header.alg != *algorithm {
            return Err(TokenError::Algorithm(format!("{:?}", header.alg)));
        }
        let mut validation = Validation::new(*algorithm);
        // Times are compared with the clock given, and the audience below.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode::<C>(token, key, &validation);
        decoded.map(|decoded| decoded.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => TokenError::Signature,
            _ => TokenError::Malformed(error.to_string()),
        })
    }
}

impl TokenVerifier for JwksVerifier {
    fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let claims: Claims = self.signed(token)?;
        let now = self.clock.now().as_second();
        if now >= claims.exp.saturating_add(CLOCK_SKEW) {
            return Err(TokenError::Expired);
        }
        if now < claims.nbf.unwrap_or(i64::MIN).saturating_sub(CLOCK_SKEW) {
            return Err(TokenError::NotYet);
        }
        if self.issuer.as_ref().is_some_and(|issuer| claims.iss.as_ref() != Some(issuer)) {
            return Err(TokenError::Issuer);
        }
        if self.audience.as_ref().is_some_and(|audience| !claims.aud.names(audience)) {
            return Err(TokenError::Audience);
        }
        Ok(Caller { subject: claims.sub, email: claims.email, org_id: claims.org_id, project_id: claims.project_id, roles: claims.roles, platform: false })
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    nbf: Option<i64>,
    iss: Option<String>,
    #[serde(default)]
    aud: Audience,
    #[serde(default)]
    email: String,
    #[serde(default)]
    org_id: String,
    #[serde(default)]
    project_id: String,
    #[serde(default)]
    roles: BTreeSet<String>,
}

/// RFC 7519 allows one audience, or a list of them.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
    #[default]
    None,
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
            Self::None => false,
        }
    }
}

fn keys_of(document: &[u8]) -> Result<HashMap<String, (Algorithm, DecodingKey)>, JwksError> {
    let set: JwkSet = serde_json::from_slice(document)?;
    let mut keys = HashMap::new();
    for (index, key) in set.keys.iter().enumerate() {
        let algorithm = match &key.algorithm {
            AlgorithmParameters::EllipticCurve(_) => Algorithm::ES256,
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            // A shared secret in a public document is nobody's.
            _ => continue,
        };
        let id = key.common.key_id.clone().ok_or(JwksError::NoId { index })?;
        let decoding = DecodingKey::from_jwk(key).map_err(|source| JwksError::Key { id: id.clone(), source })?;
        keys.insert(id, (algorithm, decoding));
    }
    Ok(keys)
}
