//! Priority: a pod's priority comes from its class, or from the default one.
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Object, Status};
use api_resource::Lookup;
use async_trait::async_trait;
use std::sync::Arc;

const GROUP: &str = "scheduling.k8s.io";

pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is("", "pods") {
            return Ok(());
        }
        match request.operation {
            Operation::Update => {
                for field in ["priority", "preemptionPolicy"] {
                    let old = request.old()["spec"][field].clone();
                    if request.object()["spec"][field].is_null() && !old.is_null() {
                        request.spec_mut().insert(field.into(), old);
                    }
                }
                Ok(())
            }
            Operation::Create => self.set(request, lookup).await,
            _ => Ok(()),
        }
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !request.is(GROUP, "priorityclasses") || !writes || request.object()["globalDefault"] != true {
            return Ok(());
        }
        let name = request.object()["metadata"]["name"].as_str().unwrap_or(request.name);
        match default_class(request, lookup).await? {
            Some(other) if *other.meta().name != *name => {
                Err(request.forbidden(format_args!("PriorityClass {} is already marked as default. Only one default can exist", other.meta().name)))
            }
            _ => Ok(()),
        }
    }
}

impl Priority {
    async fn set(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let named = request.object()["spec"]["priorityClassName"].as_str().unwrap_or_default().to_owned();
        let class = if named.is_empty() {
            default_class(request, lookup).await?
        } else {
            match lookup.get(request.cluster, &GroupResource::new(GROUP, "priorityclasses"), "", &named).await? {
                Some(class) => Some(class),
                None => return Err(request.forbidden(format_args!("no PriorityClass with name {named} was found"))),
            }
        };
        let class = class.as_ref().map(|class| class.value());
        let value = class.and_then(|class| class["value"].as_i64()).unwrap_or(0);
        let policy = class.and_then(|class| class["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority").to_owned();
        let spec = &request.object()["spec"];
        if let Some(given) = spec["priority"].as_i64().filter(|given| *given != value) {
            return Err(request.forbidden(format_args!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            )));
        }
        if let Some(given) = spec["preemptionPolicy"].as_str().filter(|given| *given != policy) {
            return Err(request.forbidden(format_args!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        let spec = request.spec_mut();
        if let (true, Some(class)) = (named.is_empty(), class) {
            spec.insert("priorityClassName".into(), class["metadata"]["name"].clone());
        }
        spec.insert("priority".into(), value.into());
        spec.insert("preemptionPolicy".into(), policy.into());
        Ok(())
    }
}

/// The class marked as the default; the lowest of several.
async fn default_class(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Option<Arc<Object>>, Status> {
    let classes = lookup.list(request.cluster, &GroupResource::new(GROUP, "priorityclasses"), None).await?;
    let marked = classes.into_iter().filter(|class| class.value()["globalDefault"] == true);
    Ok(marked.min_by_key(|class| class.value()["value"].as_i64().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::{Value, json};

    fn class(name: &str, value: i64, default: bool, policy: &str) -> (&'static str, Value) {
        let class = json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": policy});
        ("priorityclasses.scheduling.k8s.io", class)
    }

    #[tokio::test]
    async fn a_pods_priority_is_its_classs() {
        let preempt = "PreemptLowerPriority";
        let high = || class("high", 1000, false, "Never");
        let default = || class("usual", 10, true, preempt);
        for (world, spec, want) in [
            (vec![], json!({}), Ok(json!({"priority": 0, "preemptionPolicy": preempt}))),
            (vec![high()], json!({"priorityClassName": "high"}), Ok(json!({"priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never"}))),
            (vec![default()], json!({}), Ok(json!({"priorityClassName": "usual", "priority": 10, "preemptionPolicy": preempt}))),
            (vec![], json!({"priorityClassName": "none"}), Err("pods \"p\" is forbidden: no PriorityClass with name none was found")),
            (
                vec![high()],
                json!({"priorityClassName": "high", "priority": 1}),
                Err(
                    "pods \"p\" is forbidden: the integer value of priority (1) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name",
                ),
            ),
        ] {
            let answer = ask("pods").named("a", "p").creates(json!({"metadata": {"name": "p"}, "spec": spec})).mutated(&Priority, &World::of(world)).await;
            assert_eq!(answer.map(|a| a.object["spec"].clone()).map_err(|s| s.message), want.map_err(str::to_owned));
        }
    }

    #[tokio::test]
    async fn there_is_one_default_class() {
        let create = |name: &str| ask("priorityclasses.scheduling.k8s.io").named("", name).creates(class(name, 1, true, "").1);
        let world = World::of([class("usual", 10, true, "")]);
        assert_eq!(
            create("other").validated(&Priority, &world).await.unwrap_err().message,
            "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"
        );
        create("usual").validated(&Priority, &world).await.unwrap();
    }
}
