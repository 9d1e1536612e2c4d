//! Legacy tokens: those kept in Secrets of type kubernetes.io/service-account-token, which end with their Secret alone.
//!
//! Source: upstream's legacy token validator, and KEP-2799 for the marks on Secrets.
use crate::tokens::service_account_username;
use crate::{AuthError, User};
use api_meta::{ClusterName, GroupResource, Object};
use api_resource::Lookup;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who says so, in every cluster.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// The day of its last use, on a Secret.
pub const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The day since which it is no good, on a Secret.
pub const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// What such a token says. It has no end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyClaims {
    pub iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
    /// The cluster whose API server takes it, and the only one.
    #[serde(rename = "k8shost.io/cluster")]
    pub cluster: String,
    pub sub: String,
}

/// A use of a legacy token, which the server makes a note of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyUse {
    pub namespace: String,
    pub secret: String,
    pub secret_uid: String,
    /// Whether its account names the Secret: it was made unasked, by an old control plane.
    pub auto_generated: bool,
    /// The day to be noted on the Secret; `None` if it is there already.
    pub note: Option<String>,
}

impl LegacyClaims {
    fn subject_fits(&self) -> bool {
        self.sub == service_account_username(&self.namespace, &self.account)
    }
}

/// A day, as the marks on Secrets have it.
pub fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// The user of a token whose signature is right, as long as its Secret holds it and its account is there.
pub async fn authenticate(
    cluster: &ClusterName,
    token: &str,
    claims: &LegacyClaims,
    now: Timestamp,
    lookup: &dyn Lookup,
) -> Result<(User, LegacyUse), AuthError> {
    let invalidated = |why: String| AuthError::Invalidated(why);
    if claims.cluster != cluster.as_str() {
        return Err(AuthError::OtherCluster);
    }
    if !claims.subject_fits() {
        return Err(AuthError::Token("its subject is not its account".into()));
    }
    let get = |resource: &'static str, name: &str| {
        let name = name.to_owned();
        async move { lookup.get(cluster, &GroupResource::new("", resource), &claims.namespace, &name).await.map_err(AuthError::Lookup) }
    };
    let is_there = |object: &Object| object.meta().deletion_timestamp.is_none();
    let Some(secret) = get("secrets", &claims.secret).await?.filter(|secret| is_there(secret)) else {
        return Err(invalidated(format!("secret {:?} is gone", claims.secret)));
    };
    let secret = secret.value();
    let held = secret["data"]["token"].as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
    if held != token.as_bytes() {
        return Err(invalidated("token does not match server's copy".into()));
    }
    let Some(account) = get("serviceaccounts", &claims.account).await?.filter(|account| is_there(account)) else {
        return Err(invalidated(format!("service account {}/{} has been deleted", claims.namespace, claims.account)));
    };
    if *account.meta().uid != *claims.uid {
        return Err(invalidated(format!("service account UID ({}) does not match claim ({})", account.meta().uid, claims.uid)));
    }
    let account = account.value();
    let names_it = |reference: &Value| reference["name"] == claims.secret.as_str();
    let labels = &secret["metadata"]["labels"];
    let used = LegacyUse {
        namespace: claims.namespace.clone(),
        secret: claims.secret.clone(),
        secret_uid: secret["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
        auto_generated: account["secrets"].as_array().is_some_and(|all| all.iter().any(names_it)),
        note: note(labels[LAST_USED].as_str().unwrap_or_default(), now),
    };
    if labels[INVALID_SINCE].as_str().is_some_and(|since| !since.is_empty()) {
        return Err(AuthError::MarkedInvalid { used: Box::new(used), account: claims.account.clone() });
    }
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", claims.namespace)];
    let mut user = User::authenticated(&claims.sub, groups);
    user.uid.clone_from(&claims.uid);
    Ok((user, used))
}

