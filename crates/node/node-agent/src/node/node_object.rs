//! The Node object: what the machine is, and how it is. Pure.
use super::eviction_thresholds::EvictionThresholds;
use crate::machine::{FileSystem, Machine, go_architecture};
use crate::settings::AgentSettings;
use api_meta::Quantity;
use cri::v1::{Image, RuntimeCondition, VersionResponse};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as RawQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use std::collections::BTreeMap;

/// The version this kubelet reports.
pub const KUBELET_VERSION: &str = "v1.37.0";
/// As many images as upstream lists.
const MOST_IMAGES: usize = 50;
const MOST_IMAGE_NAMES: usize = 5;

/// What changes from look to look.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    pub version: VersionResponse,
    /// `None` when the runtime does not answer.
    pub runtime: Option<Vec<RuntimeCondition>>,
    pub handlers: Vec<String>,
    pub images: Vec<Image>,
    pub available_memory: Option<u64>,
    pub file_system: Option<FileSystem>,
    /// (limit, in use)
    pub processes: Option<(u64, u64)>,
    /// Volumes of CSI drivers that are or may be mounted.
    pub volumes_in_use: Vec<String>,
}

type Resources = BTreeMap<String, RawQuantity>;

/// What the machine has.
pub fn capacity(machine: &Machine, file_system: Option<FileSystem>, max_pods: u32) -> Resources {
    let bytes = |bytes: u64| RawQuantity(format!("{}Ki", bytes / 1024));
    let mut out = BTreeMap::from([
        ("cpu".to_owned(), RawQuantity(machine.processors.to_string())),
        ("memory".to_owned(), bytes(machine.memory)),
        ("pods".to_owned(), RawQuantity(max_pods.to_string())),
    ]);
    if let Some(file_system) = file_system {
        out.insert("ephemeral-storage".into(), bytes(file_system.capacity));
    }
    out.extend(machine.hugepages.iter().map(|(size, count)| {
        let name = Quantity::from_bytes(size.cast_signed()).to_string();
        (format!("hugepages-{name}"), RawQuantity(Quantity::from_bytes((size * count).cast_signed()).to_string()))
    }));
    out
}

/// What of it pods may have: not what is reserved, nor what has to be left over.
pub fn allocatable(capacity: &Resources, settings: &AgentSettings) -> Resources {
    let mut out = capacity.clone();
    let parse = |text: &str| Quantity::parse(text).unwrap_or(Quantity::ZERO);
    for (name, quantity) in &mut out {
        let total = parse(&quantity.0);
        let least = |of: fn(&EvictionThresholds, u64) -> u64| of(&settings.eviction, total.units().unsigned_abs()).cast_signed();
        let kept = match name.as_str() {
            "memory" => Quantity::from_bytes(least(EvictionThresholds::memory)),
            "ephemeral-storage" => Quantity::from_bytes(least(EvictionThresholds::disk)),
            _ => Quantity::ZERO,
        } + settings.reserved.get(name).map_or(Quantity::ZERO, |text| parse(text));
        if !kept.is_zero() {
            let left = if kept > total { Quantity::ZERO } else { total - kept };
            *quantity = RawQuantity(left.to_string());
        }
    }
    out
}

/// The object to register.
pub fn node(settings: &AgentSettings, status: NodeStatus) -> Node {
    let mut labels = settings.labels.clone();
    let own = [
        ("kubernetes.io/hostname", settings.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", go_architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", go_architecture()),
    ];
    for (key, value) in own {
        labels.entry(key.into()).or_insert_with(|| value.into());
    }
    Node {
        metadata: ObjectMeta { name: Some(settings.node_name.clone()), labels: Some(labels), ..Default::default() },
        spec: Some(NodeSpec {
            pod_cidr: settings.pod_cidrs.first().map(ToString::to_string),
            pod_cidrs: Some(settings.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>()).filter(|ranges| !ranges.is_empty()),
            taints: Some(settings.taints.clone()).filter(|taints| !taints.is_empty()),
            ..Default::default()
        }),
        status: Some(status),
    }
}

