//! Claims: binds each claim to a volume, or says what it waits for.
use super::find::{BIND_COMPLETED, BOUND_BY_CONTROLLER, find, is_reserved_for};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, reference, storage_class};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::json;
use std::sync::Arc;

const PROVISIONER: [&str; 2] = ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

pub struct Claims {
    claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
    classes: Objects<StorageClass>,
    events: Recorder,
}

pub struct World {
    pub claim: Arc<PersistentVolumeClaim>,
    pub volumes: Vec<Arc<PersistentVolume>>,
    pub class: Option<Arc<StorageClass>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Reserves the volume for the claim.
    Reserve(Arc<PersistentVolume>),
    /// Writes the volume into the claim.
    Bind(String),
    /// Status: Bound with the volume's capacity and access, or Pending, or Lost.
    SetBound(Arc<PersistentVolume>),
    SetPhase(&'static str),
    /// Tells an external provisioner that this claim is its.
    Provision(String),
    Tell {
        warning: bool,
        reason: &'static str,
        message: String,
    },
}

pub fn runner(kit: &Kit) -> Runner<Claims> {
    let (claims, volumes, classes) = (kit.objects::<PersistentVolumeClaim>(), kit.objects::<PersistentVolume>(), kit.objects::<StorageClass>());
    let controller = Claims { claims: claims.clone(), volumes: volumes.clone(), classes: classes.clone(), events: kit.recorder("persistentvolume-controller") };
    let (by_volume, by_class) = (claims.clone(), claims.clone());
    let unbound = |claims: &Objects<PersistentVolumeClaim>, cluster: &api_meta::ClusterName| -> Vec<ObjectKey> {
        let waiting = claims
            .list(cluster, None)
            .into_iter()
            .filter(|claim| claim.spec.as_ref().is_none_or(|spec| spec.volume_name.as_ref().is_none_or(String::is_empty)));
        waiting.map(|claim| ObjectKey::of(cluster, &claim.metadata)).collect()
    };
    Runner::new(controller)
        .watch_own(&claims)
        .watch(&volumes, move |change| {
            let claimed = [&change.old, &change.new].into_iter().flatten().filter_map(|volume| volume.spec.as_ref()?.claim_ref.as_ref());
            let mut keys: Vec<ObjectKey> = claimed
                .map(|of| ObjectKey::new(&change.key.cluster, of.namespace.as_deref().unwrap_or_default(), of.name.as_deref().unwrap_or_default()))
                .collect();
            if keys.is_empty() && change.new.is_some() {
                // A free volume: any waiting claim may want it.
                keys = unbound(&by_volume, &change.key.cluster);
            }
            keys
        })
        .watch(&classes, move |change| {
            if !change.key.cluster.is_root() {
                return unbound(&by_class, &change.key.cluster);
            }
            // The host's classes may serve virtual clusters, too.
            let mut clusters: Vec<_> = by_class.all().into_iter().map(|(key, _)| key.cluster).collect();
            clusters.sort();
            clusters.dedup();
            clusters.iter().flat_map(|cluster| unbound(&by_class, cluster)).collect()
        })
}

#[async_trait]
impl Controller for Claims {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "persistentvolume-binder-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let claim = self.claims.get(key)?;
        let class = storage_class::class_of(&self.classes, &key.cluster, &claim);
        Some(World { claim, volumes: self.volumes.list(&key.cluster, None), class })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { claim, volumes, class } = world;
        let mut plan = Plan::nothing();
        let Some(spec) = &claim.spec else { return plan };
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        let annotation = |name: &str| claim.metadata.annotations.as_ref().and_then(|all| all.get(name));
        if let Some(name) = spec.volume_name.as_ref().filter(|name| !name.is_empty()) {
            let volume = volumes.iter().find(|volume| volume.metadata.name.as_ref() == Some(name));
            match volume {
                Some(volume) if volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none()) || is_reserved_for(volume, claim) => {
                    bind(&mut plan, claim, volume, annotation(BIND_COMPLETED).is_some())
                }
                // It was bound, and its volume is gone or another's.
                _ if annotation(BIND_COMPLETED).is_some() => {
                    if phase != Some("Lost") {
                        let why = if volume.is_some() { "ClaimMisbound" } else { "ClaimLost" };
                        let message = if volume.is_some() {
                            "Two claims are bound to the same volume, this one is bound incorrectly"
                        } else {
                            "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
                        };
                        plan.push(Action::SetPhase("Lost"));
                        plan.push(Action::Tell { warning: true, reason: why, message: message.into() });
                    }
                }
                _ => wait(&mut plan, phase),
            }
            return plan;
        }
        let waits_for_pod =
            class.as_ref().is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")) && annotation(SELECTED_NODE).is_none();
        let found = find(claim, volumes).filter(|volume| !waits_for_pod || is_reserved_for(volume, claim));
        if let Some(volume) = found {
            bind(&mut plan, claim, volume, false);
            return plan;
        }
        wait(&mut plan, phase);
        if claim.metadata.deletion_timestamp.is_some() {
            return plan;
        }
        let tell = |reason, message: String| Action::Tell { warning: false, reason, message };
        match class {
            _ if waits_for_pod => plan.push(tell("WaitForFirstConsumer", "waiting for first consumer to be created before binding".into())),
            Some(class) if class.provisioner == "kubernetes.io/no-provisioner" => {
                plan.push(tell("FailedBinding", "no volume plugin matched name: kubernetes.io/no-provisioner".into()))
            }
            Some(class) => {
                if annotation(PROVISIONER[1]) != Some(&class.provisioner) {
                    plan.push(Action::Provision(class.provisioner.clone()));
                }
                let message = format!(
                    "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
                    class.provisioner
                );
                plan.push(tell("ExternalProvisioning", message));
            }
            None if spec.storage_class_name.as_ref().is_some_and(|class| !class.is_empty()) => {
                let message = format!("storageclass.storage.k8s.io {:?} not found", spec.storage_class_name.as_deref().unwrap_or_default());
                plan.push(Action::Tell { warning: true, reason: "ProvisioningFailed", message });
            }
            None => plan.push(tell("FailedBinding", "no persistent volumes available for this claim and no storage class is set".into())),
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(()) };
        match action {
            Action::Reserve(volume) => {
                let mut about = reference(&*claim);
                about.field_path = None;
                let bound_by = if volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none()) { json!({BOUND_BY_CONTROLLER: "yes"}) } else { json!({}) };
                let patch = json!({"metadata": {"annotations": bound_by}, "spec": {"claimRef": about}});
                self.volumes.patch(&ObjectKey::of(&key.cluster, &volume.metadata), "", &patch, &Preconditions::exactly(&volume.metadata)).await?;
            }
            Action::Bind(volume) => {
                let mut annotations = json!({BIND_COMPLETED: "yes"});
                if claim.spec.as_ref().is_none_or(|spec| spec.volume_name.as_ref().is_none_or(String::is_empty)) {
                    annotations[BOUND_BY_CONTROLLER] = json!("yes");
                }
                let patch = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume}});
                self.claims.patch(key, "", &patch, &Preconditions::exactly(&claim.metadata)).await?;
            }
            Action::SetBound(volume) => {
                let spec = volume.spec.clone().unwrap_or_default();
                let status = json!({
                    "phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity,
                    "currentVolumeAttributesClassName": spec.volume_attributes_class_name,
                });
                self.claims.patch(key, "/status", &json!({ "status": status }), &Preconditions::uid_of(&claim.metadata)).await?;
            }
            Action::SetPhase(phase) => {
                let status = if phase == "Bound" { json!({"phase": phase}) } else { json!({"phase": phase, "accessModes": null, "capacity": null}) };
                self.claims.patch(key, "/status", &json!({ "status": status }), &Preconditions::uid_of(&claim.metadata)).await?;
            }
            Action::Provision(provisioner) => {
                let patch = json!({"metadata": {"annotations": {PROVISIONER[0]: provisioner, PROVISIONER[1]: provisioner}}});
                self.claims.patch(key, "", &patch, &Preconditions::uid_of(&claim.metadata)).await?;
            }
            Action::Tell { warning: true, reason, message } => self.events.warning(&key.cluster, &*claim, reason, message),
            Action::Tell { reason, message, .. } => self.events.normal(&key.cluster, &*claim, reason, message),
        }
        Ok(())
    }
}