/// Today, unless that is noted. Another server's clock may be a day ahead.
fn note(noted: &str, now: Timestamp) -> Option<String> {
    let tomorrow = now.saturating_add(SignedDuration::from_hours(24)).map_or_else(|_| String::new(), day);
    (noted != day(now) && noted != tomorrow).then(|| day(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceAccountTokens;
    use api_meta::Status;
    use pki::SigningKey;
    use serde_json::json;
    use std::sync::Arc;

    /// A Secret and an account.
    struct World(Value, Value);

    #[async_trait::async_trait]
    impl Lookup for World {
        async fn get(&self, _: &ClusterName, resource: &GroupResource, _: &str, _: &str) -> Result<Option<Arc<Object>>, Status> {
            let value = if resource.resource == "secrets" { &self.0 } else { &self.1 };
            Ok(value.is_object().then(|| Arc::new(Object::parse(serde_json::to_vec(value).unwrap().into()).unwrap())))
        }
        async fn list(&self, _: &ClusterName, _: &GroupResource, _: Option<&str>) -> Result<Vec<Arc<Object>>, Status> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn a_legacy_token_counts_as_long_as_its_secret_holds_it() {
        let tokens = ServiceAccountTokens::new(&SigningKey::generate().unwrap().pem(), "https://issuer").unwrap();
        let root = ClusterName::root();
        let token = tokens.issue_legacy(&root, "a", "s", "sa", "u1").unwrap();
        let claims = tokens.legacy(&token).unwrap().unwrap();
        assert_eq!(tokens.legacy("opaque").unwrap(), None);
        assert!(ServiceAccountTokens::new(&SigningKey::generate().unwrap().pem(), "https://issuer").unwrap().legacy(&token).is_err(), "another key's");
        let now: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
        let secret = |token: &str, with: Value| {
            let mut metadata = json!({"name": "s", "namespace": "a", "uid": "u2"});
            metadata.as_object_mut().unwrap().extend(with.as_object().cloned().unwrap());
            json!({"metadata": metadata, "data": {"token": STANDARD.encode(token)}})
        };
        let account = |uid: &str, secrets: Value| json!({"metadata": {"name": "sa", "namespace": "a", "uid": uid}, "secrets": secrets});
        let check = async |secret: Value, account: Value| authenticate(&root, &token, &claims, now, &World(secret, account)).await;
        let (user, used) = check(secret(&token, json!({})), account("u1", json!([]))).await.unwrap();
        assert_eq!((user.username.as_str(), user.uid.as_str()), ("system:serviceaccount:a:sa", "u1"));
        assert_eq!((used.auto_generated, used.note.as_deref()), (false, Some("2026-03-04")));
        for noted in ["2026-03-04", "2026-03-05"] {
            let (_, used) = check(secret(&token, json!({"labels": {LAST_USED: noted}})), account("u1", json!([{"name": "s"}]))).await.unwrap();
            assert_eq!((used.auto_generated, used.note), (true, None), "{noted}");
        }
        for (secret, account, why) in [
            (Value::Null, account("u1", json!([])), "is gone"),
            (secret(&token, json!({"deletionTimestamp": "2026-03-04T05:06:06Z"})), account("u1", json!([])), "is gone"),
            (secret("another", json!({})), account("u1", json!([])), "does not match server's copy"),
            (secret(&token, json!({})), Value::Null, "has been deleted"),
            (secret(&token, json!({})), account("u9", json!([])), "does not match claim"),
            (secret(&token, json!({"labels": {INVALID_SINCE: "2026-01-01"}})), account("u1", json!([])), "has been marked invalid"),
        ] {
            let told = check(secret, account).await.unwrap_err().to_string();
            assert!(told.contains(why), "{told}");
        }
        let tenant = ClusterName::parse("tenant").unwrap();
        let world = World(secret(&token, json!({})), account("u1", json!([])));
        assert!(matches!(authenticate(&tenant, &token, &claims, now, &world).await, Err(AuthError::OtherCluster)));
    }
}
