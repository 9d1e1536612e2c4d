//! RuntimeClass: a pod takes its runtime's overhead and goes to nodes that have the runtime.
use crate::pod::resource_list;
use crate::request::{entry_list, entry_object, items};
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::Value;

pub struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        let Some(class) = class_of(request, lookup).await? else { return Ok(()) };
        match with_class(request.object.as_mut().expect("class_of read it"), &class) {
            Ok(()) => Ok(()),
            Err(why) => Err(request.forbidden(why)),
        }
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        let class = class_of(request, lookup).await?.unwrap_or_default();
        let (wanted, has) = (&class["overhead"]["podFixed"], &request.object()["spec"]["overhead"]);
        match (wanted.is_object(), has.is_object()) {
            (false, true) => Err(request.forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")),
            (true, _) if resource_list(wanted) != resource_list(has) => {
                Err(request.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
            }
            _ => Ok(()),
        }
    }
}

async fn class_of(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Option<Value>, Status> {
    let Some(name) = request.object()["spec"]["runtimeClassName"].as_str().filter(|name| !name.is_empty()) else { return Ok(None) };
    match lookup.get(request.cluster, &GroupResource::new("node.k8s.io", "runtimeclasses"), "", name).await? {
        Some(class) => Ok(Some(class.to_value())),
        None => Err(request.forbidden(format_args!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

fn with_class(pod: &mut Value, class: &Value) -> Result<(), String> {
    let spec = entry_object(pod, "spec");
    let overhead = &class["overhead"]["podFixed"];
    if overhead.is_object() {
        match spec.get("overhead") {
            Some(given) if given.is_object() && resource_list(given) != resource_list(overhead) => {
                return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
            }
            _ => spec.insert("overhead".into(), overhead.clone()),
        };
    }
    let scheduling = &class["scheduling"];
    if let Some(wanted) = scheduling["nodeSelector"].as_object() {
        let mut selector = spec.get("nodeSelector").and_then(Value::as_object).cloned().unwrap_or_default();
        for (key, value) in wanted {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            match selector.get(key) {
                Some(given) if given != value => {
                    let (value, given) = (text(value), text(given));
                    return Err(format!("conflict: runtimeClass.Scheduling.NodeSelector[{key}] = {value}; pod.Spec.NodeSelector[{key}] = {given}"));
                }
                _ => selector.insert(key.clone(), value.clone()),
            };
        }
        spec.insert("nodeSelector".into(), selector.into());
    }
    for toleration in items(&scheduling["tolerations"]) {
        let tolerations = entry_list(spec, "tolerations");
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    #[tokio::test]
    async fn a_pod_takes_what_its_class_prescribes() {
        let toleration = json!({"key": "vm", "operator": "Exists"});
        let world = World::of([(
            "runtimeclasses.node.k8s.io",
            json!({"metadata": {"name": "vm"}, "handler": "vm", "overhead": {"podFixed": {"cpu": "250m"}},
                "scheduling": {"nodeSelector": {"kvm": "yes"}, "tolerations": [toleration]}}),
        )]);
        for (spec, want) in [
            (json!({}), Ok(json!({}))),
            (
                json!({"runtimeClassName": "vm", "nodeSelector": {"zone": "a"}, "overhead": {"cpu": "0.25"}}),
                Ok(json!({"runtimeClassName": "vm", "overhead": {"cpu": "250m"}, "nodeSelector": {"kvm": "yes", "zone": "a"}, "tolerations": [toleration]})),
            ),
            (json!({"runtimeClassName": "none"}), Err("pods \"p\" is forbidden: pod rejected: RuntimeClass \"none\" not found")),
            (
                json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
                Err("pods \"p\" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
            ),
            (
                json!({"runtimeClassName": "vm", "nodeSelector": {"kvm": "no"}}),
                Err("pods \"p\" is forbidden: conflict: runtimeClass.Scheduling.NodeSelector[kvm] = yes; pod.Spec.NodeSelector[kvm] = no"),
            ),
        ] {
            let answer = ask("pods").named("a", "p").creates(json!({"metadata": {"name": "p"}, "spec": spec})).mutated(&RuntimeClass, &world).await;
            assert_eq!(answer.map(|a| a.object["spec"].clone()).map_err(|s| s.message), want.map_err(str::to_owned));
        }
        let overhead = json!({"spec": {"overhead": {"cpu": "1"}}});
        ask("pods").named("a", "p").creates(overhead).validated(&RuntimeClass, &world).await.unwrap_err();
    }
}
