//! ServiceAccount: every pod runs as a service account that exists, with a token of it mounted.
use crate::plugins::is_mirror_pod;
use crate::pod::containers_mut;
use crate::request::{entry_list, items};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Object, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and seven seconds: the seven tell that the token was asked for here (upstream's WarnOnlyBoundTokenExpirationPeriod).
const TOKEN_SECONDS: i64 = 3607;
/// The controller may just be making the `default` account of a new namespace.
const DEFAULT_ATTEMPTS: u32 = 10;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

pub struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "pods") || request.operation != Operation::Create || is_mirror_pod(request.object()) {
            return Ok(());
        }
        let name = match request.object()["spec"]["serviceAccountName"].as_str() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => "default".to_owned(),
        };
        let spec = request.spec_mut();
        spec.insert("serviceAccountName".into(), name.as_str().into());
        // The deprecated alias always says the same.
        spec.insert("serviceAccount".into(), name.as_str().into());
        let account = find_account(request, lookup, &name).await?;
        let account = account.value();
        let object = request.object.as_mut().expect("spec_mut made one");
        if automounts(account, object) {
            mount_token(object);
        }
        if items(&object["spec"]["imagePullSecrets"]).is_empty() && !items(&account["imagePullSecrets"]).is_empty() {
            object["spec"]["imagePullSecrets"] = account["imagePullSecrets"].clone();
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let ephemeral = request.is_part("", "pods", "ephemeralcontainers") && request.operation == Operation::Update;
        if !ephemeral && (!request.is("", "pods") || request.operation != Operation::Create) {
            return Ok(());
        }
        let pod = request.object();
        let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
        if is_mirror_pod(pod) {
            return match mirror_pod_refers_to(pod) {
                Some(why) => Err(request.forbidden(why)),
                None => Ok(()),
            };
        }
        if name.is_empty() {
            return Err(request.forbidden(format_args!("no service account specified for pod {}/{}", request.namespace, request.display_name())));
        }
        let account = find_account(request, lookup, name).await?;
        let account = account.value();
        let enforced = account["metadata"]["annotations"]["kubernetes.io/enforce-mountable-secrets"].as_str();
        if enforced.is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
            && let Some(why) = unmountable_secret(account, pod, ephemeral)
        {
            return Err(request.forbidden(why));
        }
        Ok(())
    }
}

async fn find_account(request: &AdmissionRequest<'_>, lookup: &dyn Lookup, name: &str) -> Result<Arc<Object>, Status> {
    let accounts = GroupResource::new("", "serviceaccounts");
    let attempts = if name == "default" { DEFAULT_ATTEMPTS } else { 1 };
    for attempt in 1..=attempts {
        if let Some(account) = lookup.get(request.cluster, &accounts, request.namespace, name).await? {
            return Ok(account);
        }
        if attempt < attempts {
            tokio::time::sleep(BETWEEN_ATTEMPTS).await;
        }
    }
    let namespace = request.namespace;
    Err(request.forbidden(format_args!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found")))
}

fn automounts(account: &Value, pod: &Value) -> bool {
    pod["spec"]["automountServiceAccountToken"].as_bool().or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true)
}

fn mount_token(pod: &mut Value) {
    let existing = items(&pod["spec"]["volumes"]).iter().filter_map(|v| v["name"].as_str()).find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let has_volume = existing.is_some();
    let name = existing.unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", clock::random_suffix(5)));
    let mut mounted = false;
    for container in containers_mut(pod, &["initContainers", "containers"]) {
        if items(&container["volumeMounts"]).iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
            continue;
        }
        if let Some(container) = container.as_object_mut() {
            entry_list(container, "volumeMounts").push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            mounted = true;
        }
    }
    if mounted && !has_volume {
        let volume = json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}});
        entry_list(crate::request::entry_object(pod, "spec"), "volumes").push(volume);
    }
}

/// What a pod that mirrors a node's own may not refer to, if it does.
fn mirror_pod_refers_to(pod: &Value) -> Option<&'static str> {
    if pod["spec"]["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Some("a mirror pod may not reference service accounts");
    }
    if !secrets_of(pod).is_empty() {
        return Some("a mirror pod may not reference secrets");
    }
    let projects_token =
        items(&pod["spec"]["volumes"]).iter().flat_map(|volume| items(&volume["projected"]["sources"])).any(|source| source["serviceAccountToken"].is_object());
    projects_token.then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// How a pod refers to secrets: (how it is said upstream, the secret).
