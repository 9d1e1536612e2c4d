//! ServiceAccountTokens: signs and reads the JWTs of service accounts (KEP-1205, bound tokens).
use crate::AuthError;
use crate::legacy_token::{LEGACY_ISSUER, LegacyClaims};
use api_meta::ClusterName;
use clock::random_bytes;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use pki::SigningKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

/// Verified tokens remembered, so that a client's every request does not cost a signature check.
const REMEMBERED: usize = 4096;
const CLOCK_SKEW: i64 = 60;
/// Between the server's issuer and a virtual cluster's name.
const CLUSTERS: &str = "/clusters/";

/// What a token shall be good for.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    pub cluster: ClusterName,
    pub namespace: String,
    /// The service account's name and uid.
    pub name: String,
    pub uid: String,
    /// Empty: the API server itself.
    pub audiences: Vec<String>,
    pub expires_in: Duration,
    /// The object whose deletion ends the token: a Pod, Secret or Node.
    pub bound: Option<Bound>,
    /// The node a bound pod runs on.
    pub node: Option<Reference>,
    /// Seconds after which use of the token is worth a warning (the token outlives what was asked for).
    pub warn_after: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    pub kind: String,
    pub api_version: String,
    pub name: String,
    pub uid: String,
}

/// A name and the uid it must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// A signed token and the time it ends.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub token: String,
    pub expires: Timestamp,
    /// The `jti` claim, which audit logs name a token by.
    pub id: String,
}

/// What a token says. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaims,
    /// The cluster whose API server gave the token, and the only one that takes it.
    #[serde(rename = "k8shost.io/cluster")]
    pub cluster: String,
    pub nbf: i64,
    pub sub: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

/// One signing key for all clusters: the claims bind a token to its own.
pub struct ServiceAccountTokens {
    issuer: String,
    /// What a token for the API server is for.
    audiences: Vec<String>,
    /// Where others find the public key; `None`: at this server.
    jwks_uri: Option<String>,
    key: SigningKey,
    key_id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    verified: Verified<Claims>,
    verified_legacy: Verified<LegacyClaims>,
}

/// Tokens whose signatures were right.
type Verified<T> = Mutex<HashMap<Box<str>, T>>;

impl ServiceAccountTokens {
    /// `signing_key_pem` is a P-256 key in PKCS#8 PEM.
    pub fn new(signing_key_pem: &str, issuer: &str) -> Result<Self, AuthError> {
        let unusable = |error: jsonwebtoken::errors::Error| AuthError::Key(error.to_string());
        let key = SigningKey::from_pem(signing_key_pem).map_err(|error| AuthError::Key(error.to_string()))?;
        Ok(Self {
            issuer: issuer.to_owned(),
            audiences: vec![issuer.to_owned()],
            jwks_uri: None,
            key_id: key.key_id(),
            encoding: EncodingKey::from_ec_pem(signing_key_pem.as_bytes()).map_err(unusable)?,
            decoding: DecodingKey::from_ec_pem(key.public_pem().as_bytes()).map_err(unusable)?,
            key,
            verified: Mutex::default(),
            verified_legacy: Mutex::default(),
        })
    }

    /// Audiences of the API server other than its issuer's name.
    #[must_use]
    pub fn with_audiences(mut self, audiences: Vec<String>) -> Self {
        self.audiences = audiences;
        self
    }

    /// Names another place than this server for the public key.
    #[must_use]
    pub fn with_jwks_uri(mut self, uri: String) -> Self {
        self.jwks_uri = Some(uri);
        self
    }

    /// Who says so, in a cluster's tokens: verifiers outside tell clusters apart by it, as all share a key.
    pub fn issuer(&self, cluster: &ClusterName) -> String {
        if cluster.is_root() { self.issuer.clone() } else { format!("{}{CLUSTERS}{cluster}", self.issuer) }
    }

    /// The audiences of a token that names none: the cluster's API.
    pub fn default_audiences(&self, cluster: &ClusterName) -> Vec<String> {
        if cluster.is_root() { self.audiences.clone() } else { vec![self.issuer(cluster)] }
    }