/// The status. `before` gives the conditions' times where they did not change.
pub fn status(settings: &AgentSettings, machine: &Machine, seen: &Observation, before: &[NodeCondition], now: Timestamp) -> NodeStatus {
    let capacity = capacity(machine, seen.file_system, settings.max_pods);
    let allocatable = allocatable(&capacity, settings);
    let mut addresses: Vec<NodeAddress> = settings.node_ips.iter().map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() }).collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: settings.node_name.clone() });
    NodeStatus {
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        addresses: Some(addresses),
        conditions: Some(conditions(&settings.eviction, machine, seen, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(settings.streaming_address.port()) }) }),
        images: Some(images(&seen.images)),
        // An empty list, where there are none: an absent one would leave the old one standing.
        volumes_in_use: Some(seen.volumes_in_use.clone()),
        node_info: Some(NodeSystemInfo {
            architecture: go_architecture().into(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: format!("{}://{}", seen.version.runtime_name, seen.version.runtime_version),
            kernel_version: machine.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.into(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..Default::default()
        }),
        runtime_handlers: Some(seen.handlers.iter().map(|name| NodeRuntimeHandler { name: Some(name.clone()), ..Default::default() }).collect::<Vec<_>>())
            .filter(|handlers| !handlers.is_empty()),
        ..Default::default()
    }
}

fn conditions(eviction: &EvictionThresholds, machine: &Machine, seen: &Observation, before: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let little_memory = seen.available_memory.is_some_and(|bytes| eviction.little_memory(bytes, machine.memory));
    let little_disk = seen.file_system.is_some_and(|fs| eviction.little_disk(&fs));
    let many_processes = seen.processes.is_some_and(|(limit, used)| used >= limit);
    let pressure = |on: bool, yes: (&'static str, &str), no: (&'static str, &str)| {
        let (reason, message) = if on { yes } else { no };
        (on, reason, message.to_owned())
    };
    let not_ready = not_ready_reason(seen);
    let all = [
        (
            "MemoryPressure",
            pressure(
                little_memory,
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ),
        ),
        (
            "DiskPressure",
            pressure(little_disk, ("KubeletHasDiskPressure", "kubelet has disk pressure"), ("KubeletHasNoDiskPressure", "kubelet has no disk pressure")),
        ),
        (
            "PIDPressure",
            pressure(
                many_processes,
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
        ),
        (
            "Ready",
            match not_ready {
                None => (true, "KubeletReady", "kubelet is posting ready status".to_owned()),
                Some(reason) => (false, "KubeletNotReady", reason),
            },
        ),
    ];
    let condition = |(type_, (on, reason, message)): (&str, (bool, &str, String))| {
        let status = if on { "True" } else { "False" };
        let same = before.iter().find(|c| c.type_ == type_ && c.status == status);
        NodeCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        }
    };
    all.into_iter().map(condition).collect()
}

fn not_ready_reason(seen: &Observation) -> Option<String> {
    let Some(conditions) = &seen.runtime else { return Some("container runtime is down".into()) };
    let missing = |type_: &str, what: &str| match conditions.iter().find(|c| c.r#type == type_) {
        Some(c) if c.status => None,
        Some(c) => Some(format!("{what} not ready: {type_}=false reason:{} message:{}", c.reason, c.message)),
        None => Some(format!("{what} not ready: {type_} is not reported")),
    };
    let reasons: Vec<String> =
        [missing("RuntimeReady", "container runtime"), missing("NetworkReady", "container runtime network")].into_iter().flatten().collect();
    (!reasons.is_empty()).then(|| reasons.join(", "))
}

fn images(all: &[Image]) -> Vec<ContainerImage> {
    let mut all: Vec<&Image> = all.iter().collect();
    all.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let of = |image: &Image| {
        let names = image.repo_digests.iter().chain(&image.repo_tags).take(MOST_IMAGE_NAMES).cloned();
        ContainerImage { names: Some(names.collect()), size_bytes: i64::try_from(image.size).ok() }
    };
    all.into_iter().take(MOST_IMAGES).map(of).collect()
}

