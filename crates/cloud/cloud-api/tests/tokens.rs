//! What becomes of tokens: good ones, and every bad one there is, against keys made here.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clock::{Clock, ManualClock};
use cloud_api::{JwksVerifier, TokenError, TokenVerifier};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pki::SigningKey;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

struct Issuer {
    key: SigningKey,
    clock: ManualClock,
}

impl Issuer {
    fn new() -> Self {
        Self { key: SigningKey::generate().expect("a key"), clock: ManualClock::at("2026-01-01T00:00:00Z".parse().expect("a time")) }
    }

    fn jwks(&self) -> Vec<u8> {
        let (x, y) = self.key.coordinates();
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key.key_id(), "x": x, "y": y}]}).to_string().into_bytes()
    }

    fn verifier(&self) -> JwksVerifier {
        let verifier = JwksVerifier::new(&self.jwks(), Arc::new(self.clock.clone())).expect("a key set");
        verifier.of_issuer("https://iam").for_audience("lightningstor")
    }

    fn claims(&self) -> Value {
        json!({"sub": "user-1", "email": "user@example.com", "org_id": "org-1", "project_id": "proj-1", "roles": ["project_member"],
            "iss": "https://iam", "aud": ["lightningstor"], "exp": self.clock.now().as_second() + 60})
    }

    fn token(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.key.key_id()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_pem(self.key.pem().as_bytes()).expect("a signing key");
        jsonwebtoken::encode(&header, claims, &key).expect("a token")
    }

    fn with(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[name] = value;
        self.token(&claims)
    }
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn a_good_token_names_its_caller() {
    let issuer = Issuer::new();
    let caller = issuer.verifier().verify(&issuer.token(&issuer.claims())).expect("the token is good");
    assert_eq!((caller.subject.as_str(), caller.org_id.as_str(), caller.project_id.as_str()), ("user-1", "org-1", "proj-1"));
    assert!(caller.roles.contains("project_member") && !caller.platform);
    issuer.verifier().verify(&issuer.with("aud", json!("lightningstor"))).expect("one audience may stand without a list");
}

#[test]
fn bad_tokens_are_refused_each_for_its_reason() {
    let issuer = Issuer::new();
    let verifier = issuer.verifier();
    let now = issuer.clock.now().as_second();
    let refused = |token: &str| verifier.verify(token).expect_err("the token is bad");
    assert_eq!(refused(&issuer.with("exp", json!(now - 60))), TokenError::Expired);
    assert_eq!(refused(&issuer.with("nbf", json!(now + 60))), TokenError::NotYet);
    assert_eq!(refused(&issuer.with("aud", json!(["fiberlb"]))), TokenError::Audience);
    assert_eq!(refused(&issuer.with("aud", json!(null))), TokenError::Audience);
    assert_eq!(refused(&issuer.with("iss", json!("https://other"))), TokenError::Issuer);
    assert!(matches!(refused("gibberish"), TokenError::Malformed(_)));
    assert!(matches!(refused(&issuer.with("exp", json!("soon"))), TokenError::Malformed(_)));

    let stranger = Issuer::new();
    assert_eq!(refused(&stranger.token(&stranger.claims())), TokenError::UnknownKey);

    let token = issuer.token(&issuer.claims());
    let [header, claims, signature] = token.splitn(3, '.').collect::<Vec<_>>()[..] else { panic!("a token has three parts") };
    let mut stolen = issuer.claims();
    stolen["org_id"] = json!("org-2");
    assert_eq!(refused(&format!("{header}.{}.{signature}", part(&stolen))), TokenError::Signature);
    let none = part(&json!({"alg": "none", "typ": "JWT", "kid": issuer.key.key_id()}));
    assert!(matches!(refused(&format!("{none}.{claims}.")), TokenError::Malformed(_)));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let issuer = Issuer::new();
    let header = Header { kid: Some(issuer.key.key_id()), ..Header::new(Algorithm::HS256) };
    let forged = jsonwebtoken::encode(&header, &issuer.claims(), &EncodingKey::from_secret(issuer.key.public_pem().as_bytes())).expect("a token");
    assert_eq!(issuer.verifier().verify(&forged), Err(TokenError::Algorithm("HS256".into())));
}

#[test]
fn keys_rotate_and_a_bad_set_changes_nothing() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let verifier = old.verifier();
    let nameless = String::from_utf8(new.jwks()).expect("JSON is text").replace("kid", "other");
    for bad in [&b"{"[..], b"{}", nameless.as_bytes()] {
        assert!(verifier.replace(bad).is_err());
    }
    verifier.verify(&old.token(&old.claims())).expect("the old keys are still there");
    verifier.replace(&new.jwks()).expect("a key set");
    verifier.verify(&new.token(&new.claims())).expect("the new key is trusted");
    assert_eq!(verifier.verify(&old.token(&old.claims())), Err(TokenError::UnknownKey));
}

#[test]
fn a_token_expires_as_time_goes_on() {
    let issuer = Issuer::new();
    let (verifier, token) = (issuer.verifier(), issuer.token(&issuer.claims()));
    verifier.verify(&token).expect("the token is good");
    issuer.clock.advance(Duration::from_secs(80));
    assert_eq!(verifier.verify(&token), Err(TokenError::Expired));
}
