//! Signatures of JSON Web Tokens (RFC 7515) by the public keys that an issuer publishes (RFC 7517).
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// No token is longer; what is, costs nothing.
const LONGEST: usize = 64 << 10;
/// Those that upstream takes, sorted.
const ALGORITHMS: [&str; 9] = ["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

/// A public key, and the id that tokens name it by.
#[derive(Debug)]
pub(super) struct Key {
    id: String,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The curve, and the point uncompressed.
    Ec(&'static str, Vec<u8>),
}

/// The keys of a JSON Web Key Set. Those of kinds nobody signs tokens with are left out.
pub(super) fn keys_of(set: &Value) -> Result<Vec<Key>, String> {
    let keys = set["keys"].as_array().ok_or("the key set holds no keys")?;
    Ok(keys.iter().filter_map(key_of).collect())
}

fn key_of(key: &Value) -> Option<Key> {
    let number = |field: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(key[field].as_str()?.trim_end_matches('=')).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes[zeros..].to_vec())
    };
    if !matches!(key["use"].as_str(), None | Some("" | "sig")) {
        return None;
    }
    let material = match key["kty"].as_str()? {
        "RSA" => Material::Rsa { n: number("n")?, e: number("e")? },
        "EC" => {
            let (curve, size) = match key["crv"].as_str()? {
                "P-256" => ("P-256", 32),
                "P-384" => ("P-384", 48),
                "P-521" => ("P-521", 66),
                _ => return None,
            };
            let mut point = vec![4];
            for coordinate in [number("x")?, number("y")?] {
                point.extend(std::iter::repeat_n(0, usize::checked_sub(size, coordinate.len())?));
                point.extend(coordinate);
            }
            Material::Ec(curve, point)
        }
        _ => return None,
    };
    Some(Key { id: key["kid"].as_str().unwrap_or_default().to_owned(), material })
}

/// A token taken apart. Nothing of it is to be believed before a key has signed it.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    algorithm: String,
    key_id: String,
    signed: &'t str,
    signature: Vec<u8>,
    claims: Value,
}

impl<'t> Unverified<'t> {
    /// `None` for what is no token of this kind at all.
    pub fn parse(token: &'t str) -> Option<Self> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let (header, claims) = (json(header)?, json(claims)?);
        // What a header calls critical has to be understood, and nothing is.
        if !claims.is_object() || !header["crit"].is_null() {
            return None;
        }
        let text = |field: &str| header[field].as_str().unwrap_or_default().to_owned();
        Some(Self { algorithm: text("alg"), key_id: text("kid"), signed, signature: URL_SAFE_NO_PAD.decode(signature).ok()?, claims })
    }

    /// Who it says has made it.
    pub fn issuer(&self) -> &str {
        match self.claims["iss"].as_str().unwrap_or_default() {
            // As Google's were before it said so in full.
            "accounts.google.com" => "https://accounts.google.com",
            issuer => issuer,
        }
    }

    /// Its claims, before anybody has vouched for them.
    pub fn unverified_claims(&self) -> &Value {
        &self.claims
    }

    pub fn check_algorithm(&self) -> Result<(), String> {
        if ALGORITHMS.contains(&self.algorithm.as_str()) {
            return Ok(());
        }
        Err(format!("oidc: id token signed with unsupported algorithm, expected {:?} got {:?}", ALGORITHMS.join(" "), self.algorithm))
    }

    /// Whether one of the keys signed it: the one it names, or any if it names none.
    pub fn is_signed_by(&self, keys: &[Key]) -> bool {
        keys.iter().any(|key| (self.key_id.is_empty() || key.id == self.key_id) && self.verify(&key.material))
    }

