//! SigningKeys: the keys that sign tokens, as they lie in a Secret; the first signs, all verify.
use crate::IamError;
use crate::kinds::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clock::Clock;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pki::{RsaKey, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The Secret's name, and the key of its data.
pub const SIGNING_KEYS: &str = "signing-keys";
pub const DATA: &str = "keys.json";

/// How tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    #[default]
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
}

/// A key (P-256 or RSA of 2048 bits, PKCS#8 PEM).
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredKey {
    pub pem: String,
    #[serde(default)]
    pub algorithm: SigningAlgorithm,
    pub created: Timestamp,
    /// When the last token that it signed has ended: set once another key signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<Timestamp>,
}

fn unusable(error: impl std::fmt::Display) -> IamError {
    IamError::Key(error.to_string())
}

impl StoredKey {
    fn generate(algorithm: SigningAlgorithm, created: Timestamp) -> Result<Self, IamError> {
        let pem = match algorithm {
            SigningAlgorithm::Es256 => SigningKey::generate().map_err(unusable)?.pem(),
            SigningAlgorithm::Rs256 => RsaKey::generate().and_then(|key| key.pem()).map_err(unusable)?,
        };
        Ok(Self { pem, algorithm, created, retired: None })
    }

    /// The public key (RFC 7517).
    fn jwk(&self) -> Result<Value, IamError> {
        Ok(match self.algorithm {
            SigningAlgorithm::Es256 => {
                let key = SigningKey::from_pem(&self.pem).map_err(unusable)?;
                let (x, y) = key.coordinates();
                json!({"use": "sig", "kty": "EC", "kid": key.key_id(), "crv": "P-256", "alg": "ES256", "x": x, "y": y})
            }
            SigningAlgorithm::Rs256 => {
                let key = RsaKey::from_pem(&self.pem).map_err(unusable)?;
                let (n, e) = key.numbers().map_err(unusable)?;
                json!({"use": "sig", "kty": "RSA", "kid": key.key_id().map_err(unusable)?, "alg": "RS256", "n": n, "e": e})
            }
        })
    }

    fn signer(&self) -> Result<(Header, EncodingKey), IamError> {
        let (algorithm, id, key) = match self.algorithm {
            SigningAlgorithm::Es256 => {
                (Algorithm::ES256, SigningKey::from_pem(&self.pem).map_err(unusable)?.key_id(), EncodingKey::from_ec_pem(self.pem.as_bytes()))
            }
            SigningAlgorithm::Rs256 => {
                let id = RsaKey::from_pem(&self.pem).and_then(|key| key.key_id()).map_err(unusable)?;
                (Algorithm::RS256, id, EncodingKey::from_rsa_pem(self.pem.as_bytes()))
            }
        };
        Ok((Header { kid: Some(id), ..Header::new(algorithm) }, key.map_err(unusable)?))
    }
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
    pub fn rotated(mut self, algorithm: SigningAlgorithm, longest_token: Duration, clock: &dyn Clock) -> Result<Self, IamError> {
        let now = clock.now();
        let end = now.saturating_add(SignedDuration::try_from(longest_token).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
        for key in &mut self.keys {
            key.retired.get_or_insert(end);
        }
        self.keys.retain(|key| key.retired.is_none_or(|end| now < end));
        self.keys.insert(0, StoredKey::generate(algorithm, now)?);
        Ok(self)
    }

    /// With a new key alone: whatever the others have signed is refused.
    pub fn replaced(algorithm: SigningAlgorithm, clock: &dyn Clock) -> Result<Self, IamError> {
        Self::default().rotated(algorithm, Duration::ZERO, clock)
    }

    /// The public keys (RFC 7517).
    pub fn jwks(&self) -> Result<Value, IamError> {
        Ok(json!({ "keys": self.keys.iter().map(StoredKey::jwk).collect::<Result<Vec<_>, IamError>>()? }))
    }

    /// What the newest signs with; none when there is none.
    pub fn algorithm(&self) -> Option<SigningAlgorithm> {
        self.keys.first().map(|key| key.algorithm)
    }

    /// What signs, and the header that says so.
    pub fn signer(&self) -> Result<(Header, EncodingKey), IamError> {
        self.keys.first().ok_or(IamError::NotReady)?.signer()
    }
}
