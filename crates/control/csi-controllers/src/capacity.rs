//! Capacity: tells the scheduler how much room a driver has on this node for volumes of each class (KEP 1472).
use crate::driver::{Driver, Facts, Rpc, refused};
use crate::persistent_volume::quantity;
use api_meta::ClusterName;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, pod_resources};
use csi::v1::{GetCapacityRequest, GetCapacityResponse};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NAMESPACE: &str = "kube-system";
const DRIVER_LABEL: &str = "csi.storage.k8s.io/drivername";
const MANAGER_LABEL: &str = "csi.storage.k8s.io/managed-by";
/// How often a driver is asked, as by upstream: nobody tells of a disk that others fill.
const POLL: Duration = Duration::from_secs(60);

pub struct Capacities {
    driver: Driver,
    classes: Objects<StorageClass>,
    capacities: Objects<CSIStorageCapacity>,
    nodes: Objects<Node>,
}

pub struct World {
    pub facts: Arc<Facts>,
    /// None of a class that has gone.
    pub class: Option<Arc<StorageClass>>,
    pub told: bool,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Asks the driver, with the class's parameters, and tells what it says.
    Tell(BTreeMap<String, String>),
    Remove,
}

pub fn runner(kit: &Kit, driver: Driver) -> Runner<Capacities> {
    let (classes, capacities, nodes) = (kit.objects::<StorageClass>(), kit.objects::<CSIStorageCapacity>(), kit.objects::<Node>());
    let volumes = kit.objects::<PersistentVolume>();
    let (name, of_driver) = (driver.facts.name.clone(), classes.clone());
    let controller = Capacities { driver, classes: classes.clone(), capacities: capacities.clone(), nodes: nodes.clone() };
    Runner::new(controller)
        .workers(1)
        .watch_own(&classes)
        // Volumes of all classes take their room from the same disks.
        .watch(&volumes, move |change| {
            let volume = change.new.as_ref().or(change.old.as_ref());
            let ours = volume.and_then(|volume| volume.spec.as_ref()?.csi.as_ref()).is_some_and(|source| source.driver == name);
            let root = ClusterName::root();
            let all = if ours { of_driver.list(&root, None) } else { Vec::new() };
            all.iter().map(|class| ObjectKey::of(&root, &class.metadata)).collect()
        })
        .needs(&capacities)
        .needs(&nodes)
}

#[async_trait]
impl Controller for Capacities {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "csi-storage-capacity"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let told = self.capacities.get(&self.object_key(key)).is_some();
        key.cluster.is_root().then(|| World { facts: self.driver.facts.clone(), class: self.classes.get(key), told })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let World { facts, class, told } = world;
        let mut plan = Plan::nothing();
        // Volumes that are made at once are not the scheduler's to place.
        let waits =
            |class: &&Arc<StorageClass>| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer") && class.metadata.deletion_timestamp.is_none();
        match class.as_ref().filter(|class| class.provisioner == facts.name).filter(waits) {
            Some(class) if facts.can(Rpc::GetCapacity) && facts.topology.is_some() => {
                let own = class.parameters.iter().flatten().filter(|(name, _)| !name.starts_with("csi.storage.k8s.io/"));
                plan.push(Action::Tell(own.map(|(name, value)| (name.clone(), value.clone())).collect()));
                plan.look_again(POLL);
            }
            _ if *told => plan.push(Action::Remove),
            _ => {}
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let own = self.object_key(key);
        let found = self.capacities.get(&own);
        let uid = found.as_ref().map(|found| Preconditions::uid_of(&found.metadata)).unwrap_or_default();
        let Action::Tell(parameters) = action else {
            return if found.is_some() { self.capacities.delete(&own, &Deletion { preconditions: uid, ..Default::default() }).await } else { Ok(()) };
        };
        let request = GetCapacityRequest { parameters, accessible_topology: self.driver.facts.topology.clone(), ..Default::default() };
        let answer = self.driver.controller.clone().get_capacity(request).await.map_err(|status| refused(&status))?.into_inner();
        let node = self.nodes.get(&ObjectKey::new(&ClusterName::root(), "", &self.driver.facts.node_name));
        let wanted = object(&self.driver.facts, &key.name, &own.name, node.as_deref(), &answer)?;
        match write(found.as_deref(), wanted) {
            None => Ok(()),
            Some(Write::Patch(patch)) => self.capacities.patch(&own, "", &patch, &uid).await.map(drop),
            Some(Write::Create(object)) => match self.capacities.create(&ClusterName::root(), &object).await {
                Err(error) if !error.is_already_exists() => Err(error),
                _ => Ok(()),
            },
        }
    }
}

