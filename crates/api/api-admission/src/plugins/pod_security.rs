//! PodSecurity: namespaces choose by labels how dangerous their pods may be (the Pod Security Standards).
pub(super) mod checks;
mod policy;

use crate::plugins::is_mirror_pod;
use crate::pod::CONTAINER_LISTS;
use crate::request::items;
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use async_trait::async_trait;
pub use policy::{Level, Policy, Standard, Version};
use serde_json::Value;
use std::collections::BTreeMap;

/// Pods looked at when a namespace's policy gets stricter.
const MOST_PODS: usize = 3000;

/// Holds the policy of namespaces that say nothing; upstream's, privileged, by default.
#[derive(Default)]
pub struct PodSecurity {
    default: Policy,
}

impl PodSecurity {
    pub fn with_default(default: Policy) -> Self {
        Self { default }
    }

    async fn policy(&self, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Policy, Status> {
        match lookup.get(request.cluster, &GroupResource::new("", "namespaces"), "", request.namespace).await? {
            Some(namespace) => Ok(Policy::of(namespace.value(), &self.default).0),
            None => Err(Status::not_found("", "namespaces", request.namespace)),
        }
    }

    /// Labels must make sense; a stricter level warns of the pods that would not be let in again.
    async fn namespace(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let (new, errors) = Policy::of(request.object(), &self.default);
        let (old, old_errors) = match request.operation {
            Operation::Update => Policy::of(request.old(), &self.default),
            _ => (new, Vec::new()),
        };
        if !errors.is_empty() && errors != old_errors {
            return Err(Status::invalid("", "Namespace", request.display_name(), &errors));
        }
        let stricter = new.enforce != old.enforce && (new.enforce.level > old.enforce.level || new.enforce.version != old.enforce.version);
        if !stricter || new.enforce.level == Level::Privileged || !request.subresource.is_empty() {
            return Ok(());
        }
        let pods = lookup.list(request.cluster, &GroupResource::new("", "pods"), Some(request.name)).await?;
        let pods: Vec<Value> = pods.iter().take(MOST_PODS).map(|pod| pod.to_value()).collect();
        let warnings = existing_pods_warnings(request.name, new.enforce, &pods);
        request.warnings.extend(warnings);
        Ok(())
    }

    async fn pod(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if request.operation == Operation::Update && !changes_significantly(request.object(), request.old()) {
            return Ok(());
        }
        let policy = self.policy(request, lookup).await?;
        let pod = request.object();
        let violations = checks::violations(policy.enforce, &pod["metadata"], &pod["spec"]);
        if !violations.is_empty() {
            return Err(request.forbidden(format_args!("violates PodSecurity {:?}: {}", policy.enforce.to_string(), checks::details(&violations))));
        }
        self.warn(request, policy.warn, &["metadata"], &["spec"]);
        Ok(())
    }

    /// A controller's pods are refused one by one when they are made; its author is warned now.
    fn warn(&self, request: &mut AdmissionRequest<'_>, standard: Standard, metadata: &[&str], spec: &[&str]) {
        let at = |path: &[&str]| path.iter().fold(request.object(), |value, key| &value[*key]);
        let violations = checks::violations(standard, at(metadata), at(spec));
        if !violations.is_empty() {
            let warning = format!("would violate PodSecurity {:?}: {}", standard.to_string(), checks::details(&violations));
            request.warnings.push(warning);
        }
    }
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        match (request.group, request.resource, request.subresource) {
            ("", "namespaces", _) => self.namespace(request, lookup).await,
            ("", "pods", "" | "ephemeralcontainers" | "resize") => self.pod(request, lookup).await,
            (group, resource, "") => {
                let Some(path) = template_path(group, resource) else { return Ok(()) };
                let template = path.iter().fold(request.object(), |value, key| &value[*key]);
                if !template["spec"].is_object() {
                    return Ok(());
                }
                let policy = self.policy(request, lookup).await?;
                self.warn(request, policy.warn, &[path, &["metadata"]].concat(), &[path, &["spec"]].concat());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Where a controller's kind keeps its pod template.
fn template_path(group: &str, resource: &str) -> Option<&'static [&'static str]> {
    match (group, resource) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets") | ("", "replicationcontrollers") | ("batch", "jobs") => {
            Some(&["spec", "template"])
        }
        ("", "podtemplates") => Some(&["template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// Whether an update touches what the standards look at; the rest of a running pod can't change.
fn changes_significantly(new: &Value, old: &Value) -> bool {
    let annotations = |pod: &Value| -> Vec<(String, Value)> {
        let all = pod["metadata"]["annotations"].as_object().into_iter().flatten();
        let security = |key: &str| key.starts_with("container.apparmor.security.beta.kubernetes.io/") || key.contains("seccomp.security.alpha.kubernetes.io/");
        all.filter(|(key, _)| security(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let containers = |pod: &Value| -> Vec<(Value, Value, Value)> {
        let all = CONTAINER_LISTS.into_iter().flat_map(|list| items(&pod["spec"][list]));
        all.map(|container| (container["name"].clone(), container["image"].clone(), container["securityContext"].clone())).collect()
    };
    !is_mirror_pod(old) && (annotations(new) != annotations(old) || containers(new) != containers(old))
}

fn existing_pods_warnings(namespace: &str, enforce: Standard, pods: &[Value]) -> Vec<String> {
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in pods {
        let violations = checks::violations(enforce, &pod["metadata"], &pod["spec"]);
        if !violations.is_empty() {
            let reasons: Vec<&str> = violations.iter().map(|violation| violation.reason.as_str()).collect();
            by_reason.entry(reasons.join(", ")).or_default().push(pod["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        }
    }
    if by_reason.is_empty() {
        return Vec::new();
    }
    let mut lines: Vec<String> = by_reason
        .into_iter()
        .map(|(reasons, mut names)| {
            names.sort();
            match names.len() {
                1 => format!("{}: {reasons}", names[0]),
                2 => format!("{} (and 1 other pod): {reasons}", names[0]),
                count => format!("{} (and {} other pods): {reasons}", names[0], count - 1),
            }
        })
        .collect();
    lines.sort();
    lines.insert(0, format!("existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}", enforce.to_string()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    fn namespace(labels: Value) -> Value {
        json!({"metadata": {"name": "a", "labels": labels}})
    }

    fn world(labels: Value) -> World {
        World::of([
            ("namespaces", namespace(labels)),
            ("pods", json!({"metadata": {"name": "host", "namespace": "a"}, "spec": {"hostNetwork": true, "hostPID": true}})),
            ("pods", json!({"metadata": {"name": "hosted", "namespace": "a"}, "spec": {"hostPID": true}})),
        ])
    }

    #[tokio::test]
    async fn a_namespaces_labels_refuse_or_warn() {
        let plugin = PodSecurity::default();
        let host = json!({"metadata": {"name": "p"}, "spec": {"hostNetwork": true}});
        let create = || ask("pods").named("a", "p").creates(host.clone());
        create().validated(&plugin, &world(json!({}))).await.unwrap();
        let enforced = world(json!({"pod-security.kubernetes.io/enforce": "baseline"}));
        assert_eq!(
            create().validated(&plugin, &enforced).await.unwrap_err().message,
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
        );
        let same = ask("pods").named("a", "p").updates(host.clone(), host.clone());
        same.validated(&plugin, &enforced).await.unwrap();
        let warned = world(json!({"pod-security.kubernetes.io/warn": "baseline", "pod-security.kubernetes.io/warn-version": "v1.30"}));
        let warning = ["would violate PodSecurity \"baseline:v1.30\": host namespaces (hostNetwork=true)"];
        assert_eq!(create().validated(&plugin, &warned).await.unwrap().warnings, warning);
        let deployment = json!({"spec": {"template": {"spec": {"hostNetwork": true}}}});
        let answer = ask("deployments.apps").named("a", "d").creates(deployment).validated(&plugin, &warned).await.unwrap();
        assert_eq!(answer.warnings, warning);
    }

    #[tokio::test]
    async fn labels_must_make_sense_and_a_stricter_level_warns_of_pods() {
        let update = |labels: Value| ask("namespaces").named("a", "a").updates(namespace(json!({})), namespace(labels));
        let world = world(json!({}));
        let plugin = PodSecurity::default();
        assert_eq!(
            update(json!({"pod-security.kubernetes.io/enforce": "tight"})).validated(&plugin, &world).await.unwrap_err().message,
            "Namespace \"a\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"tight\": must be one of privileged, baseline, restricted"
        );
        assert_eq!(
            update(json!({"pod-security.kubernetes.io/enforce": "baseline"})).validated(&plugin, &world).await.unwrap().warnings,
            ["existing pods in namespace \"a\" violate the new PodSecurity enforce level \"baseline:latest\"", "host (and 1 other pod): host namespaces"]
        );
    }
}
