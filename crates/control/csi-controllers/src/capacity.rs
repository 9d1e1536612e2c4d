//! Capacity: tells the scheduler how much room a driver has on this node for volumes of each class (KEP 1472).
use crate::driver::{Driver, Facts, Rpc, refused};
use crate::persistent_volume::quantity;
use api_meta::ClusterName;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, pod_resources};
use csi::v1::{GetCapacityRequest, GetCapacityResponse};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;
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
        let Action::Tell(parameters) = action else {
            let Some(found) = found else { return Ok(()) };
            return self.capacities.delete(&own, &Deletion { preconditions: Preconditions::uid_of(&found.metadata), ..Default::default() }).await;
        };
        let request = GetCapacityRequest { parameters, accessible_topology: self.driver.facts.topology.clone(), ..Default::default() };
        let answer = self.driver.controller.clone().get_capacity(request).await.map_err(|status| refused(&status))?.into_inner();
        let (capacity, largest) = rounded(&answer);
        let Some(found) = found else { return self.create(key, &own, capacity, largest).await };
        let same = |has: &Option<Quantity>, wanted: Option<i64>| {
            let has = has.as_ref().map(|has| [("storage".to_owned(), has.clone())].into());
            pod_resources::parse(has.as_ref()).get("storage").map(|amount| amount.units()) == wanted
        };
        if same(&found.capacity, Some(capacity)) && same(&found.maximum_volume_size, largest) {
            return Ok(());
        }
        let patch = json!({"capacity": quantity(capacity), "maximumVolumeSize": largest.map(quantity)});
        self.capacities.patch(&own, "", &patch, &Preconditions::uid_of(&found.metadata)).await.map(drop)
    }
}

impl Capacities {
    fn object_key(&self, class: &ObjectKey) -> ObjectKey {
        let facts = &self.driver.facts;
        let name = csi::names::storage_capacity(&facts.name, &class.name, &facts.node_name);
        ObjectKey::new(&ClusterName::root(), NAMESPACE, &name)
    }

    async fn create(&self, class: &ObjectKey, own: &ObjectKey, capacity: i64, largest: Option<i64>) -> Result<(), Error> {
        let facts = &self.driver.facts;
        // It goes with its node.
        let node = self.nodes.get(&ObjectKey::new(&ClusterName::root(), "", &facts.node_name));
        let owner = node.map(|node| json!({"apiVersion": "v1", "kind": "Node", "name": facts.node_name, "uid": node.metadata.uid}));
        let object = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSIStorageCapacity",
            "metadata": {
                "name": &*own.name, "namespace": NAMESPACE,
                "labels": {DRIVER_LABEL: facts.name, MANAGER_LABEL: "external-provisioner"},
                "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
            },
            "nodeTopology": {"matchLabels": facts.segments()},
            "storageClassName": &*class.name,
            "capacity": quantity(capacity),
            "maximumVolumeSize": largest.map(quantity),
        });
        match self.capacities.create(&ClusterName::root(), &serde_json::from_value(object)?).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }
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
}