impl Capacities {
    fn object_key(&self, class: &ObjectKey) -> ObjectKey {
        let facts = &self.driver.facts;
        let name = csi::names::storage_capacity(&facts.name, &class.name, &facts.node_name);
        ObjectKey::new(&ClusterName::root(), NAMESPACE, &name)
    }
}

/// What is told of a driver's answer about a class. It goes with its node.
fn object(facts: &Facts, class: &str, name: &str, node: Option<&Node>, answer: &GetCapacityResponse) -> Result<CSIStorageCapacity, serde_json::Error> {
    let (capacity, largest) = rounded(answer);
    let owner = node.map(|node| json!({"apiVersion": "v1", "kind": "Node", "name": facts.node_name, "uid": node.metadata.uid}));
    serde_json::from_value(json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity",
        "metadata": {
            "name": name, "namespace": NAMESPACE,
            "labels": {DRIVER_LABEL: facts.name, MANAGER_LABEL: "external-provisioner"},
            "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
        },
        "nodeTopology": {"matchLabels": facts.segments()},
        "storageClassName": class,
        "capacity": quantity(capacity),
        "maximumVolumeSize": largest.map(quantity),
    }))
}

#[derive(Debug, PartialEq)]
enum Write {
    Create(Box<CSIStorageCapacity>),
    Patch(Value),
}

/// What to write, where something else was told.
fn write(found: Option<&CSIStorageCapacity>, wanted: CSIStorageCapacity) -> Option<Write> {
    let Some(found) = found else { return Some(Write::Create(Box::new(wanted))) };
    let bytes = |amount: &Option<Quantity>| {
        let amounts = amount.as_ref().map(|amount| [("storage".to_owned(), amount.clone())].into());
        pod_resources::parse(amounts.as_ref()).get("storage").map(|amount| amount.units())
    };
    let same = bytes(&found.capacity) == bytes(&wanted.capacity) && bytes(&found.maximum_volume_size) == bytes(&wanted.maximum_volume_size);
    (!same).then(|| Write::Patch(json!({"capacity": wanted.capacity, "maximumVolumeSize": wanted.maximum_volume_size})))
}