/// The volume first: once it is the claim's nobody else can take it.
fn bind(plan: &mut Plan<Action>, claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>, completed: bool) {
    let reserved = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).is_some_and(|of| of.uid.is_some() && of.uid == claim.metadata.uid);
    if !reserved {
        plan.push(Action::Reserve(volume.clone()));
    }
    if !completed {
        plan.push(Action::Bind(volume.metadata.name.clone().unwrap_or_default()));
    }
    let status = claim.status.clone().unwrap_or_default();
    let spec = volume.spec.clone().unwrap_or_default();
    // A capacity that grew is the resizer's to tell.
    let told = status.phase.as_deref() == Some("Bound") && status.access_modes == spec.access_modes && status.capacity.is_some();
    if !told {
        plan.push(Action::SetBound(volume.clone()));
    }
}

fn wait(plan: &mut Plan<Action>, phase: Option<&str>) {
    if phase != Some("Pending") {
        plan.push(Action::SetPhase("Pending"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::Value;

    fn world(claim: Value, volumes: Vec<Value>, class: Option<Value>) -> World {
        let mut value = json!({"metadata": {"name": "data", "namespace": "n", "uid": "u"},
            "spec": {"storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": "Pending"}});
        merge(&mut value, claim);
        let volume = |with: Value| {
            let mut value = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c"}, "status": {"phase": "Available"}});
            merge(&mut value, with);
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let class =
            class.map(|mode| Arc::new(serde_json::from_value(json!({"metadata": {"name": "c"}, "provisioner": "p", "volumeBindingMode": mode})).unwrap()));
        World { claim: Arc::new(serde_json::from_value(value).unwrap()), volumes: volumes.into_iter().map(volume).collect(), class }
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
            (into, from) => *into = from,
        }
    }

    fn short(world: &World) -> String {
        let text = Claims::reconcile(world).actions.into_iter().map(|action| match action {
            Action::Reserve(_) => "reserve".into(),
            Action::Bind(_) => "bind".into(),
            Action::SetBound(_) => "bound".into(),
            Action::SetPhase(phase) => phase.to_owned(),
            Action::Provision(provisioner) => format!("provision:{provisioner}"),
            Action::Tell { reason, .. } => reason.to_owned(),
        });
        text.collect::<Vec<String>>().join(" ")
    }

    #[test]
    fn a_free_volume_is_reserved_then_bound() {
        assert_eq!(short(&world(json!({}), vec![json!({})], None)), "reserve bind bound");
        let mine = json!({"spec": {"claimRef": {"name": "data", "namespace": "n", "uid": "u"}}});
        assert_eq!(short(&world(json!({}), vec![mine.clone()], Some(json!("WaitForFirstConsumer")))), "bind bound");
        let done = json!({"metadata": {"annotations": {BIND_COMPLETED: "yes"}}, "spec": {"volumeName": "v"}, "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
        assert_eq!(short(&world(done.clone(), vec![mine], None)), "");
        assert_eq!(short(&world(done, vec![], None)), "Lost ClaimLost");
    }

    #[test]
    fn what_a_claim_waits_for_is_told() {
        assert_eq!(short(&world(json!({}), vec![], Some(json!("Immediate")))), "provision:p ExternalProvisioning");
        assert_eq!(short(&world(json!({}), vec![json!({})], Some(json!("WaitForFirstConsumer")))), "WaitForFirstConsumer");
        let chosen = json!({"metadata": {"annotations": {SELECTED_NODE: "n1"}}});
        assert_eq!(short(&world(chosen, vec![], Some(json!("WaitForFirstConsumer")))), "provision:p ExternalProvisioning");
        assert_eq!(short(&world(json!({}), vec![], None)), "ProvisioningFailed");
        assert_eq!(short(&world(json!({"spec": {"storageClassName": ""}, "status": null}), vec![], None)), "Pending FailedBinding");
    }

    #[test]
    fn a_claim_is_bound_to_one_volume_and_stays_so() {
        let mine = json!({"metadata": {"name": "reserved"}, "spec": {"claimRef": {"name": "data", "namespace": "n"}}});
        for volumes in
            [vec![json!({})], vec![json!({"metadata": {"name": "other"}, "spec": {"capacity": {"storage": "9Gi"}}}), json!({})], vec![json!({}), mine]]
        {
            let wanted = if volumes.len() == 2 && volumes[1]["metadata"]["name"] == "reserved" { "reserved" } else { "v" };
            let end = converges(world(json!({}), volumes, None), 2, Claims::reconcile, |world, action| match action {
                Action::Reserve(volume) => {
                    let reserved = world.volumes.iter_mut().find(|other| other.metadata.name == volume.metadata.name).unwrap();
                    Arc::make_mut(reserved).spec.get_or_insert_default().claim_ref = Some(reference(&*world.claim));
                }
                Action::Bind(name) => {
                    let claim = Arc::make_mut(&mut world.claim);
                    claim.spec.get_or_insert_default().volume_name = Some(name);
                    claim.metadata.annotations.get_or_insert_default().insert(BIND_COMPLETED.into(), "yes".into());
                }
                Action::SetBound(volume) => {
                    let spec = volume.spec.clone().unwrap();
                    let status = Arc::make_mut(&mut world.claim).status.get_or_insert_default();
                    (status.phase, status.access_modes, status.capacity) = (Some("Bound".into()), spec.access_modes, spec.capacity);
                }
                other => panic!("{other:?}"),
            });
            assert_eq!(end.claim.spec.as_ref().unwrap().volume_name.as_deref(), Some(wanted));
            assert_eq!(end.volumes.iter().filter(|volume| volume.spec.as_ref().unwrap().claim_ref.as_ref().is_some_and(|of| of.uid.is_some())).count(), 1);
        }
    }
}
