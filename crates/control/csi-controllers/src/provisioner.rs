//! Provisioner: makes a volume for a claim that waits for one of this driver on this node.
use crate::driver::{Driver, Facts, Rpc, message, refused};
use crate::source::{self, Source};
use crate::{persistent_volume, tenancy};
use controller_kit::volume_snapshot::{VolumeSnapshot, VolumeSnapshotContent};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Recorder, Runner, async_trait, storage_class};
use csi::v1::{CapacityRange, CreateVolumeRequest, DeleteVolumeRequest, TopologyRequirement};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};
use std::collections::BTreeMap;
use std::sync::Arc;

const ASKED: [&str; 2] = ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Parameters of a class with this prefix are for whoever calls the driver, not for the driver.
const OWN_PREFIX: &str = "csi.storage.k8s.io/";
/// Labels of a namespace that say whose it is, and the parameters the driver is told it in.
const OWNERS: [(&str, &str); 2] = [("plasmacloud.io/org-id", "org_id"), ("plasmacloud.io/project-id", "project_id")];
const DEFAULT_FS_TYPE: &str = "ext4";

pub struct Provisioner {
    pub(crate) kit: Kit,
    pub(crate) driver: Driver,
    pub(crate) claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
    pub(crate) classes: Objects<StorageClass>,
    attributes: Objects<VolumeAttributesClass>,
    namespaces: Objects<Namespace>,
    snapshots: Objects<VolumeSnapshot>,
    contents: Objects<VolumeSnapshotContent>,
    events: Recorder,
}

pub struct World {
    pub facts: Arc<Facts>,
    pub key: ObjectKey,
    pub claim: Arc<PersistentVolumeClaim>,
    pub class: Option<Arc<StorageClass>>,
    /// The attributes' class that the claim names, if it is there.
    pub attributes: Option<Arc<VolumeAttributesClass>>,
    /// Whether the volume's object is there already.
    pub made: bool,
    /// What the namespace's labels say of whose it is, as parameters.
    pub owners: BTreeMap<String, String>,
    /// What the volume is to begin with.
    pub source: Source,
    /// Whether another claim waits for a copy of this one.
    pub copied: bool,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Says that this node is the one, if it has room; of several that want to be, one's write counts.
    Choose {
        parameters: BTreeMap<String, String>,
        bytes: i64,
    },
    /// Leaves the choice of the node to be made anew.
    GiveBack(String),
    Create {
        request: Box<CreateVolumeRequest>,
        fs_type: String,
    },
    Refuse(String),
    /// Keeps a claim that is being copied from going meanwhile, or lets it go.
    HoldSource {
        claim: String,
        hold: bool,
    },
}

pub fn runner(kit: &Kit, driver: Driver) -> Runner<Provisioner> {
    let (claims, volumes, classes) = (kit.objects::<PersistentVolumeClaim>(), kit.objects::<PersistentVolume>(), kit.objects::<StorageClass>());
    let (namespaces, snapshots, contents) = (kit.objects::<Namespace>(), kit.objects::<VolumeSnapshot>(), kit.objects::<VolumeSnapshotContent>());
    let attributes = kit.objects::<VolumeAttributesClass>();
    let events = kit.recorder("stor.plasmacloud.io_provisioner");
    let controller = Provisioner {
        kit: kit.clone(),
        driver,
        claims: claims.clone(),
        volumes: volumes.clone(),
        classes: classes.clone(),
        attributes: attributes.clone(),
        namespaces: namespaces.clone(),
        snapshots: snapshots.clone(),
        contents: contents.clone(),
        events,
    };
    let (of_claim, of_snapshot, of_attributes) = (claims.clone(), claims.clone(), claims.clone());
    Runner::new(controller)
        .watch(&claims, move |change| {
            // A copy waits for its source to be bound, and its source for the copy to be made.
            let copies = source::of_it(&of_claim, &change.key, "PersistentVolumeClaim");
            let copied = change.new.as_ref().or(change.old.as_ref()).and_then(|claim| source::claim_name(claim));
            let copied = copied.map(|name| ObjectKey::new(&change.key.cluster, &change.key.namespace, &name));
            copies.into_iter().chain(copied).chain([change.key.clone()]).collect()
        })
        .watch(&snapshots, move |change| source::of_it(&of_snapshot, &change.key, "VolumeSnapshot"))
        .watch(&attributes, move |change| {
            let waits = |claim: &PersistentVolumeClaim| {
                let spec = claim.spec.as_ref();
                spec.is_some_and(|spec| spec.volume_name.is_none() && spec.volume_attributes_class_name.as_deref() == Some(&*change.key.name))
            };
            let all = if change.key.cluster.is_root() { of_attributes.all() } else { Vec::new() };
            all.into_iter().filter(|(_, claim)| waits(claim)).map(|(key, _)| key).collect()
        })
        .needs(&volumes)
        .needs(&classes)
        .needs(&namespaces)
        .needs(&contents)
}