    // INVARIANT: the key says which family signs, never the token: else a public key could be used as a shared secret.
    fn verify(&self, material: &Material) -> bool {
        let (message, signature) = (self.signed.as_bytes(), &self.signature);
        match material {
            Material::Rsa { n, e } => {
                let parameters = match self.algorithm.as_str() {
                    "RS256" => &RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &RSA_PSS_2048_8192_SHA256,
                    "PS384" => &RSA_PSS_2048_8192_SHA384,
                    "PS512" => &RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            Material::Ec(curve, point) => {
                let algorithm = match (self.algorithm.as_str(), *curve) {
                    ("ES256", "P-256") => &ECDSA_P256_SHA256_FIXED,
                    ("ES384", "P-384") => &ECDSA_P384_SHA384_FIXED,
                    ("ES512", "P-521") => &ECDSA_P521_SHA512_FIXED,
                    _ => return false,
                };
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    };
    use serde_json::json;

    fn token(algorithm: &str, kid: Option<&str>, sign: &dyn Fn(&[u8]) -> Vec<u8>) -> String {
        let mut header = json!({ "alg": algorithm });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&json!({ "iss": "https://a" })));
        let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// Every algorithm that is taken, each with a key of the kind it needs.
    #[test]
    fn a_key_vouches_for_the_tokens_it_signed_by_every_algorithm() {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let components: RsaPublicKeyComponents<Vec<u8>> = rsa.public_key().into();
        let rsa_key = json!({ "kty": "RSA", "kid": "r", "use": "sig", "n": URL_SAFE_NO_PAD.encode(components.n), "e": URL_SAFE_NO_PAD.encode(components.e) });
        let mut checked = 0;
        let mut check = |algorithm: &str, kid: &str, key: &Value, sign: &dyn Fn(&[u8]) -> Vec<u8>| {
            let keys = keys_of(&json!({ "keys": [{"kty": "oct", "k": "AA"}, key] })).unwrap();
            assert_eq!(keys.len(), 1);
            for named in [Some(kid), None] {
                let good = token(algorithm, named, sign);
                let parsed = Unverified::parse(&good).unwrap();
                assert!(parsed.check_algorithm().is_ok() && parsed.is_signed_by(&keys), "{algorithm}");
            }
            let foreign = token(algorithm, Some("other"), sign);
            assert!(!Unverified::parse(&foreign).unwrap().is_signed_by(&keys), "{algorithm}");
            let forged = token(algorithm, Some(kid), &|_| sign(b"something else"));
            assert!(!Unverified::parse(&forged).unwrap().is_signed_by(&keys), "{algorithm}");
            checked += 1;
        };
        for (algorithm, encoding) in [
            ("RS256", &RSA_PKCS1_SHA256 as &'static dyn aws_lc_rs::signature::RsaEncoding),
            ("RS384", &RSA_PKCS1_SHA384),
            ("RS512", &RSA_PKCS1_SHA512),
            ("PS256", &RSA_PSS_SHA256),
            ("PS384", &RSA_PSS_SHA384),
            ("PS512", &RSA_PSS_SHA512),
        ] {
            check(algorithm, "r", &rsa_key, &|message| {
                let mut signature = vec![0; rsa.public_modulus_len()];
                rsa.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            });
        }
        for (algorithm, curve, signing) in [
            ("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
            ("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
            ("ES512", "P-521", &ECDSA_P521_SHA512_FIXED_SIGNING),
        ] {
            let pair = EcdsaKeyPair::generate(signing).unwrap();
            let point = &pair.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            let key = json!({ "kty": "EC", "crv": curve, "kid": "e", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
            check(algorithm, "e", &key, &|message| pair.sign(&random, message).unwrap().as_ref().to_vec());
        }
        assert_eq!(checked, ALGORITHMS.len());
    }

    #[test]
    fn shared_secrets_and_unsigned_tokens_are_none() {
        for algorithm in ["none", "HS256", "EdDSA", ""] {
            let text = token(algorithm, None, &|_| Vec::new());
            assert!(Unverified::parse(&text).unwrap().check_algorithm().unwrap_err().contains(&format!("got {algorithm:?}")));
        }
        for text in ["", "a.b", "a.b.c", "{}.{}.{}", &"x".repeat(LONGEST + 1)] {
            assert!(Unverified::parse(text).is_none(), "{text:.20}");
        }
        assert!(keys_of(&json!({})).is_err());
        assert!(keys_of(&json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "enc", "x": "AA", "y": "AA"}]})).unwrap().is_empty());
    }
}
