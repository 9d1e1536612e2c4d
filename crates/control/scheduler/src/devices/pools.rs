//! Pools: the devices that drivers publish, pool by pool, as far as their ResourceSlices are complete.
use super::DeviceId;
use super::capacity::{self, Capacity};
use super::constraint::{AttributeValue, attribute_values};
use super::counters::{self, Counter};
use crate::NodeInfo;
use api_meta::Quantity;
use controller_kit::device_taints;
use controller_kit::node_selector::{self, NodeTerm};
use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{Device as Published, DeviceTaint, DeviceTaintRule, ResourceSlice, ResourceSliceSpec};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Where a device can be used.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Node(String),
    Nodes(NodeSelector, Vec<NodeTerm>),
    AllNodes,
    Nowhere,
}

impl Place {
    fn of(node: Option<&String>, selector: Option<&NodeSelector>, all: Option<bool>) -> Self {
        match (node, selector, all) {
            (Some(node), ..) => Self::Node(node.clone()),
            (_, Some(selector), _) => Self::Nodes(selector.clone(), node_selector::terms(selector)),
            (_, _, Some(true)) => Self::AllNodes,
            _ => Self::Nowhere,
        }
    }

    pub fn takes(&self, node: &NodeInfo) -> bool {
        match self {
            Self::Node(name) => name == node.own_name(),
            Self::Nodes(_, terms) => terms.iter().any(|term| term.matches(node.own_name(), node.labels())),
            Self::AllNodes => true,
            Self::Nowhere => false,
        }
    }
}

/// A device as the search sees it.
#[derive(Clone, Debug)]
pub struct Device {
    pub id: DeviceId,
    /// As the slice has it, for selectors.
    pub published: Value,
    pub place: Place,
    /// By full name.
    pub attributes: BTreeMap<String, BTreeSet<AttributeValue>>,
    /// By the name the slice has.
    pub capacity: BTreeMap<String, Capacity>,
    pub taints: Vec<DeviceTaint>,
    /// Whether many claims may have a part of it each.
    pub is_shared: bool,
    /// What it takes of the pool's counters.
    pub takes: BTreeMap<Counter, Quantity>,
    /// Whether it is ready only some time after it was allocated.
    pub is_bound_later: bool,
}

#[derive(Clone, Debug)]
pub struct Pool {
    pub driver: Arc<str>,
    pub name: Arc<str>,
    /// Whether all slices of its newest generation are there.
    pub is_complete: bool,
    /// Two of its devices have one name: none of them can be told.
    pub is_invalid: bool,
    pub devices: Vec<Device>,
    pub counters: BTreeMap<Counter, Quantity>,
}

/// All pools of a cluster, and where to look for a node's.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    all: Vec<Pool>,
    of_node: HashMap<String, Vec<usize>>,
    /// Those with devices that are not one node's.
    elsewhere: Vec<usize>,
}

impl Pools {
    pub fn new(slices: &[Arc<ResourceSlice>], rules: &[Arc<DeviceTaintRule>]) -> Self {
        let mut gathered: BTreeMap<(&str, &str), Vec<&ResourceSliceSpec>> = BTreeMap::new();
        for slice in slices {
            gathered.entry((&slice.spec.driver, &slice.spec.pool.name)).or_default().push(&slice.spec);
        }
        let mut pools = Self::default();
        for ((driver, name), mut slices) in gathered {
            let newest = slices.iter().map(|slice| slice.pool.generation).max().unwrap_or_default();
            slices.retain(|slice| slice.pool.generation == newest);
            let pool = Pool::new(driver, name, &slices, rules);
            let at = pools.all.len();
            let nodes: BTreeSet<Option<&String>> =
                pool.devices.iter().map(|device| if let Place::Node(node) = &device.place { Some(node) } else { None }).collect();
            for node in nodes {
                match node {
                    Some(node) => pools.of_node.entry(node.clone()).or_default().push(at),
                    None => pools.elsewhere.push(at),
                }
            }
            pools.all.push(pool);
        }
        pools
    }

    /// Pools that may have devices for a node, in order.
    pub fn of(&self, node: &NodeInfo) -> Vec<&Pool> {
        let own = self.of_node.get(node.own_name()).into_iter().flatten();
        let places: BTreeSet<usize> = own.chain(&self.elsewhere).copied().collect();
        places.into_iter().map(|at| &self.all[at]).collect()
    }
}

impl Pool {
    fn new(driver: &str, name: &str, slices: &[&ResourceSliceSpec], rules: &[Arc<DeviceTaintRule>]) -> Self {
        let expected = slices.first().map_or(0, |slice| slice.pool.resource_slice_count);
        let (driver, name): (Arc<str>, Arc<str>) = (driver.into(), name.into());
        let mut pool = Self {
            is_complete: i64::try_from(slices.len()).is_ok_and(|found| found == expected),
            is_invalid: false,
            devices: Vec::new(),
            counters: slices.iter().flat_map(|slice| counters::published(slice)).collect(),
            driver,
            name,
        };
        let mut names = HashSet::new();
        for slice in slices {
            for device in slice.devices.iter().flatten() {
                pool.is_invalid |= !names.insert(&device.name);
                let device = pool.device(slice, device, rules);
                pool.devices.push(device);
            }
        }
        pool
    }

    fn device(&self, slice: &ResourceSliceSpec, device: &Published, rules: &[Arc<DeviceTaintRule>]) -> Device {
        let id = DeviceId { driver: self.driver.clone(), pool: self.name.clone(), device: device.name.as_str().into() };
        let place = if slice.per_device_node_selection == Some(true) {
            Place::of(device.node_name.as_ref(), device.node_selector.as_ref(), device.all_nodes)
        } else {
            Place::of(slice.node_name.as_ref(), slice.node_selector.as_ref(), slice.all_nodes)
        };
        let full = |name: &str| if name.contains('/') { name.to_owned() } else { format!("{}/{name}", self.driver) };
        let attributes = device.attributes.iter().flatten().map(|(name, attribute)| (full(name), attribute_values(attribute)));
        Device {
            published: serde_json::to_value(device).unwrap_or_default(),
            place,
            attributes: attributes.collect(),
            capacity: device.capacity.iter().flatten().filter_map(|(name, told)| Some((name.clone(), capacity::read(told)?))).collect(),
            taints: device.taints.iter().flatten().cloned().chain(device_taints::of_rules(rules, &id.driver, &id.pool, &id.device)).collect(),
            is_shared: device.allow_multiple_allocations == Some(true),
            takes: counters::taken_by(device),
            is_bound_later: device.binding_conditions.as_ref().is_some_and(|conditions| !conditions.is_empty()),
            id,
        }
    }
}