    pub fn issue(&self, spec: &TokenSpec, now: Timestamp) -> Result<IssuedToken, AuthError> {
        let issued = now.as_second();
        let expires = issued.saturating_add(i64::try_from(spec.expires_in.as_secs()).unwrap_or(i64::MAX));
        let reference = |kind: &str| spec.bound.as_ref().filter(|b| b.kind == kind).map(|b| Reference { name: b.name.clone(), uid: b.uid.clone() });
        if let Some(bound) = spec.bound.as_ref().filter(|b| !matches!(b.kind.as_str(), "Pod" | "Secret" | "Node")) {
            return Err(AuthError::Token(format!("a token can't be bound to a {}", bound.kind)));
        }
        let id = uuid_v4();
        let claims = Claims {
            aud: if spec.audiences.is_empty() { self.default_audiences(&spec.cluster) } else { spec.audiences.clone() },
            exp: expires,
            iat: issued,
            iss: self.issuer(&spec.cluster),
            jti: id.clone(),
            kubernetes: KubernetesClaims {
                namespace: spec.namespace.clone(),
                node: reference("Node").or_else(|| spec.node.clone()),
                pod: reference("Pod"),
                secret: reference("Secret"),
                serviceaccount: Reference { name: spec.name.clone(), uid: spec.uid.clone() },
                warnafter: spec.warn_after.map(|after| issued.saturating_add(i64::try_from(after.as_secs()).unwrap_or(i64::MAX))),
            },
            cluster: spec.cluster.as_str().to_owned(),
            nbf: issued,
            sub: service_account_username(&spec.namespace, &spec.name),
        };
        let token = self.signed(&claims)?;
        let expires = Timestamp::from_second(expires).map_err(|error| AuthError::Token(format!("its end is out of range: {error}")))?;
        Ok(IssuedToken { token, expires, id })
    }

    /// A token that lasts as long as the Secret it is for, and its account, of this uid.
    pub fn issue_legacy(&self, cluster: &ClusterName, namespace: &str, secret: &str, account: &str, uid: &str) -> Result<String, AuthError> {
        self.signed(&LegacyClaims {
            iss: LEGACY_ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            uid: uid.to_owned(),
            cluster: cluster.as_str().to_owned(),
            sub: service_account_username(namespace, account),
        })
    }

    fn signed(&self, claims: &impl Serialize) -> Result<String, AuthError> {
        let header = Header { alg: Algorithm::ES256, typ: None, kid: Some(self.key_id.clone()), ..Header::default() };
        jsonwebtoken::encode(&header, claims, &self.encoding).map_err(|error| AuthError::Token(error.to_string()))
    }

    /// Whether the token claims to be one of ours. Nothing is verified.
    pub fn is_ours(&self, token: &str) -> bool {
        issuer_of(token).is_some_and(|issuer| issuer.strip_prefix(&self.issuer).is_some_and(|rest| rest.is_empty() || rest.starts_with(CLUSTERS)))
    }

    /// The claims of a legacy token whose signature is right; `None` for what is no legacy token.
    pub fn legacy(&self, token: &str) -> Result<Option<LegacyClaims>, AuthError> {
        if issuer_of(token).is_none_or(|issuer| issuer != LEGACY_ISSUER) {
            return Ok(None);
        }
        self.verified(token, &self.verified_legacy).map(Some)
    }

    /// The claims of a token whose signature, cluster, time and audience are right (one audience in
    /// common with `audiences` is enough; none given: the API server's). Whether the objects it is
    /// bound to are still there is not looked at.
    pub fn review(&self, cluster: &ClusterName, token: &str, audiences: &[String], now: Timestamp) -> Result<Claims, AuthError> {
        let claims = self.verified(token, &self.verified)?;
        if claims.cluster != cluster.as_str() || claims.iss != self.issuer(cluster) {
            return Err(AuthError::OtherCluster);
        }
        let now = now.as_second();
        if now >= claims.exp.saturating_add(CLOCK_SKEW) {
            return Err(AuthError::Expired);
        }
        if now < claims.nbf.saturating_sub(CLOCK_SKEW) {
            return Err(AuthError::NotYet);
        }
        let own = self.default_audiences(cluster);
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        if claims.aud.iter().any(|audience| wanted.contains(audience)) { Ok(claims) } else { Err(AuthError::Audience(wanted.to_vec())) }
    }

