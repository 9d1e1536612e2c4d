//! Bootstrap tokens: those that have expired go, and those for it sign the cluster-info that machines find the cluster by.
pub mod cleaner;
pub mod signer;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok().filter(|text| !text.is_empty())
}

/// When the token ends; `None` if never, and an end that can't be read has passed.
fn expiration(secret: &Secret) -> Option<Timestamp> {
    text(secret, "expiration").map(|end| end.parse().unwrap_or(Timestamp::MIN))
}

#[cfg(test)]
fn token(with: serde_json::Value) -> std::sync::Arc<Secret> {
    let mut data = serde_json::json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"});
    data.as_object_mut().unwrap().extend(with.as_object().cloned().unwrap());
    let data = data.as_object().unwrap().iter().map(|(key, value)| {
        let bytes = k8s_openapi::ByteString(value.as_str().unwrap().as_bytes().to_vec());
        (key.clone(), bytes)
    });
    let metadata = serde_json::from_value(serde_json::json!({"name": "bootstrap-token-abcdef", "namespace": NAMESPACE, "uid": "u"})).unwrap();
    std::sync::Arc::new(Secret { metadata, data: Some(data.collect()), type_: Some(TYPE.into()), ..Default::default() })
}
