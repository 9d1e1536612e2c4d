//! Modifier: gives volumes the attributes that their claims' VolumeAttributesClass names (KEP-3751).
use crate::claim_conditions;
use crate::deleter::is_here;
use crate::driver::{Driver, Facts, Rpc, message, refused};
use crate::slow_retries::SlowRetries;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait, storage_class, whole_seconds};
use csi::v1::ControllerModifyVolumeRequest;
use k8s_openapi::api::core::v1::{ModifyVolumeStatus, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The conditions of a claim that are about its attributes.
const KINDS: &[&str] = &[MODIFYING, FAILED];
const MODIFYING: &str = "ModifyingVolume";
const FAILED: &str = "ModifyVolumeError";
const PENDING: &str = "Pending";
const IN_PROGRESS: &str = "InProgress";
const INFEASIBLE: &str = "Infeasible";

pub struct Modifier {
    kit: Kit,
    driver: Driver,
    claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
    classes: Objects<VolumeAttributesClass>,
    events: Recorder,
    slow: SlowRetries,
}

pub struct World {
    pub facts: Arc<Facts>,
    pub claim: Arc<PersistentVolumeClaim>,
    pub volume: Arc<PersistentVolume>,
    /// The class the claim names, if there is one.
    pub class: Option<Arc<VolumeAttributesClass>>,
    /// How long what was called impossible is not asked for again.
    pub wait: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// The class is not there yet.
    Wait,
    /// Says on the claim what is about to be asked for.
    Begin,
    Modify {
        volume_id: String,
        parameters: BTreeMap<String, String>,
    },
    Refuse(String),
    /// The claim no longer asks for what could not be done.
    Forget,
}

pub fn runner(kit: &Kit, driver: Driver) -> Runner<Modifier> {
    let (claims, volumes, classes) = (kit.objects::<PersistentVolumeClaim>(), kit.objects::<PersistentVolume>(), kit.objects::<VolumeAttributesClass>());
    let controller = Modifier {
        kit: kit.clone(),
        driver,
        claims: claims.clone(),
        volumes: volumes.clone(),
        classes: classes.clone(),
        events: kit.recorder("external-resizer stor.plasmacloud.io"),
        slow: SlowRetries::default(),
    };
    let of_class = claims.clone();
    Runner::new(controller)
        .watch_own(&claims)
        .watch(&classes, move |change| {
            let names_it = |claim: &PersistentVolumeClaim| wanted(claim).is_some_and(|name| *name == *change.key.name);
            let all = if change.key.cluster.is_root() { of_class.all() } else { Vec::new() };
            all.into_iter().filter(|(_, claim)| names_it(claim)).map(|(key, _)| key).collect()
        })
        .needs(&volumes)
}

/// The class a claim names.
fn wanted(claim: &PersistentVolumeClaim) -> Option<&String> {
    claim.spec.as_ref()?.volume_attributes_class_name.as_ref().filter(|name| !name.is_empty())
}

#[async_trait]
impl Controller for Modifier {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "csi-modifier"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let Some(claim) = self.claims.get(key) else {
            self.slow.remove(key);
            return None;
        };
        let name = claim.spec.as_ref()?.volume_name.as_ref().filter(|name| !name.is_empty())?;
        let volume = self.volumes.get(&ObjectKey::new(&key.cluster, "", name))?;
        let class = wanted(&claim).and_then(|name| storage_class::host_attributes_class_of(&self.classes, &key.cluster, &claim, name));
        let wait = self.slow.remaining(key, self.kit.clock().instant());
        Some(World { facts: self.driver.facts.clone(), claim, volume, class, wait })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { facts, claim, volume, class, wait } = world;
        let status = claim.status.clone().unwrap_or_default();
        let source = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()).filter(|source| source.driver == facts.name);
        let bound = status.phase.as_deref() == Some("Bound") && claim.metadata.deletion_timestamp.is_none();
        let Some(source) = source.filter(|_| bound && is_here(facts, volume) && facts.can(Rpc::ModifyVolume)) else { return Plan::nothing() };
        let under_way = status.modify_volume_status.as_ref();
        let Some(wanted) = wanted(claim).filter(|wanted| status.current_volume_attributes_class_name.as_ref() != Some(wanted)) else {
            return if under_way.is_some() { vec![Action::Forget].into() } else { Plan::nothing() };
        };
        let is = |state: &str| under_way.is_some_and(|of| of.status == state);
        let begun = |of: &ModifyVolumeStatus| of.target_volume_attributes_class_name.as_ref() == Some(wanted) && of.status != PENDING;
        let begun = under_way.is_some_and(begun);
        let Some(class) = class else {
            return if is(PENDING) { Plan::nothing() } else { vec![Action::Wait].into() };
        };
        let mut plan = Plan::nothing();
        if let Some(wait) = wait.filter(|_| begun && is(INFEASIBLE)) {
            plan.look_again(wait);
            return plan;
        }
        if !begun {
            plan.push(Action::Begin);
        }
        plan.push(if class.driver_name == facts.name {
            Action::Modify { volume_id: source.volume_handle.clone(), parameters: class.parameters.clone().unwrap_or_default() }
        } else {
            Action::Refuse(format!("VolumeAttributesClass {wanted:?} is of driver {:?}, not {:?}", class.driver_name, facts.name))
        });
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(World { claim, volume, .. }) = self.observe(key) else { return Ok(()) };
        let Some(wanted) = wanted(&claim).cloned().or_else(|| (action == Action::Forget).then(String::new)) else { return Ok(()) };
        let name = claim.metadata.name.clone().unwrap_or_default();
        match action {
            Action::Wait => {
                self.events.warning(&key.cluster, &*claim, "VolumeModifyFailed", format!("VAC {wanted} does not exist."));
                self.tell(key, &claim, waiting()).await
            }
            Action::Begin => {
                self.tell(key, &claim, begun(&claim, &wanted, &self.now())).await?;
                self.events.normal(&key.cluster, &*claim, "VolumeModify", format!("external resizer is modifying volume {name} with vac {wanted}"));
                Ok(())
            }
            Action::Modify { volume_id, parameters } => {
                let request = ControllerModifyVolumeRequest { volume_id, mutable_parameters: parameters, ..Default::default() };
                match self.driver.controller.clone().controller_modify_volume(request).await {
                    Ok(_) => self.succeed(key, &claim, &volume, &wanted).await,
                    Err(status) => {
                        self.fail(key, &claim, &message(&status), status.code() == tonic::Code::InvalidArgument).await?;
                        Err(refused(&status))
                    }
                }
            }
            Action::Refuse(why) => self.fail(key, &claim, &why, true).await,
            Action::Forget => {
                self.slow.remove(key);
                self.tell(key, &claim, ended(&claim, None, &self.now())).await
            }
        }
    }
}

