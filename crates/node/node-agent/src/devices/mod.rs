//! Devices that pods claim (KEP 4381): drivers of this node prepare a claim before its first pod starts, and take it down after the last.
//!
//! INVARIANT: a claim stands on the disk before a driver is asked for it, so that a later run of the agent takes down
//! whatever may have been prepared.
mod cdi;
mod drivers;
mod record;
#[cfg(test)]
mod tests;

pub use cdi::Edits;
pub use drivers::{Drivers, Registration};

use crate::context::AgentContext;
use crate::pod::containers::spec;
use crate::pod::identity::{PodId, name, namespace};
use dra::v1::Claim;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::api::Api;
use record::{Record, Records};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Directories that describe devices to containers, those of this agent's own drivers last.
const SHARED_DESCRIPTIONS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
const RETRY: Duration = Duration::from_secs(1);
const SLOWEST_RETRY: Duration = Duration::from_secs(30);

pub struct NodeDevices {
    pub drivers: Arc<Drivers>,
    records: Records,
    descriptions: Vec<PathBuf>,
    /// Whether the runtime itself knows what CDI names mean.
    runtime_knows_cdi: bool,
    turns: parking_lot::Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl NodeDevices {
    /// # Errors
    /// When what an earlier run left can't be read.
    pub fn new(data_dir: &Path, drivers: Arc<Drivers>, runtime_knows_cdi: bool) -> std::io::Result<Self> {
        let descriptions = descriptions(data_dir);
        Ok(Self { drivers, records: Records::open(&data_dir.join("dra"))?, descriptions, runtime_knows_cdi, turns: parking_lot::Mutex::default() })
    }

    /// Has the drivers make all devices ready that the pod claims. What is ready is left as it is.
    ///
    /// # Errors
    /// Why the pod can't start yet.
    pub async fn prepare(&self, client: kube::Client, id: &PodId, pod: &Pod) -> Result<(), String> {
        if spec(pod).resource_claims.as_ref().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        if !id.cluster.is_root() {
            return Err("the devices of this node are not for virtual clusters".into());
        }
        let api: Api<ResourceClaim> = Api::namespaced(client, namespace(pod));
        for (_, claim_name) in claim_names(pod)? {
            let claim = api.get(&claim_name).await;
            let claim = claim.map_err(|error| format!("failed to fetch ResourceClaim {claim_name} referenced by pod {}: {error}", name(pod)))?;
            let wanted = wanted(&claim, pod)?;
            let _turn = self.turn(&wanted.uid).await;
            let mut record = self.records.get(&wanted.uid).unwrap_or(wanted);
            record.pods.insert(id.uid.to_string());
            self.write(record.clone())?;
            if record.is_ready {
                continue;
            }
            let mut devices = Vec::new();
            for driver in &record.drivers {
                let plugin = self.drivers.get(driver).ok_or_else(|| format!("DRA driver {driver} is not registered"))?;
                let prepared = plugin.prepare(asked(&record)).await;
                let prepared = prepared.map_err(|error| format!("NodePrepareResources failed for ResourceClaim {claim_name}: {}", error.message()))?;
                devices.extend(prepared.into_iter().map(|device| record::Device { requests: device.request_names, names: device.cdi_device_ids }));
            }
            record.devices = devices;
            record.is_ready = true;
            self.write(record)?;
        }
        Ok(())
    }

    /// The pod uses its claims no more: what nobody else uses is taken down. Idempotent.
    ///
    /// # Errors
    /// Why something could not be taken down yet.
    pub async fn unprepare(&self, uid: &str) -> Result<(), String> {
        for claim in self.records.of_pod(uid) {
            let _turn = self.turn(&claim).await;
            let Some(mut record) = self.records.get(&claim) else { continue };
            if record.pods.iter().any(|pod| pod != uid) {
                record.pods.remove(uid);
                self.write(record)?;
                continue;
            }
            for driver in &record.drivers {
                let plugin = self.drivers.get(driver).ok_or_else(|| format!("DRA driver {driver} is not registered"))?;
                let done = plugin.unprepare(asked(&record)).await;
                done.map_err(|error| format!("NodeUnprepareResources failed for ResourceClaim {}: {}", record.name, error.message()))?;
            }
            self.records.remove(&claim).map_err(|error| format!("claim {claim} can't be forgotten: {error}"))?;
        }
        Ok(())
    }

    /// Takes down, in the background, what pods had that are not here any more.
    pub fn release_others(self: &Arc<Self>, wanted: &BTreeSet<&str>) {
        for uid in self.records.pods().into_iter().filter(|uid| !wanted.contains(uid.as_str())) {
            let devices = Arc::downgrade(self);
            tokio::spawn(async move {
                let mut wait = RETRY;
                while let Some(devices) = devices.upgrade() {
                    let Err(error) = devices.unprepare(&uid).await else { return };
                    tracing::debug!(uid, error, "the devices of a pod that is gone can't be taken down yet");
                    drop(devices);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(SLOWEST_RETRY);
                }
            });
        }
    }

    /// What the claims of a container add to it.
    ///
    /// # Errors
    /// Why a device can't be given to it.
    pub fn edits(&self, pod: &Pod, container: &Container) -> Result<Edits, String> {
        let names = self.names(pod, container)?;
        if names.is_empty() || self.runtime_knows_cdi {
            return Ok(Edits { names, ..Edits::default() });
        }
        cdi::resolve(&names, &self.descriptions)
    }

    /// The CDI names of a container's devices.
    fn names(&self, pod: &Pod, container: &Container) -> Result<Vec<String>, String> {
        let wanted = container.resources.iter().flat_map(|resources| resources.claims.iter().flatten());
        let mut names: Vec<String> = Vec::new();
        for wanted in wanted {
            let Some((_, claim)) = claim_names(pod)?.into_iter().find(|(name, _)| *name == wanted.name) else { continue };
            let record = self.records.named(namespace(pod), &claim).filter(|record| record.is_ready);
            let record = record.ok_or_else(|| format!("devices of ResourceClaim {claim} are not prepared"))?;
            let request = wanted.request.as_deref().filter(|request| !request.is_empty());
            let devices = record.devices.iter().filter(|device| device.is_for(request));
            for name in devices.flat_map(|device| &device.names) {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        Ok(names)
    }

    fn write(&self, record: Record) -> Result<(), String> {
        let name = record.name.clone();
        self.records.write(record).map_err(|error| format!("ResourceClaim {name} can't be remembered: {error}"))
    }

    /// One thing at a time for each claim.
    async fn turn(&self, claim: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.turns.lock();
            all.retain(|_, turn| turn.strong_count() > 0);
            let turn = all.get(claim).and_then(Weak::upgrade).unwrap_or_default();
            all.insert(claim.to_owned(), Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

/// Where to look for what CDI names mean.
pub fn descriptions(data_dir: &Path) -> Vec<PathBuf> {
    SHARED_DESCRIPTIONS.iter().map(PathBuf::from).chain([data_dir.join("cdi")]).collect()
}

/// Whether a runtime gives CDI devices to containers by itself, as containerd does from 1.7 on.
pub fn knows_cdi(name: &str, version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    name != "containerd" || (numbers.next(), numbers.next()) >= (Some(1), Some(7))
}

impl AgentContext {
    /// Makes everything ready that a pod has from outside: volumes, then devices.
    pub async fn make_ready(&self, id: &PodId, pod: &Pod) -> Result<std::collections::BTreeMap<String, volumes::MountedVolume>, Unready> {
        let mounted = self.volumes.mount(&id.cluster, pod, &self.facts).await;
        let mounted = mounted.map_err(|error| Unready { reason: error.reason(), message: error.to_string() })?;
        let prepared = self.devices.prepare(self.client(id), id, pod).await;
        prepared.map_err(|error| Unready { reason: "FailedPrepareDynamicResources", message: format!("Failed to prepare dynamic resources: {error}") })?;
        Ok(mounted)
    }
}

/// Why a pod can't start yet, as its event says it.
#[derive(Debug)]
pub struct Unready {
    pub reason: &'static str,
    pub message: String,
}

/// The claims of a pod, by the names it has for them. What needs no claim is left out.
fn claim_names(pod: &Pod) -> Result<Vec<(String, String)>, String> {
    let made = || pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
    let mut names = Vec::new();
    for claim in spec(pod).resource_claims.iter().flatten() {
        if let Some(name) = &claim.resource_claim_name {
            names.push((claim.name.clone(), name.clone()));
            continue;
        }
        let made = made().find(|made| made.name == claim.name);
        let made = made.ok_or_else(|| format!("pod \"{}/{}\": ResourceClaim not created yet", namespace(pod), name(pod)))?;
        names.extend(made.resource_claim_name.clone().map(|name| (claim.name.clone(), name)));
    }
    Ok(names)
}

/// What is to be prepared for a claim, if the pod may use it.
fn wanted(claim: &ResourceClaim, pod: &Pod) -> Result<Record, String> {
    let (uid, claim_name) = (claim.metadata.uid.clone().unwrap_or_default(), claim.metadata.name.clone().unwrap_or_default());
    let pod_uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let status = claim.status.clone().unwrap_or_default();
    let allocation = status.allocation.ok_or_else(|| format!("ResourceClaim {claim_name} is not allocated"))?;
    if !status.reserved_for.iter().flatten().any(|user| user.uid == pod_uid) {
        return Err(format!("pod {}({pod_uid}) is not allowed to use resource claim {claim_name}({uid})", name(pod)));
    }
    let results = allocation.devices.and_then(|devices| devices.results).unwrap_or_default();
    Ok(Record {
        namespace: namespace(pod).to_owned(),
        name: claim_name,
        uid,
        pods: BTreeSet::new(),
        drivers: results.into_iter().map(|result| result.driver).collect(),
        devices: Vec::new(),
        is_ready: false,
    })
}

fn asked(record: &Record) -> Claim {
    Claim { namespace: record.namespace.clone(), uid: record.uid.clone(), name: record.name.clone() }
}
