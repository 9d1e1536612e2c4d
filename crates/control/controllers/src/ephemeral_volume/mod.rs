//! Ephemeral volumes: makes the claims that pods bring along, each named after its pod and gone with it (KEP 1698).
use crate::owners;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Recorder, Runner, async_trait};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::HashMap;
use std::sync::Arc;

pub struct EphemeralVolumes {
    pods: Objects<Pod>,
    claims: Objects<PersistentVolumeClaim>,
    events: Recorder,
}

/// All a decision may see.
pub struct World {
    pub pod: Arc<Pod>,
    /// Claims by those names that the pod's ephemeral volumes give them.
    pub claims: HashMap<String, Arc<PersistentVolumeClaim>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<PersistentVolumeClaim>),
    /// A claim that is not the pod's has the name.
    Warn {
        message: String,
    },
}

pub fn runner(kit: &Kit) -> Runner<EphemeralVolumes> {
    let (pods, claims) = (kit.objects::<Pod>(), kit.objects::<PersistentVolumeClaim>());
    let controller = EphemeralVolumes { pods: pods.clone(), claims: claims.clone(), events: kit.recorder("ephemeral_volume") };
    Runner::new(controller)
        .watch(&pods, |change| {
            let waits = change.new.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_none() && volumes(pod).next().is_some());
            if waits { vec![change.key.clone()] } else { Vec::new() }
        })
        .watch(&claims, |change| {
            // A claim that went is made again for a pod that still wants it.
            let gone = change.old.as_ref().filter(|_| change.new.is_none()).and_then(|claim| owners::controller_of(&claim.metadata).cloned());
            let owner = gone.filter(|owner| owner.kind == "Pod" && owner.api_version == "v1");
            owner.map(|owner| ObjectKey::new(&change.key.cluster, &change.key.namespace, &owner.name)).into_iter().collect()
        })
}

/// The pod's ephemeral volumes: name, and what the claim is to be.
fn volumes(pod: &Pod) -> impl Iterator<Item = (&str, &k8s_openapi::api::core::v1::PersistentVolumeClaimTemplate)> {
    let all = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    all.filter_map(|volume| Some((volume.name.as_str(), volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?)))
}

fn claim_name(pod: &Pod, volume: &str) -> String {
    format!("{}-{volume}", pod.metadata.name.as_deref().unwrap_or_default())
}

#[async_trait]
impl Controller for EphemeralVolumes {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "ephemeral-volume-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let pod = self.pods.get(key)?;
        let names = volumes(&pod).map(|(volume, _)| claim_name(&pod, volume)).collect::<Vec<_>>();
        let found = names.into_iter().filter_map(|name| {
            let claim = self.claims.get(&ObjectKey::new(&key.cluster, &key.namespace, &name))?;
            Some((name, claim))
        });
        Some(World { claims: found.collect(), pod })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { pod, claims } = world;
        if pod.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut plan = Plan::nothing();
        for (volume, template) in volumes(pod) {
            let name = claim_name(pod, volume);
            match claims.get(&name) {
                Some(claim) if owners::is_controlled_by(&claim.metadata, uid) => {}
                Some(_) => {
                    let of = |metadata: &ObjectMeta| metadata.namespace.clone().unwrap_or_default();
                    let (namespace, pod_name) = (of(&pod.metadata), pod.metadata.name.as_deref().unwrap_or_default());
                    let why = format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod_name} (pod is not owner)");
                    plan.push(Action::Warn { message: format!("ephemeral volume {volume}: {why}") });
                }
                None => {
                    let from = template.metadata.clone().unwrap_or_default();
                    let metadata = ObjectMeta {
                        name: Some(name),
                        namespace: pod.metadata.namespace.clone(),
                        labels: from.labels,
                        annotations: from.annotations,
                        owner_references: Some(vec![owners::controller_reference(&**pod)]),
                        ..Default::default()
                    };
                    plan.push(Action::Create(Box::new(PersistentVolumeClaim { metadata, spec: Some(template.spec.clone()), status: None })));
                }
            }
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        match action {
            Action::Warn { message } => {
                self.events.warning(&key.cluster, &*pod, "FailedBinding", message.clone());
                Err(Error::NotYet(message))
            }
            Action::Create(claim) => match self.claims.create(&key.cluster, &claim).await {
                Ok(_) => Ok(()),
                // Made in between: whose it is shows in the next look.
                Err(error) if error.is_already_exists() => Err(Error::NotYet(error.to_string())),
                Err(error) => Err(error),
            },
        }
    }

    async fn failed(&self, key: &ObjectKey, world: &World, error: &Error) {
        if !matches!(error, Error::NotYet(_)) && !error.is_namespace_terminating() {
            self.events.warning(&key.cluster, &*world.pod, "FailedBinding", format!("ephemeral volumes: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::{Value, json};

    fn pod(with: Value) -> Arc<Pod> {
        let volume = json!({"name": "scratch", "ephemeral": {"volumeClaimTemplate":
            {"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}});
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "volumes": [volume, {"name": "other", "emptyDir": {}}]}});
        pod["metadata"].as_object_mut().unwrap().extend(with.as_object().cloned().unwrap());
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_claim_is_made_once_and_belongs_to_its_pod() {
        let end = converges(World { pod: pod(json!({})), claims: HashMap::new() }, 2, EphemeralVolumes::reconcile, |world, action| match action {
            Action::Create(claim) => {
                world.claims.insert(claim.metadata.name.clone().unwrap(), Arc::new(*claim));
            }
            Action::Warn { message } => panic!("{message}"),
        });
        let claim = &end.claims["p-scratch"].metadata;
        let owner = owners::controller_of(claim).unwrap();
        assert_eq!((owner.kind.as_str(), owner.uid.as_str(), claim.labels.as_ref().unwrap()["a"].as_str()), ("Pod", "u", "b"));
    }

    #[test]
    fn a_claim_of_somebody_else_is_told_and_left_alone() {
        let claim = PersistentVolumeClaim { metadata: ObjectMeta { name: Some("p-scratch".into()), ..Default::default() }, ..Default::default() };
        let world = World { pod: pod(json!({})), claims: [("p-scratch".to_owned(), Arc::new(claim))].into() };
        let message = "ephemeral volume scratch: PVC n/p-scratch was not created for pod n/p (pod is not owner)".to_owned();
        assert_eq!(EphemeralVolumes::reconcile(&world).actions, [Action::Warn { message }]);
    }

    #[test]
    fn a_pod_that_goes_gets_none() {
        let world = World { pod: pod(json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})), claims: HashMap::new() };
        assert!(EphemeralVolumes::reconcile(&world).actions.is_empty());
    }
}