#[async_trait]
impl Controller for Provisioner {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "csi-provisioner"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let claim = self.claims.get(key)?;
        let spec = claim.spec.as_ref()?;
        let root = api_meta::ClusterName::root();
        let class = storage_class::host_class_of(&self.classes, &key.cluster, &claim);
        let attributes = spec.volume_attributes_class_name.as_ref();
        let attributes = attributes.and_then(|name| storage_class::host_attributes_class_of(&self.attributes, &key.cluster, &claim, name));
        let made = self.volumes.get(&ObjectKey::new(&key.cluster, "", &persistent_volume::name(&claim))).is_some();
        let namespace = key.cluster.host_object().map_or(&*key.namespace, |(namespace, _)| namespace);
        let labels = self.namespaces.get(&ObjectKey::new(&root, "", namespace)).and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default();
        let owners = OWNERS.iter().filter_map(|(label, parameter)| Some(((*parameter).to_owned(), labels.get(*label)?.clone()))).collect();
        let source = match &spec.data_source {
            None => Source::Nothing,
            Some(wanted) if wanted.kind == "PersistentVolumeClaim" => {
                let of = self.claims.get(&ObjectKey::new(&key.cluster, &key.namespace, &wanted.name));
                let volume = of.as_ref().and_then(|of| self.volumes.get(&ObjectKey::new(&key.cluster, "", of.spec.as_ref()?.volume_name.as_deref()?)));
                Source::Claim { name: wanted.name.clone(), claim: of, volume }
            }
            Some(wanted) if wanted.kind == "VolumeSnapshot" => {
                let of = self.snapshots.get(&ObjectKey::new(&key.cluster, &key.namespace, &wanted.name));
                let bound = of.as_ref().and_then(|of| of.status.as_ref()?.bound_volume_snapshot_content_name.clone());
                let content = bound.and_then(|name| self.contents.get(&ObjectKey::new(&key.cluster, "", &name)));
                Source::Snapshot { name: wanted.name.clone(), snapshot: of, content }
            }
            Some(wanted) => Source::Other(wanted.kind.clone()),
        };
        let copied = source::of_it(&self.claims, key, "PersistentVolumeClaim")
            .iter()
            .any(|copy| self.claims.get(copy).is_some_and(|copy| copy.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound")));
        Some(World { facts: self.driver.facts.clone(), key: key.clone(), claim, class, attributes, made, owners, source, copied })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { facts, claim, class, .. } = world;
        let Some(spec) = &claim.spec else { return Plan::nothing() };
        let annotation = |name: &str| claim.metadata.annotations.as_ref().and_then(|all| all.get(name));
        let is_ours = ASKED.iter().any(|name| annotation(name) == Some(&facts.name));
        let bound = spec.volume_name.as_ref().is_some_and(|name| !name.is_empty());
        if source::is_held(claim) && !world.copied {
            return vec![Action::HoldSource { claim: world.key.name.to_string(), hold: false }].into();
        }
        if !is_ours || bound || world.made || claim.metadata.deletion_timestamp.is_some() {
            return Plan::nothing();
        }
        let Some(class) = class else {
            let name = spec.storage_class_name.as_deref().unwrap_or_default();
            return vec![Action::Refuse(format!("storageclass.storage.k8s.io {name:?} not found"))].into();
        };
        if class.provisioner != facts.name {
            return vec![Action::Refuse(format!("class {:?} is not of provisioner {:?}", class.metadata.name.as_deref().unwrap_or_default(), facts.name))]
                .into();
        }
        let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        let elsewhere = source::is_elsewhere(&world.source, facts);
        match annotation(SELECTED_NODE) {
            Some(node) if *node != facts.node_name => return Plan::nothing(),
            None if waits || elsewhere => return Plan::nothing(),
            None => {
                let parameters = class.parameters.iter().flatten().filter(|(name, _)| !name.starts_with(OWN_PREFIX));
                let parameters = parameters.map(|(name, value)| (name.clone(), value.clone())).collect();
                return vec![Action::Choose { parameters, bytes: bytes(&requests(spec)) }].into();
            }
            Some(node) if elsewhere => return vec![Action::GiveBack(format!("what the volume is to begin with can't be read on node {node:?}"))].into(),
            Some(_) => {}
        }
        let mut plan = Plan::nothing();
        match request(world, class) {
            Err(why) => plan.push(Action::Refuse(why)),
            Ok(create) => {
                if let Source::Claim { name, claim: Some(of), .. } = &world.source
                    && !source::is_held(of)
                {
                    plan.push(Action::HoldSource { claim: name.clone(), hold: true });
                }
                plan.push(create);
            }
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(()) };
        match action {
            Action::Choose { parameters, bytes } => self.choose(key, &claim, parameters, bytes).await,
            Action::GiveBack(why) => {
                self.failed_to_provision(key, &claim, &why);
                self.give_back(key, &claim).await
            }
            Action::Refuse(why) => {
                self.failed_to_provision(key, &claim, &why);
                Ok(())
            }
            Action::Create { request, fs_type } => self.create(key, &claim, *request, &fs_type).await,
            Action::HoldSource { claim, hold } => source::hold(&self.claims, &ObjectKey::new(&key.cluster, &key.namespace, &claim), hold).await,
        }
    }
}

impl Provisioner {
    async fn create(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, request: CreateVolumeRequest, fs_type: &str) -> Result<(), Error> {
        let facts = &self.driver.facts;
        self.events.normal(
            &key.cluster,
            claim,
            "Provisioning",
            format!("External provisioner is provisioning volume for claim {:?}", format!("{}/{}", key.namespace, key.name)),
        );
        let class_name = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()).unwrap_or_default();
        let made = match self.driver.controller.clone().create_volume(request).await {
            Ok(made) => made.into_inner().volume.unwrap_or_default(),
            Err(status) => {
                self.failed_to_provision(key, claim, &message(&status));
                self.reschedule(key, claim, &status).await?;
                return Err(refused(&status));
            }
        };
        // A machine says where its own volumes lie, and nobody else's.
        if facts.topology.as_ref().is_some_and(|here| made.accessible_topology != std::slice::from_ref(here)) {
            let why = format!("driver {:?} of node {:?} has made volume {:?} elsewhere", facts.name, facts.node_name, made.volume_id);
            self.failed_to_provision(key, claim, &why);
            return Err(Error::NotYet(why));
        }
        let Some(class) = storage_class::host_class_of(&self.classes, &key.cluster, claim) else {
            return Err(Error::NotYet(format!("class {class_name:?} is gone")));
        };
        let object = persistent_volume::object(&facts.name, claim, &class, &made, fs_type)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        match self.volumes.create(&key.cluster, &object).await {
            Err(error) if error.is_already_exists() => {}
            Err(error) => {
                if error.is_invalid() || error.code() == Some(403) {
                    // It will never be anybody's.
                    let gone = self.driver.controller.clone().delete_volume(DeleteVolumeRequest { volume_id: made.volume_id, ..Default::default() }).await;
                    gone.map_err(|status| refused(&status))?;
                }
                self.failed_to_provision(key, claim, &error.to_string());
                return Err(error);
            }
            Ok(_) => {}
        }
        self.events.normal(&key.cluster, claim, "ProvisioningSucceeded", format!("Successfully provisioned volume {name}"));
        Ok(())
    }

