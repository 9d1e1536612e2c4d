//! Resources: requests and limits as the kernel's numbers (upstream's kubelet, package cm and qos).
use super::containers::{init_containers, is_sidecar, spec};
use api_meta::Quantity;
use cri::v1::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as RawQuantity;
use std::collections::BTreeMap;

const PERIOD_MICROSECONDS: i64 = 100_000;
const LEAST_QUOTA_MICROSECONDS: i64 = 1_000;
const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;
const GUARANTEED_OOM_SCORE: i64 = -997;
const BEST_EFFORT_OOM_SCORE: i64 = 1000;
/// system-node-critical and above.
const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;

/// What of the node shapes a container's resources.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// Bytes.
    pub memory: u64,
    /// The lowest oom_score_adj that may be given: above the wanted one without CAP_SYS_RESOURCE.
    pub least_oom_score: i64,
    pub unified_cgroups: bool,
}

/// Guaranteed, Burstable or BestEffort.
pub fn qos_class(pod: &Pod) -> &'static str {
    let spec = spec(pod);
    let of_pod = spec.resources.iter();
    let all: Vec<&ResourceRequirements> = match spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some()) {
        Some(_) => of_pod.collect(),
        None => spec.containers.iter().chain(init_containers(pod)).map(|c| c.resources.as_ref().unwrap_or(&NOTHING)).collect(),
    };
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(resources.requests.as_ref(), name), amount(resources.limits.as_ref(), name));
            any |= !request.is_zero() || !limit.is_zero();
            guaranteed &= !limit.is_zero() && (request == limit || request.is_zero());
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

static NOTHING: ResourceRequirements = ResourceRequirements { claims: None, limits: None, requests: None };

/// A container's resources for the runtime.
pub fn container_resources(pod: &Pod, container: &Container, node: NodeLimits) -> LinuxContainerResources {
    let resources = container.resources.as_ref().unwrap_or(&NOTHING);
    let memory_limit = amount(resources.limits.as_ref(), "memory").units();
    let mut out = LinuxContainerResources {
        oom_score_adj: oom_score(pod, container, node.memory).max(node.least_oom_score),
        memory_limit_in_bytes: memory_limit,
        ..cpu_resources(resources)
    };
    if node.unified_cgroups && memory_limit > 0 {
        // A container out of memory ends as a whole.
        out.unified.insert("memory.oom.group".into(), "1".into());
    }
    out.hugepage_limits = hugepages(resources);
    out
}

fn cpu_resources(resources: &ResourceRequirements) -> LinuxContainerResources {
    let (mut request, limit) = (amount(resources.requests.as_ref(), "cpu").millis(), amount(resources.limits.as_ref(), "cpu").millis());
    if request == 0 {
        request = limit;
    }
    LinuxContainerResources {
        cpu_shares: shares(request),
        cpu_quota: quota(limit),
        cpu_period: if limit > 0 { PERIOD_MICROSECONDS } else { 0 },
        ..Default::default()
    }
}

/// cgroup v1 shares of thousandths of a core; runtimes convert them for v2.
pub fn shares(millis: i64) -> i64 {
    if millis == 0 { LEAST_SHARES } else { (millis * 1024 / 1000).clamp(LEAST_SHARES, MOST_SHARES) }
}

fn quota(millis: i64) -> i64 {
    if millis == 0 { 0 } else { (millis * PERIOD_MICROSECONDS / 1000).max(LEAST_QUOTA_MICROSECONDS) }
}

fn hugepages(resources: &ResourceRequirements) -> Vec<cri::v1::HugepageLimit> {
    let page = |name: &str| {
        Some(match Quantity::parse(name.strip_prefix("hugepages-")?).ok()?.units() {
            bytes if bytes >= 1 << 30 => format!("{}GB", bytes >> 30),
            bytes if bytes >= 1 << 20 => format!("{}MB", bytes >> 20),
            bytes => format!("{}KB", bytes >> 10),
        })
    };
    let limits = resources.limits.iter().flatten();
    limits
        .filter_map(|(name, value)| Some(cri::v1::HugepageLimit { page_size: page(name)?, limit: u64::try_from(parse(value).units()).unwrap_or(0) }))
        .collect()
}

/// How early the kernel ends the container when memory runs out (upstream's `GetContainerOOMScoreAdjust`).
pub fn oom_score(pod: &Pod, container: &Container, node_memory: u64) -> i64 {
    if spec(pod).priority.is_some_and(|priority| priority >= NODE_CRITICAL_PRIORITY) {
        return GUARANTEED_OOM_SCORE;
    }
    match qos_class(pod) {
        "Guaranteed" => GUARANTEED_OOM_SCORE,
        "BestEffort" => BEST_EFFORT_OOM_SCORE,
        _ => {
            let own = burstable_score(container, node_memory);
            if !init_containers(pod).iter().any(|c| is_sidecar(c) && c.name == container.name) {
                return own;
            }
            // A sidecar lives no shorter than what it serves.
            spec(pod).containers.iter().map(|c| burstable_score(c, node_memory)).fold(own, i64::min)
        }
    }
}

fn burstable_score(container: &Container, node_memory: u64) -> i64 {
    let request = amount(container.resources.as_ref().and_then(|r| r.requests.as_ref()), "memory").units();
    let part = i128::from(request) * 1000 / i128::from(node_memory.max(1));
    let score = 1000 - i64::try_from(part).unwrap_or(1000);
    if score < 1000 + GUARANTEED_OOM_SCORE {
        return 1000 + GUARANTEED_OOM_SCORE;
    }
    // One below those that asked for nothing.
    if score == BEST_EFFORT_OOM_SCORE { score - 1 } else { score }
}

