//! What a status of a pod can't say: that it changed its class, or that a container it should not restart runs again.
use crate::check::{At, Report, network};
use crate::fields::Read;
use api_meta::{FieldErrors, names};
use serde_json::Value;

const SYSTEM_CONDITIONS: &[&str] = &["PodScheduled", "Ready", "Initialized"];

pub fn status(errors: &mut FieldErrors, status: &At, old: &Value) {
    let (before, spec) = (&old["status"], &old["spec"]);
    let conditions = status.field("conditions");
    for condition in conditions.items() {
        let kind = condition["type"].text();
        if !SYSTEM_CONDITIONS.contains(&kind) {
            for reason in names::qualified_name(kind) {
                errors.invalid_as(&condition.field("Type"), kind, reason);
            }
        }
        not_negative(errors, &condition.field("observedGeneration"));
    }
    not_negative(errors, &status.field("observedGeneration"));
    let nominated = status.field("nominatedNodeName");
    if before["nominatedNodeName"] != *nominated.value() {
        errors.named_if_set(&nominated, names::dns1123_subdomain);
    }
    if before["qosClass"].is_set() {
        errors.immutable(&status.field("qosClass"), &before["qosClass"]);
    }
    let restarts = spec["restartPolicy"].text();
    let sidecars: Vec<&str> =
        spec["initContainers"].list().iter().filter(|container| container["restartPolicy"] == "Always").map(|container| container["name"].text()).collect();
    for (list, policy) in [("containerStatuses", restarts), ("initContainerStatuses", restarts), ("ephemeralContainerStatuses", "Never")] {
        if policy != "Always" {
            stays_terminated(errors, &status.field(list), &before[list], policy, spec, &sidecars);
        }
    }
    for list in ["podIPs", "hostIPs"] {
        let list = status.field(list);
        let mut families = Vec::new();
        for address in list.items() {
            if let Some(address) = network::ip(errors, &address.field("ip")) {
                families.push(address.is_ipv4());
            }
        }
        network::one_of_each_family(errors, &list, &families, "may specify no more than one IP for each IP family");
    }
    let hosts = status.field("hostIPs");
    if !hosts.list().is_empty() && hosts[0]["ip"] != status["hostIP"] {
        errors.invalid(&hosts.index(0).field("ip"), "must be equal to `hostIP`");
    }
}

fn not_negative(errors: &mut FieldErrors, at: &At) {
    if at.int().is_some_and(|generation| generation < 0) {
        errors.invalid(at, "must be a non-negative integer");
    }
}

fn stays_terminated(errors: &mut FieldErrors, at: &At, before: &Value, policy: &str, spec: &Value, sidecars: &[&str]) {
    for (index, old) in before.list().iter().enumerate() {
        let ended = &old["state"]["terminated"];
        let name = old["name"].text();
        let may_restart =
            sidecars.contains(&name) || own_restart_policy(spec, name) || (policy == "OnFailure" && ended["exitCode"].int().unwrap_or_default() != 0);
        if ended.is_null() || may_restart {
            continue;
        }
        if at.list().iter().any(|new| new["name"] == name && new["state"]["terminated"].is_null()) {
            errors.forbidden(&at.index(index).field("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// Whether a container says itself when it restarts.
fn own_restart_policy(spec: &Value, name: &str) -> bool {
    let all = spec["containers"].list().iter().chain(spec["initContainers"].list());
    all.filter(|container| container["name"] == name).any(|container| container["restartPolicy"].is_set() && container["restartPolicy"] != "Never")
}
