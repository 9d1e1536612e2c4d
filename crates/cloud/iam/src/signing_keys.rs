//! SigningKeys: the keys that sign tokens, as they lie in a Secret; the first signs, all verify.
use crate::IamError;
use crate::kinds::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pki::SigningKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The Secret's name, and the key of its data.
pub const SIGNING_KEYS: &str = "signing-keys";
pub const DATA: &str = "keys.json";

/// A key (P-256, PKCS#8 PEM).
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredKey {
    pub pem: String,
    pub created: Timestamp,
    /// When the last token that it signed has ended: set once another key signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Timestamp>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct SigningKeys {
    /// INVARIANT: newest first.
    pub keys: Vec<StoredKey>,
}

impl SigningKeys {
    pub fn read(secret: &Secret) -> Result<Self, IamError> {
        let text = secret.data.get(DATA).ok_or_else(|| IamError::Key("the Secret holds none".into()))?;
        let bytes = STANDARD.decode(text).map_err(|error| IamError::Key(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| IamError::Key(error.to_string()))
    }

    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("keys encode")
    }

    /// With a new key that signs from now on. The others verify what they have signed until it has ended.
    pub fn rotated(mut self, longest_token: Duration, clock: &dyn Clock) -> Result<Self, IamError> {
        let now = clock.now();
        let end = now.saturating_add(SignedDuration::try_from(longest_token).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
        for key in &mut self.keys {
            key.retired.get_or_insert(end);
        }
        self.keys.retain(|key| key.retired.is_none_or(|end| now < end));
        let key = SigningKey::generate().map_err(|error| IamError::Key(error.to_string()))?;
        self.keys.insert(0, StoredKey { pem: key.pem(), created: now, retired: None });
        Ok(self)
    }

    /// With a new key alone: whatever the others have signed is refused.
    pub fn replaced(clock: &dyn Clock) -> Result<Self, IamError> {
        Self::default().rotated(Duration::ZERO, clock)
    }

    /// The public keys (RFC 7517).
    pub fn jwks(&self) -> Result<Value, IamError> {
        let keys = self.keys.iter().map(|stored| {
            let key = SigningKey::from_pem(&stored.pem).map_err(|error| IamError::Key(error.to_string()))?;
            let (x, y) = key.coordinates();
            Ok(json!({"use": "sig", "kty": "EC", "kid": key.key_id(), "crv": "P-256", "alg": "ES256", "x": x, "y": y}))
        });
        Ok(json!({ "keys": keys.collect::<Result<Vec<_>, IamError>>()? }))
    }

    /// What signs, and the header that says so.
    pub fn signer(&self) -> Result<(Header, EncodingKey), IamError> {
        let newest = self.keys.first().ok_or(IamError::NotReady)?;
        let key = SigningKey::from_pem(&newest.pem).map_err(|error| IamError::Key(error.to_string()))?;
        let encoding = EncodingKey::from_ec_pem(newest.pem.as_bytes()).map_err(|error| IamError::Key(error.to_string()))?;
        Ok((Header { alg: Algorithm::ES256, kid: Some(key.key_id()), ..Header::default() }, encoding))
    }
}
