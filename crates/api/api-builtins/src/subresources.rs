//! The subresources of built-in kinds besides status and scale.
use api_resource::{Subresource, SubresourceKind};
use serde_json::Value;

const READ_WRITE: &[&str] = &["get", "patch", "update"];
const CREATE: &[&str] = &["create"];
const CONNECT: &[&str] = &["create", "get"];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];

const fn special(name: &'static str, speaks: (&'static str, &'static str, &'static str), verbs: &'static [&'static str]) -> Subresource {
    Subresource { name, kind: SubresourceKind::Special, speaks, verbs }
}

const fn part(name: &'static str, merge: fn(&Value, &Value) -> Value, verbs: &'static [&'static str]) -> Subresource {
    Subresource { name, kind: SubresourceKind::Part(merge), speaks: ("", "", ""), verbs }
}

pub const LOG: Subresource = special("log", ("", "v1", "Pod"), &["get"]);
pub const EXEC: Subresource = special("exec", ("", "v1", "PodExecOptions"), CONNECT);
pub const ATTACH: Subresource = special("attach", ("", "v1", "PodAttachOptions"), CONNECT);
pub const PORT_FORWARD: Subresource = special("portforward", ("", "v1", "PodPortForwardOptions"), CONNECT);
pub const POD_PROXY: Subresource = special("proxy", ("", "v1", "PodProxyOptions"), PROXY);
pub const SERVICE_PROXY: Subresource = special("proxy", ("", "v1", "ServiceProxyOptions"), PROXY);
pub const NODE_PROXY: Subresource = special("proxy", ("", "v1", "NodeProxyOptions"), PROXY);
pub const BINDING: Subresource = special("binding", ("", "v1", "Binding"), CREATE);
pub const EVICTION: Subresource = special("eviction", ("policy", "v1", "Eviction"), CREATE);
pub const TOKEN: Subresource = special("token", ("authentication.k8s.io", "v1", "TokenRequest"), CREATE);

/// `/ephemeralcontainers` of a Pod: only that list is taken from what was sent.
pub const EPHEMERAL_CONTAINERS: Subresource = part("ephemeralcontainers", ephemeral_containers, READ_WRITE);

/// `/resize` of a Pod: only the containers' resources and resize policies, and the pod's own resources.
pub const RESIZE: Subresource = part("resize", resize, READ_WRITE);

/// `/finalize` of a Namespace: all but the status, which is kept.
pub const FINALIZE: Subresource = part("finalize", all_but_status, &["update"]);

/// `/approval` of a CertificateSigningRequest: its conditions.
pub const APPROVAL: Subresource = part("approval", conditions, READ_WRITE);

fn ephemeral_containers(stored: &Value, sent: &Value) -> Value {
    let mut merged = stored.clone();
    keep_preconditions(&mut merged, sent);
    copy(&mut merged["spec"], &sent["spec"], "ephemeralContainers");
    merged
}

fn resize(stored: &Value, sent: &Value) -> Value {
    let mut merged = stored.clone();
    keep_preconditions(&mut merged, sent);
    copy(&mut merged["spec"], &sent["spec"], "resources");
    for list in ["containers", "initContainers"] {
        let Some(containers) = merged["spec"].get_mut(list).and_then(Value::as_array_mut) else { continue };
        let asked = sent["spec"][list].as_array().map_or(&[][..], Vec::as_slice);
        if asked.len() != containers.len() {
            // A resize neither adds nor removes containers: let validation see what was sent and say so.
            merged["spec"][list] = sent["spec"][list].clone();
            continue;
        }
        for (container, asked) in containers.iter_mut().zip(asked) {
            if container["name"] == asked["name"] {
                copy(container, asked, "resources");
                copy(container, asked, "resizePolicy");
            }
        }
    }
    merged
}

fn all_but_status(stored: &Value, sent: &Value) -> Value {
    let mut merged = sent.clone();
    copy(&mut merged, stored, "status");
    merged
}

fn conditions(stored: &Value, sent: &Value) -> Value {
    let mut merged = stored.clone();
    for key in ["labels", "annotations", "managedFields"] {
        copy(&mut merged["metadata"], &sent["metadata"], key);
    }
    keep_preconditions(&mut merged, sent);
    if !merged["status"].is_object() {
        merged["status"] = Value::Object(serde_json::Map::new());
    }
    copy(&mut merged["status"], &sent["status"], "conditions");
    merged
}

/// The writer's resourceVersion and uid, which the store compares, and the managers of the fields.
fn keep_preconditions(merged: &mut Value, sent: &Value) {
    for key in ["resourceVersion", "uid", "managedFields"] {
        copy(&mut merged["metadata"], &sent["metadata"], key);
    }
}

/// Makes `to[key]` what `from[key]` is, absence included.
fn copy(to: &mut Value, from: &Value, key: &str) {
    match from.get(key) {
        Some(value) => to[key] = value.clone(),
        None => {
            if let Some(to) = to.as_object_mut() {
                to.remove(key);
            }
        }
    }
}
