//! PodInfo: a pod with what scheduling asks of it again and again worked out once.
use crate::amounts::Amounts;
use crate::term::Term;
use controller_kit::ObjectKey;
use controller_kit::pod_resources::{Kind, pod_resources};
use k8s_openapi::api::core::v1::{Container, Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use std::sync::Arc;

/// A port on the node itself: address (0.0.0.0 is all), protocol and number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port && self.protocol == other.protocol && (self.ip == other.ip || self.ip == "0.0.0.0" || other.ip == "0.0.0.0")
    }
}

#[derive(Clone, Debug)]
pub struct PodInfo {
    pub key: ObjectKey,
    pub pod: Arc<Pod>,
    pub priority: i32,
    pub requests: Amounts,
    /// CPU and memory with something for containers that request nothing, so that they too are spread.
    pub scored: (i64, i64),
    pub host_ports: Vec<HostPort>,
    pub affinity: Vec<Term>,
    /// A required affinity that can't be met, because its selector means no pod.
    pub affinity_is_void: bool,
    pub anti_affinity: Vec<Term>,
    pub preferred: Vec<(i64, Term)>,
    pub preferred_anti: Vec<(i64, Term)>,
}

const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

impl PodInfo {
    pub fn new(key: ObjectKey, pod: Arc<Pod>) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let requests = Amounts::new(&pod_resources(&spec, Kind::Requests));
        let mut filled = spec.clone();
        let pod_level = spec.resources.as_ref().and_then(|resources| resources.requests.clone()).unwrap_or_default();
        for container in filled.containers.iter_mut().chain(filled.init_containers.iter_mut().flatten()) {
            fill(container, |name| pod_level.contains_key(name));
        }
        let scored = Amounts::new(&pod_resources(&filled, Kind::Requests));
        let affinity = spec.affinity.unwrap_or_default();
        let (together, apart) = (affinity.pod_affinity.unwrap_or_default(), affinity.pod_anti_affinity.unwrap_or_default());
        let terms = |list: Option<Vec<PodAffinityTerm>>| list.into_iter().flatten().map(|term| Term::new(&term, &pod)).collect::<Vec<_>>();
        let weighted = |list: Option<Vec<WeightedPodAffinityTerm>>| {
            list.into_iter().flatten().filter_map(|w| Some((i64::from(w.weight), Term::new(&w.pod_affinity_term, &pod)?))).collect()
        };
        let required = terms(together.required_during_scheduling_ignored_during_execution);
        Self {
            priority: spec.priority.unwrap_or_default(),
            requests,
            scored: (scored.cpu, scored.memory),
            host_ports: host_ports(&pod),
            affinity_is_void: required.iter().any(Option::is_none),
            affinity: required.into_iter().flatten().collect(),
            anti_affinity: terms(apart.required_during_scheduling_ignored_during_execution).into_iter().flatten().collect(),
            preferred: weighted(together.preferred_during_scheduling_ignored_during_execution),
            preferred_anti: weighted(apart.preferred_during_scheduling_ignored_during_execution),
            key,
            pod,
        }
    }

    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }
    pub fn has_affinity(&self) -> bool {
        !self.affinity.is_empty() || !self.anti_affinity.is_empty() || !self.preferred.is_empty() || !self.preferred_anti.is_empty()
    }
}

fn fill(container: &mut Container, is_pod_level: impl Fn(&str) -> bool) {
    let resources = container.resources.get_or_insert_default();
    for (name, amount) in [("cpu", format!("{DEFAULT_CPU}m")), ("memory", DEFAULT_MEMORY.to_string())] {
        let given = resources.requests.as_ref().is_some_and(|r| r.contains_key(name)) || resources.limits.as_ref().is_some_and(|l| l.contains_key(name));
        if !given && !is_pod_level(name) {
            resources.requests.get_or_insert_default().insert(name.to_owned(), k8s_openapi::apimachinery::pkg::api::resource::Quantity(amount));
        }
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(sidecar));
    let own = spec.host_network == Some(true);
    let ports = containers.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
        // On the node's own network every port is the node's.
        let number = port.host_port.filter(|n| *n > 0).or(own.then_some(port.container_port))?;
        let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
        Some(HostPort { ip, protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()), port: number })
    });
    ports.collect()
}