fn secrets_of(pod: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |how: String, secret: &Value| {
        if let Some(secret) = secret.as_str().filter(|name| !name.is_empty()) {
            found.push((how, secret.to_owned()));
        }
    };
    for volume in items(&pod["spec"]["volumes"]) {
        let name = &volume["name"];
        add(format!("volume with secret.secretName={} ({name})", volume["secret"]["secretName"]), &volume["secret"]["secretName"]);
    }
    for (list, kind) in [("initContainers", "init container"), ("containers", "container"), ("ephemeralContainers", "ephemeral container")] {
        for container in items(&pod["spec"][list]) {
            let name = container["name"].as_str().unwrap_or_default();
            for variable in items(&container["env"]) {
                let secret = &variable["valueFrom"]["secretKeyRef"]["name"];
                let variable = variable["name"].as_str().unwrap_or_default();
                add(format!("{kind} {name} with envVar {variable} referencing secret.secretName={secret}"), secret);
            }
            for from in items(&container["envFrom"]) {
                let secret = &from["secretRef"]["name"];
                add(format!("{kind} {name} with envFrom referencing secret.secretName={secret}"), secret);
            }
        }
    }
    for secret in items(&pod["spec"]["imagePullSecrets"]) {
        add(format!("imagePullSecrets[].name={}", secret["name"]), &secret["name"]);
    }
    found
}

/// Of an update of ephemeral containers only those count.
fn unmountable_secret(account: &Value, pod: &Value, ephemeral: bool) -> Option<String> {
    let listed = |list: &str, name: &str| items(&account[list]).iter().any(|secret| secret["name"] == name);
    secrets_of(pod).into_iter().filter(|(how, _)| !ephemeral || how.starts_with("ephemeral")).find_map(|(how, secret)| {
        let pull = how.starts_with("imagePullSecrets");
        let (list, what) = if pull { ("imagePullSecrets", "imagePullSecret") } else { ("secrets", "secret") };
        let account = account["metadata"]["name"].as_str().unwrap_or_default();
        (!listed(list, &secret)).then(|| format!("{how} is not allowed because service account {account} does not reference that {what}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};

    fn world(account: Value) -> World {
        World::of([("serviceaccounts", account)])
    }

    fn pod(spec: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}});
        pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        pod
    }

    fn default_account() -> Value {
        json!({"metadata": {"name": "default", "namespace": "a"}, "imagePullSecrets": [{"name": "registry"}]})
    }

    #[tokio::test]
    async fn a_pod_gets_the_default_account_its_token_and_its_pull_secrets() {
        let answer = ask("pods").named("a", "x").creates(pod(json!({}))).mutated(&ServiceAccount, &world(default_account())).await.unwrap();
        let spec = &answer.object["spec"];
        assert_eq!((&spec["serviceAccountName"], &spec["serviceAccount"]), (&json!("default"), &json!("default")));
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
        let volume = &spec["volumes"][0];
        assert!(volume["name"].as_str().unwrap().starts_with(VOLUME_PREFIX));
        assert_eq!(volume["projected"]["sources"][0], json!({"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}));
        for list in ["containers", "initContainers"] {
            assert_eq!(spec[list][0]["volumeMounts"], json!([{"name": volume["name"], "readOnly": true, "mountPath": MOUNT_PATH}]));
        }
    }

    #[tokio::test]
    async fn the_token_is_mounted_only_where_it_is_wanted() {
        for (account, spec, volumes) in [
            (json!({"automountServiceAccountToken": false}), json!({}), 0),
            (json!({"automountServiceAccountToken": false}), json!({"automountServiceAccountToken": true}), 1),
            (json!({}), json!({"automountServiceAccountToken": false}), 0),
            (
                json!({}),
                json!({"containers": [{"volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}], "initContainers": [], "volumes": [{"name": "own"}]}),
                1,
            ),
        ] {
            let mut account = account;
            account["metadata"] = json!({"name": "default", "namespace": "a"});
            let answer = ask("pods").named("a", "x").creates(pod(spec.clone())).mutated(&ServiceAccount, &world(account)).await.unwrap();
            assert_eq!(items(&answer.object["spec"]["volumes"]).len(), volumes, "{spec}");
        }
    }

    #[tokio::test]
    async fn a_missing_account_or_a_forbidden_reference_is_refused() {
        let refused = |spec: Value, account: Value| async move {
            ask("pods").named("a", "x").creates(pod(spec)).validated(&ServiceAccount, &world(account)).await.unwrap_err().message
        };
        assert_eq!(
            ask("pods").named("a", "x").creates(pod(json!({}))).mutated(&ServiceAccount, &World::default()).await.unwrap_err().message,
            "pods \"x\" is forbidden: error looking up service account a/default: serviceaccount \"default\" not found"
        );
        let mirror = json!({"metadata": {"name": "x", "annotations": {"kubernetes.io/config.mirror": "1"}}, "spec": {"serviceAccountName": "default"}});
        assert_eq!(
            ask("pods").named("a", "x").creates(mirror).validated(&ServiceAccount, &World::default()).await.unwrap_err().message,
            "pods \"x\" is forbidden: a mirror pod may not reference service accounts"
        );
        let strict = json!({"metadata": {"name": "s", "namespace": "a", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}});
        assert_eq!(
            refused(json!({"serviceAccountName": "s", "imagePullSecrets": [{"name": "r"}]}), strict).await,
            "pods \"x\" is forbidden: imagePullSecrets[].name=\"r\" is not allowed because service account s does not reference that imagePullSecret"
        );
    }
}