    fn verified<T: DeserializeOwned + Clone>(&self, token: &str, known: &Verified<T>) -> Result<T, AuthError> {
        if let Some(claims) = known.lock().get(token) {
            return Ok(claims.clone());
        }
        // Times, audiences and the issuer are compared by who asks, with the clock and cluster given.
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<T>(token, &self.decoding, &validation).map_err(|error| AuthError::Token(error.to_string()))?.claims;
        let mut known = known.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(token.into(), claims.clone());
        Ok(claims)
    }

    /// `/openid/v1/jwks`: the public key, for others who want to verify tokens.
    pub fn jwks(&self) -> Value {
        let (x, y) = self.key.coordinates();
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
    }

    /// `/.well-known/openid-configuration`. `base_url` is the cluster's API, without a final slash.
    pub fn openid_configuration(&self, cluster: &ClusterName, base_url: &str) -> Value {
        json!({
            "issuer": self.issuer(cluster),
            "jwks_uri": self.jwks_uri.clone().unwrap_or_else(|| format!("{base_url}/openid/v1/jwks")),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

/// `system:serviceaccount:NAMESPACE:NAME`.
pub fn service_account_username(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Who a token says it is from.
fn issuer_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    jsonwebtoken::dangerous::insecure_decode::<Issuer>(token).ok().map(|data| data.claims.iss)
}

fn uuid_v4() -> String {
    let mut bytes = random_bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

    fn tokens() -> ServiceAccountTokens {
        ServiceAccountTokens::new(&SigningKey::generate().unwrap().pem(), ISSUER).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn spec() -> TokenSpec {
        TokenSpec {
            cluster: ClusterName::root(),
            namespace: "ns".into(),
            name: "sa".into(),
            uid: "u1".into(),
            audiences: vec![],
            expires_in: Duration::from_secs(3607),
            bound: Some(Bound { kind: "Pod".into(), api_version: "v1".into(), name: "p".into(), uid: "u2".into() }),
            node: Some(Reference { name: "n".into(), uid: "u3".into() }),
            warn_after: None,
        }
    }

    #[test]
    fn a_token_says_what_it_was_issued_for() {
        let tokens = tokens();
        let issued = tokens.issue(&spec(), now()).unwrap();
        assert!(tokens.is_ours(&issued.token));
        let claims = tokens.review(&ClusterName::root(), &issued.token, &[], now()).unwrap();
        assert_eq!(claims.sub, "system:serviceaccount:ns:sa");
        assert_eq!(claims.aud, [ISSUER]);
        assert_eq!(claims.kubernetes.pod, Some(Reference { name: "p".into(), uid: "u2".into() }));
        assert_eq!(claims.kubernetes.node, Some(Reference { name: "n".into(), uid: "u3".into() }));
        assert_eq!(issued.expires.as_second() - now().as_second(), 3607);
        assert_eq!(claims.jti.len(), 36);
    }

    #[test]
    fn a_token_is_refused_in_another_cluster_time_or_audience_and_by_another_key() {
        let tokens = tokens();
        let issued = tokens.issue(&spec(), now()).unwrap().token;
        let after = |seconds: i64| now() + jiff::SignedDuration::from_secs(seconds);
        let review = |cluster: &str, audiences: &[&str], at: Timestamp| {
            let audiences: Vec<String> = audiences.iter().map(ToString::to_string).collect();
            tokens.review(&ClusterName::parse(cluster).unwrap(), &issued, &audiences, at)
        };
        assert!(matches!(review("tenant", &[], now()), Err(AuthError::OtherCluster)));
        assert!(review("root", &[], after(3600)).is_ok());
        assert!(matches!(review("root", &[], after(3700)), Err(AuthError::Expired)));
        assert!(matches!(review("root", &[], after(-100)), Err(AuthError::NotYet)));
        assert!(matches!(review("root", &["vault"], now()), Err(AuthError::Audience(_))));
        assert!(review("root", &["vault", ISSUER], now()).is_ok());
        assert!(self::tokens().review(&ClusterName::root(), &issued, &[], now()).is_err());
        let mut forged = issued.clone();
        forged.insert(issued.find('.').unwrap() + 5, 'A');
        assert!(tokens.review(&ClusterName::root(), &forged, &[], now()).is_err());
        assert!(!tokens.is_ours("not.a.token"));
    }
}
