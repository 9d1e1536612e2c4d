//! Bootstrap signer: signs cluster-info with each token that may, so that a machine knows it before it trusts anybody.
//!
//! Source: the "Authenticating with Bootstrap Tokens" page; RFC 7515 appendix F (detached content).
use super::{NAMESPACE, TYPE, expiration, text};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, until};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PUBLIC: &str = "kube-public";
const CLUSTER_INFO: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

pub struct BootstrapSigner {
    kit: Kit,
    maps: Objects<ConfigMap>,
    tokens: Objects<Secret>,
}

pub struct World {
    pub info: Arc<ConfigMap>,
    pub tokens: Vec<Arc<Secret>>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Signatures by their keys; `None` takes one away.
    Sign(BTreeMap<String, Option<String>>),
}

pub fn runner(kit: &Kit) -> Runner<BootstrapSigner> {
    let (maps, tokens) = (kit.selected::<ConfigMap>(&format!("metadata.name={CLUSTER_INFO}")), kit.selected::<Secret>(&format!("type={TYPE}")));
    Runner::new(BootstrapSigner { kit: kit.clone(), maps: maps.clone(), tokens: tokens.clone() })
        .workers(1)
        .watch(&maps, |change| if &*change.key.namespace == PUBLIC { vec![change.key.clone()] } else { Vec::new() })
        .watch(&tokens, |change| vec![ObjectKey::new(&change.key.cluster, PUBLIC, CLUSTER_INFO)])
}

#[async_trait]
impl Controller for BootstrapSigner {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "bootstrap-signer-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        Some(World { info: self.maps.get(key)?, tokens: self.tokens.list(&key.cluster, Some(NAMESPACE)), now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let none = BTreeMap::new();
        let data = world.info.data.as_ref().unwrap_or(&none);
        let mut plan = Plan::nothing();
        let Some(content) = data.get(KUBECONFIG) else { return plan };
        let mut wanted: BTreeMap<String, String> = BTreeMap::new();
        for token in &world.tokens {
            let Some((id, secret)) = signing(token) else { continue };
            if let Some(end) = expiration(token) {
                match until(end, Duration::ZERO, world.now) {
                    None => continue,
                    Some(left) => plan.look_again(left),
                }
            }
            wanted.insert(format!("{SIGNATURE}{id}"), signature(content, &id, &secret));
        }
        let stale = data.keys().filter(|key| key.starts_with(SIGNATURE) && !wanted.contains_key(*key)).map(|key| (key.clone(), None));
        let mut changes: BTreeMap<String, Option<String>> = stale.collect();
        changes.extend(wanted.into_iter().filter(|(key, signature)| data.get(key) != Some(signature)).map(|(key, signature)| (key, Some(signature))));
        if !changes.is_empty() {
            plan.push(Action::Sign(changes));
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, Action::Sign(changes): Action) -> Result<(), Error> {
        let Some(info) = self.maps.get(key) else { return Ok(()) };
        let data: Map<String, Value> = changes.into_iter().map(|(key, signature)| (key, json!(signature))).collect();
        self.maps.patch(key, "", &json!({ "data": data }), &Preconditions::exactly(&info.metadata)).await?;
        Ok(())
    }
}

/// Id and secret of a token that is for signing and is what it says.
fn signing(token: &Secret) -> Option<(String, String)> {
    let (id, secret) = (text(token, "token-id")?, text(token, "token-secret")?);
    let named = token.metadata.name.as_deref() == Some(&format!("bootstrap-token-{id}"));
    let good = named && token.metadata.deletion_timestamp.is_none() && text(token, "usage-bootstrap-signing").as_deref() == Some("true");
    good.then_some((id, secret))
}

/// The content's JWS without the content: header, nothing, HMAC-SHA256.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)).as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::super::token;
    use super::*;
    use controller_kit::converges;

    fn world(tokens: Vec<Arc<Secret>>, data: Value) -> World {
        let info = json!({"metadata": {"name": CLUSTER_INFO, "namespace": PUBLIC}, "data": data});
        World { info: Arc::new(serde_json::from_value(info).unwrap()), tokens, now: "2026-01-01T00:00:00Z".parse().unwrap() }
    }

    fn settle(world: World) -> BTreeMap<String, String> {
        let end = converges(world, 2, BootstrapSigner::reconcile, |world, Action::Sign(changes)| {
            let data = Arc::make_mut(&mut world.info).data.get_or_insert_default();
            for (key, signature) in changes {
                match signature {
                    Some(signature) => data.insert(key, signature),
                    None => data.remove(&key),
                };
            }
        });
        end.info.data.clone().unwrap_or_default()
    }

    #[test]
    fn each_token_for_it_signs_and_others_signatures_go() {
        let signed = settle(world(vec![token(json!({}))], json!({"kubeconfig": "one", "jws-kubeconfig-gone00": "old"})));
        assert_eq!(signed.keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "kubeconfig"]);
        let parts: Vec<&str> = signed["jws-kubeconfig-abcdef"].split('.').collect();
        assert_eq!((parts[0], parts[1]), ("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9", ""));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let whole = format!("{}.{}", parts[0], URL_SAFE_NO_PAD.encode("one"));
        assert!(hmac::verify(&key, whole.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).is_ok());
    }

    #[test]
    fn tokens_that_are_over_or_for_something_else_do_not_sign() {
        for with in [json!({"usage-bootstrap-signing": "false"}), json!({"expiration": "2025-12-31T00:00:00Z"}), json!({"token-id": "ghijkl"})] {
            assert_eq!(settle(world(vec![token(with.clone())], json!({"kubeconfig": "one"}))).len(), 1, "{with}");
        }
        let plan = BootstrapSigner::reconcile(&world(vec![token(json!({"expiration": "2026-01-01T00:00:30Z"}))], json!({"kubeconfig": "one"})));
        assert_eq!((plan.actions.len(), plan.again_after), (1, Some(Duration::from_secs(30))));
    }

    #[test]
    fn without_a_kubeconfig_there_is_nothing_to_sign() {
        assert!(settle(world(vec![token(json!({}))], json!({}))).is_empty());
    }
}