/// Whether two statuses differ in more than their heartbeats.
pub fn differ(a: &NodeStatus, b: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().flatten().for_each(|condition| condition.last_heartbeat_time = None);
        status
    };
    plain(a) != plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> AgentSettings {
        AgentSettings::new("n", "192.0.2.1".parse().unwrap(), "/data")
    }

    fn machine() -> Machine {
        Machine { processors: 2, memory: 8 << 30, hugepages: BTreeMap::from([(2 << 20, 4)]), ..Machine::default() }
    }

    #[test]
    fn what_pods_may_have_leaves_room_for_the_node() {
        let file_system = FileSystem { capacity: 100 << 30, available: 50 << 30, inodes: 100, inodes_free: 50 };
        let capacity = capacity(&machine(), Some(file_system), 110);
        assert_eq!((capacity["memory"].0.as_str(), capacity["hugepages-2Mi"].0.as_str()), ("8388608Ki", "8Mi"));
        let left = allocatable(&capacity, &AgentSettings { reserved: BTreeMap::from([("cpu".into(), "500m".into())]), ..settings() });
        assert_eq!((left["cpu"].0.as_str(), left["memory"].0.as_str(), left["pods"].0.as_str()), ("1500m", "8092Mi", "110"));
    }

    #[test]
    fn a_node_of_two_families_has_an_address_and_a_range_of_each() {
        let mut settings = settings();
        settings.node_ips.push("2001:db8::1".parse().unwrap());
        settings.pod_cidrs = ["10.42.0.0/24", "fd42::/64"].map(|range| range.parse().unwrap()).into();
        let told = status(&settings, &machine(), &Observation::default(), &[], Timestamp::UNIX_EPOCH);
        let addresses: Vec<String> = told.addresses.iter().flatten().map(|address| format!("{} {}", address.type_, address.address)).collect();
        assert_eq!(addresses, ["InternalIP 192.0.2.1", "InternalIP 2001:db8::1", "Hostname n"]);
        let spec = node(&settings, told).spec.unwrap();
        assert_eq!((spec.pod_cidr.as_deref(), spec.pod_cidrs.unwrap()), (Some("10.42.0.0/24"), vec!["10.42.0.0/24".to_owned(), "fd42::/64".into()]));
        assert_eq!(node(&super::tests::settings(), NodeStatus::default()).spec.unwrap().pod_cidrs, None);
    }

    #[test]
    fn conditions_say_what_is_wrong_and_keep_their_times() {
        let (then, now) = (Timestamp::from_second(100).unwrap(), Timestamp::from_second(200).unwrap());
        let condition = |type_: &str, status| RuntimeCondition { r#type: type_.into(), status, reason: "R".into(), message: "M".into() };
        let good = Observation { runtime: Some(vec![condition("RuntimeReady", true), condition("NetworkReady", true)]), ..Default::default() };
        let bad = Observation {
            runtime: Some(vec![condition("RuntimeReady", true), condition("NetworkReady", false)]),
            available_memory: Some(1),
            file_system: Some(FileSystem { capacity: 100, available: 9, inodes: 0, inodes_free: 0 }),
            ..Default::default()
        };
        let first = status(&settings(), &machine(), &good, &[], then).conditions.unwrap();
        assert!(first.iter().all(|c| (c.status == "True") == (c.type_ == "Ready")));
        let second = status(&settings(), &machine(), &bad, &first, now).conditions.unwrap();
        let find = |type_: &str| second.iter().find(|c| c.type_ == type_).unwrap();
        assert_eq!(find("Ready").message.as_deref(), Some("container runtime network not ready: NetworkReady=false reason:R message:M"));
        assert_eq!((find("MemoryPressure").status.as_str(), find("DiskPressure").status.as_str()), ("True", "True"));
        assert_eq!((&find("PIDPressure").last_transition_time, &find("Ready").last_transition_time), (&Some(Time(then)), &Some(Time(now))));
    }
}