/// What the whole pod may use, for its own cgroup. A limit counts only if every container has one.
pub fn pod_resources(pod: &Pod) -> LinuxContainerResources {
    let spec = spec(pod);
    let containers: Vec<&ResourceRequirements> =
        spec.containers.iter().chain(init_containers(pod).iter().filter(|c| is_sidecar(c))).map(|c| c.resources.as_ref().unwrap_or(&NOTHING)).collect();
    let overhead = |name: &str| amount(spec.overhead.as_ref(), name);
    let pod_level = spec.resources.as_ref();
    let request = |name: &str| {
        let own = amount(pod_level.and_then(|r| r.requests.as_ref()), name);
        let sum = containers.iter().map(|r| amount(r.requests.as_ref(), name)).fold(Quantity::ZERO, |a, b| a + b);
        let init = init_containers(pod).iter().map(|c| amount(c.resources.as_ref().and_then(|r| r.requests.as_ref()), name)).max();
        (if own.is_zero() { sum.max(init.unwrap_or(Quantity::ZERO)) } else { own }) + overhead(name)
    };
    let limit = |name: &str| {
        let own = amount(pod_level.and_then(|r| r.limits.as_ref()), name);
        if !own.is_zero() {
            return own + overhead(name);
        }
        let limits: Vec<Quantity> = containers.iter().map(|r| amount(r.limits.as_ref(), name)).collect();
        let init: Vec<Quantity> = init_containers(pod).iter().map(|c| amount(c.resources.as_ref().and_then(|r| r.limits.as_ref()), name)).collect();
        if limits.iter().chain(&init).any(Quantity::is_zero) {
            return Quantity::ZERO;
        }
        limits.into_iter().fold(Quantity::ZERO, |a, b| a + b).max(init.into_iter().max().unwrap_or(Quantity::ZERO)) + overhead(name)
    };
    let quota = quota(limit("cpu").millis());
    LinuxContainerResources {
        cpu_shares: shares(request("cpu").millis()),
        cpu_quota: quota,
        cpu_period: if quota > 0 { PERIOD_MICROSECONDS } else { 0 },
        memory_limit_in_bytes: limit("memory").units(),
        ..Default::default()
    }
}

/// What a pod asks for of one resource, as the scheduler counts it.
pub fn pod_request(pod: &Pod, name: &str) -> Quantity {
    let requests = |resources: Option<&ResourceRequirements>| amount(resources.and_then(|r| r.requests.as_ref()), name);
    let spec = spec(pod);
    let mut sum = spec.containers.iter().map(|c| requests(c.resources.as_ref())).fold(Quantity::ZERO, |a, b| a + b);
    let (mut sidecars, mut init) = (Quantity::ZERO, Quantity::ZERO);
    for container in init_containers(pod) {
        let own = requests(container.resources.as_ref());
        if is_sidecar(container) {
            sidecars = sidecars + own;
            init = init.max(sidecars);
        } else {
            init = init.max(sidecars + own);
        }
    }
    sum = (sum + sidecars).max(init);
    let of_pod = requests(spec.resources.as_ref());
    (if of_pod.is_zero() { sum } else { of_pod }) + amount(spec.overhead.as_ref(), name)
}

fn amount(map: Option<&BTreeMap<String, RawQuantity>>, name: &str) -> Quantity {
    map.and_then(|map| map.get(name)).map_or(Quantity::ZERO, parse)
}

/// The API server has validated it.
fn parse(raw: &RawQuantity) -> Quantity {
    Quantity::parse(&raw.0).unwrap_or(Quantity::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {"containers": containers}})).unwrap()
    }

    const NODE: NodeLimits = NodeLimits { memory: 4_000_000_000, least_oom_score: -1000, unified_cgroups: false };

    #[test]
    fn classes_follow_requests_and_limits() {
        let none = pod(serde_json::json!([{"name": "a"}]));
        let all =
            pod(serde_json::json!([{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1Gi"}}}]));
        let some = pod(serde_json::json!([{"name": "a", "resources": {"requests": {"memory": "1G"}}}, {"name": "b"}]));
        assert_eq!([&none, &all, &some].map(qos_class), ["BestEffort", "Guaranteed", "Burstable"]);
        let scores = [&none, &all, &some].map(|pod| oom_score(pod, &spec(pod).containers[0], NODE.memory));
        assert_eq!(scores, [1000, -997, 750]);
        assert_eq!(oom_score(&some, &spec(&some).containers[1], NODE.memory), 999);
    }

    #[test]
    fn kernel_numbers_are_upstreams() {
        let pod = pod(serde_json::json!([{"name": "a", "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "64Mi"}}}]));
        let resources = container_resources(&pod, &spec(&pod).containers[0], NODE);
        assert_eq!((resources.cpu_shares, resources.cpu_quota, resources.cpu_period), (256, 150_000, 100_000));
        assert_eq!(resources.memory_limit_in_bytes, 64 << 20);
        assert_eq!((shares(0), shares(1), quota(5)), (2, 2, 1000));
        assert_eq!(pod_resources(&pod).memory_limit_in_bytes, 64 << 20);
    }

    #[test]
    fn a_missing_capability_raises_the_oom_score() {
        let pod = pod(serde_json::json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}}]));
        let node = NodeLimits { least_oom_score: 0, ..NODE };
        assert_eq!(container_resources(&pod, &spec(&pod).containers[0], node).oom_score_adj, 0);
    }
}