    fn failed_to_provision(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, why: &str) {
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
        self.events.warning(&key.cluster, claim, "ProvisioningFailed", format!("failed to provision volume with StorageClass {class:?}: {why}"));
    }
}

fn requests(spec: &PersistentVolumeClaimSpec) -> BTreeMap<String, api_meta::Quantity> {
    controller_kit::pod_resources::parse(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

fn bytes(amounts: &BTreeMap<String, api_meta::Quantity>) -> i64 {
    amounts.get("storage").map(|amount| amount.units()).unwrap_or_default()
}

/// What the driver is asked for, or why it can't be asked.
fn request(world: &World, class: &StorageClass) -> Result<Action, String> {
    let World { facts, claim, .. } = world;
    let spec = claim.spec.clone().unwrap_or_default();
    let requests = requests(&spec);
    let limits = controller_kit::pod_resources::parse(spec.resources.as_ref().and_then(|resources| resources.limits.as_ref()));
    let (mut parameters, mut fs_type) = (world.owners.clone(), DEFAULT_FS_TYPE.to_owned());
    for (key, value) in class.parameters.iter().flatten() {
        match key.strip_prefix(OWN_PREFIX) {
            Some("fstype") => fs_type = value.clone(),
            Some(other) => return Err(format!("parameter \"{OWN_PREFIX}{other}\" is not served")),
            None => drop(parameters.insert(key.clone(), value.clone())),
        }
    }
    let source = source::content_source(&world.source, facts, &world.key, claim, bytes(&requests))?;
    let block = spec.volume_mode.as_deref() == Some("Block");
    let modes = spec.access_modes.clone().unwrap_or_default();
    let capability = |mode: &String| {
        csi::access::capability(
            std::slice::from_ref(mode),
            block,
            &fs_type,
            class.mount_options.as_deref().unwrap_or_default(),
            facts.can(Rpc::SingleNodeMultiWriter),
        )
    };
    let here = facts.topology.clone().map(|topology| TopologyRequirement { requisite: vec![topology.clone()], preferred: vec![topology] });
    let request = CreateVolumeRequest {
        name: tenancy::volume_name(&world.key.cluster, &persistent_volume::name(claim)),
        capacity_range: Some(CapacityRange { required_bytes: bytes(&requests), limit_bytes: bytes(&limits) }),
        volume_capabilities: modes.iter().map(capability).collect(),
        parameters,
        volume_content_source: source,
        accessibility_requirements: here,
        mutable_parameters: mutable_parameters(world, &spec)?,
        ..Default::default()
    };
    Ok(Action::Create { request: Box::new(request), fs_type })
}

/// What the class of attributes says that the claim names.
fn mutable_parameters(world: &World, spec: &PersistentVolumeClaimSpec) -> Result<BTreeMap<String, String>, String> {
    let World { facts, attributes, .. } = world;
    let Some(name) = spec.volume_attributes_class_name.as_ref().filter(|name| !name.is_empty()) else { return Ok(BTreeMap::new()) };
    let class = attributes.as_ref().ok_or_else(|| format!("volumeattributesclass.storage.k8s.io {name:?} not found"))?;
    if class.driver_name != facts.name {
        return Err(format!("VolumeAttributesClass {name:?} is of driver {:?}, not {:?}", class.driver_name, facts.name));
    }
    if !facts.can(Rpc::ModifyVolume) {
        return Err(format!("the volumes of driver {:?} have no attributes that could be changed", facts.name));
    }
    Ok(class.parameters.clone().unwrap_or_default())
}