impl Modifier {
    fn now(&self) -> Time {
        whole_seconds(self.kit.now())
    }

    async fn tell(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, status: Value) -> Result<(), Error> {
        self.claims.patch(key, "/status", &json!({ "status": status }), &Preconditions::uid_of(&claim.metadata)).await.map(drop)
    }

    async fn succeed(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, volume: &PersistentVolume, class: &str) -> Result<(), Error> {
        self.slow.remove(key);
        // The volume first: its claim says last that all is done.
        let has = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
        if has != Some(class) {
            let volume_key = ObjectKey::of(&key.cluster, &volume.metadata);
            let patch = json!({"spec": {"volumeAttributesClassName": class}});
            self.volumes.patch(&volume_key, "", &patch, &Preconditions::uid_of(&volume.metadata)).await?;
        }
        self.tell(key, claim, ended(claim, Some(class), &self.now())).await?;
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        self.events.normal(&key.cluster, claim, "VolumeModifySuccessful", format!("external resizer modified volume {name} with vac {class} successfully"));
        Ok(())
    }

    async fn fail(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, why: &str, infeasible: bool) -> Result<(), Error> {
        self.events.warning(&key.cluster, claim, "VolumeModifyFailed", why);
        if infeasible {
            self.slow.add(key, self.kit.clock().instant());
        }
        self.tell(key, claim, failed(claim, why, infeasible, &self.now())).await
    }
}

fn conditions(claim: &PersistentVolumeClaim, new: &[(&str, &str)], keep: bool, now: &Time) -> Value {
    let old = claim.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    json!({"conditions": claim_conditions::merge(old, KINDS, new, keep, now)})
}

/// The status of a claim whose class is not there yet.
pub fn waiting() -> Value {
    json!({"modifyVolumeStatus": {"status": PENDING}})
}

/// The status of a claim for which the driver is asked now.
pub fn begun(claim: &PersistentVolumeClaim, class: &str, now: &Time) -> Value {
    let mut status = conditions(claim, &[(MODIFYING, "ModifyVolume operation in progress.")], false, now);
    status["modifyVolumeStatus"] = json!({"status": IN_PROGRESS, "targetVolumeAttributesClassName": class});
    status
}

/// The status of a claim that has the attributes of `class` now, or asks for none any more.
pub fn ended(claim: &PersistentVolumeClaim, class: Option<&str>, now: &Time) -> Value {
    let mut status = conditions(claim, &[], false, now);
    if let Some(class) = class {
        status["currentVolumeAttributesClassName"] = json!(class);
    }
    status["modifyVolumeStatus"] = Value::Null;
    status
}

/// The status of a claim for which the driver has refused, or could not be asked.
pub fn failed(claim: &PersistentVolumeClaim, why: &str, infeasible: bool, now: &Time) -> Value {
    let error = format!("ModifyVolume failed with error: {why}. Waiting for retry.");
    let mut new = vec![(FAILED, error.as_str())];
    let told = format!("ModifyVolume failed with error {why}. Waiting for retry.");
    if infeasible {
        new.push((MODIFYING, &told));
    }
    let mut status = conditions(claim, &new, true, now);
    if infeasible {
        status["modifyVolumeStatus"] = json!({"status": INFEASIBLE});
    }
    status
}