/// Down to the leading bits: a disk that is written to is not worth a write to the API for every block.
fn rounded(answer: &GetCapacityResponse) -> (i64, Option<i64>) {
    let down = |bytes: i64| {
        let bits = 63 - bytes.max(1).leading_zeros();
        bytes & !((1i64 << bits.saturating_sub(7)) - 1)
    };
    (down(answer.available_capacity), answer.maximum_volume_size.map(down))
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    #[test]
    fn what_is_told_is_what_there_is_but_for_a_hundredth() {
        let told = |bytes: i64| rounded(&GetCapacityResponse { available_capacity: bytes, ..Default::default() }).0;
        assert_eq!([0, 1, 100, 255].map(told), [0, 1, 100, 255]);
        assert_eq!(told((1 << 30) + 1), 1 << 30);
        for bytes in [12_345_678_901, 64 << 20, i64::MAX] {
            assert!(told(bytes) <= bytes && bytes - told(bytes) <= bytes / 100, "{bytes}");
        }
    }

    #[test]
    fn classes_that_wait_for_pods_are_told_of() {
        let decide = |mode: &str, rpcs: &[Rpc], told| {
            let class = json!({"metadata": {"name": "c"}, "provisioner": "d.example", "volumeBindingMode": mode, "parameters": {"type": "ssd", "csi.storage.k8s.io/fstype": "xfs"}});
            let class = Some(Arc::new(serde_json::from_value(class).unwrap()));
            Capacities::reconcile(&World { facts: Arc::new(Facts::of_test(rpcs)), class, told }).actions
        };
        let tell = Action::Tell([("type".to_owned(), "ssd".to_owned())].into());
        assert_eq!(decide("WaitForFirstConsumer", &[Rpc::GetCapacity], false), [tell]);
        assert_eq!(decide("Immediate", &[Rpc::GetCapacity], true), [Action::Remove]);
        assert_eq!(decide("WaitForFirstConsumer", &[], false), []);
        let gone = World { facts: Arc::new(Facts::of_test(&[Rpc::GetCapacity])), class: None, told: true };
        assert_eq!(Capacities::reconcile(&gone).actions, [Action::Remove]);
    }

    fn class(mode: &str) -> Arc<StorageClass> {
        let class = json!({"metadata": {"name": "c"}, "provisioner": "d.example", "volumeBindingMode": mode});
        Arc::new(serde_json::from_value(class).unwrap())
    }

    /// The world, and what was told in it.
    type Told = (World, Option<CSIStorageCapacity>);

    /// Asks a driver that has `room`, and writes what is to be written; gives how many writes that took.
    fn settle(world: Told, room: i64, largest: Option<i64>) -> (Told, usize) {
        let answer = GetCapacityResponse { available_capacity: room, maximum_volume_size: largest, ..Default::default() };
        // A driver is asked again and again: what settles is what is written.
        let writes = |(world, told): &Told| -> Plan<Option<Write>> {
            let write = |action| match action {
                Action::Tell(_) => write(told.as_ref(), object(&world.facts, "c", "one", None, &answer).unwrap()).map(Some),
                Action::Remove => Some(None),
            };
            Capacities::reconcile(world).actions.into_iter().filter_map(write).collect::<Vec<_>>().into()
        };
        let mut written = 0;
        let end = converges(world, 1, writes, |(world, told), write| {
            written += 1;
            match write {
                Some(Write::Create(object)) => *told = Some(*object),
                Some(Write::Patch(patch)) => {
                    let mut object = serde_json::to_value(&*told).unwrap();
                    object.as_object_mut().unwrap().extend(patch.as_object().unwrap().clone());
                    *told = serde_json::from_value(object).unwrap();
                }
                None => *told = None,
            }
            world.told = told.is_some();
        });
        (end, written)
    }

    #[test]
    fn what_is_told_is_written_when_it_changes_and_goes_with_its_class() {
        let world = World { facts: Arc::new(Facts::of_test(&[Rpc::GetCapacity])), class: Some(class("WaitForFirstConsumer")), told: false };
        let (new, writes) = settle((world, None), 1 << 30, None);
        let told = |(_, told): &Told| {
            let told = told.as_ref().unwrap();
            (told.capacity.clone().unwrap().0, told.maximum_volume_size.clone().map(|size| size.0))
        };
        assert_eq!((told(&new), writes), (("1Gi".into(), None), 1));
        let labels = new.1.as_ref().unwrap().node_topology.as_ref().unwrap().match_labels.clone().unwrap();
        assert_eq!(labels, [("zone".to_owned(), "n1".to_owned())].into());
        let (same, writes) = settle(new, (1 << 30) + 1, None);
        assert_eq!(writes, 0, "a byte is not worth a write");
        let (less, writes) = settle(same, 1 << 20, Some(1 << 10));
        assert_eq!((told(&less), writes), (("1Mi".into(), Some("1Ki".into())), 1));
        let (mut unbounded, writes) = settle(less, 1 << 20, None);
        assert_eq!((told(&unbounded), writes), (("1Mi".into(), None), 1));
        unbounded.0.class = Some(class("Immediate"));
        let (mut gone, writes) = settle(unbounded, 1 << 20, None);
        assert_eq!((gone.1.is_none(), writes), (true, 1));
        gone.0.class = None;
        assert_eq!(settle(gone, 1 << 20, None).1, 0);
    }
}
