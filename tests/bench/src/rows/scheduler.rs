//! Scheduler: decisions a second on 5,000 nodes, in this process, each pod placed before the next is looked at; also while
//! pods and nodes come and go, and where room has to be made first.
use crate::figure::{Budget, Figure};
use anyhow::{Result, anyhow};
use api_meta::ClusterName;
use clock::{Clock, SystemClock};
use controller_kit::ObjectKey;
use k8s_openapi::api::core::v1::{Node, Pod};
use scheduler::{Needs, PodInfo, Snapshot, preempt, schedule};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const NODES: usize = 5_000;
const ZONES: usize = 3;
/// There before the measured ones, with the same spec, as upstream's scheduler_perf has it.
const BEFORE: usize = 5_000;
const BASIC_BUDGET: f64 = 5_000.0;
const CONSTRAINED_BUDGET: f64 = 1_000.0;

/// A kind of pod and how many are placed.
struct Workload {
    name: &'static str,
    before: usize,
    pods: usize,
    budget: f64,
    upstream: &'static str,
    spec: fn() -> Value,
}

const WORKLOADS: [Workload; 4] = [
    Workload { name: "basic", before: BEFORE, pods: 20_000, budget: BASIC_BUDGET, upstream: "680-810", spec: || json!({}) },
    Workload {
        name: "spread over zones",
        before: BEFORE,
        pods: 5_000,
        budget: CONSTRAINED_BUDGET,
        upstream: "85-90",
        spec: || json!({ "topologySpreadConstraints": [spread("topology.kubernetes.io/zone", 5)] }),
    },
    Workload {
        name: "spread over hosts",
        before: BEFORE,
        pods: 5_000,
        budget: CONSTRAINED_BUDGET,
        upstream: "35-90",
        spec: || json!({ "topologySpreadConstraints": [spread("kubernetes.io/hostname", 2)] }),
    },
    Workload {
        name: "anti-affinity",
        before: 1_000,
        pods: 3_000,
        budget: CONSTRAINED_BUDGET,
        upstream: "35-90",
        spec: || {
            let term = json!({ "labelSelector": { "matchLabels": { "app": "web" } }, "topologyKey": "kubernetes.io/hostname" });
            json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } })
        },
    },
];

fn spread(key: &str, skew: u32) -> Value {
    json!({ "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": { "matchLabels": { "app": "web" } } })
}

pub fn measure() -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = WORKLOADS.iter().map(Workload::measure).collect::<Result<_>>()?;
    figures.push(churn()?);
    figures.push(preemption()?);
    Ok(figures)
}

fn info(pod: Arc<Pod>) -> Arc<PodInfo> {
    let key = ObjectKey::new(&ClusterName::root(), "bench", pod.metadata.name.as_deref().unwrap_or_default());
    Arc::new(PodInfo::new(key, pod))
}

fn random(below: usize) -> usize {
    u32::from_le_bytes(clock::random_bytes()) as usize % below.max(1)
}

/// Every pod that comes, spread over zones, takes the place of one that goes; every tenth time a node is replaced.
fn churn() -> Result<Figure> {
    const PODS: usize = 5_000;
    let mut snapshot = Snapshot::default();
    for number in 0..NODES {
        snapshot.set_node(node(number)?);
    }
    let spec = json!({ "topologySpreadConstraints": [spread("topology.kubernetes.io/zone", 5)] });
    let pods: Vec<Arc<PodInfo>> = (0..BEFORE + PODS).map(|number| Ok(info(pod(number, &spec)?))).collect::<Result<_>>()?;
    let (mut start, mut began) = (0, SystemClock.instant());
    for (number, info) in pods.iter().enumerate() {
        if number == BEFORE {
            began = SystemClock.instant();
        }
        if number >= BEFORE {
            snapshot.remove_pod(&pods[number - BEFORE].key);
            if number % 10 == 0 {
                let number = random(NODES);
                snapshot.remove_node(&format!("node-{number}"));
                snapshot.set_node(node(number)?);
            }
        }
        let placement = schedule(info, &Needs::default(), &snapshot, start, 0, &mut random).map_err(|error| anyhow!("pod {number}: {error}"))?;
        start = placement.next_start;
        let name = snapshot.nodes()[placement.node].name.clone();
        snapshot.place(info.clone(), &name);
    }
    let rate = PODS as f64 / (SystemClock.instant() - began).as_secs_f64();
    let detail = format!("{PODS} pods come and go beside {BEFORE}, spread over zones, and {} nodes are replaced", PODS / 10);
    Ok(Figure::new(format!("scheduler, {NODES} nodes, churn"), rate, "pods/s", Budget::AtLeast(CONSTRAINED_BUDGET), detail))
}

/// Every node is full of unimportant pods; each important one makes room for itself.
fn preemption() -> Result<Figure> {
    const PODS: usize = 1_000;
    const EACH: usize = 4;
    let mut snapshot = Snapshot::default();
    let needs = |cpu: u32, priority: i32| json!({ "priority": priority, "containers": [{ "name": "web", "image": "web:1", "resources": { "requests": { "cpu": cpu.to_string() } } }] });
    for number in 0..NODES {
        snapshot.set_node(node(number)?);
        for place in 0..EACH {
            snapshot.place(info(pod(number * EACH + place, &needs(8, 0))?), &format!("node-{number}"));
        }
    }
    let pods: Vec<Arc<PodInfo>> = (0..PODS).map(|number| Ok(info(pod(NODES * EACH + number, &needs(12, 10))?))).collect::<Result<_>>()?;
    let began = SystemClock.instant();
    for (number, info) in pods.iter().enumerate() {
        let start = random(NODES);
        let error = match schedule(info, &Needs::default(), &snapshot, start, 0, &mut random) {
            Ok(placement) => return Err(anyhow!("pod {number} found room at {}", placement.node)),
            Err(error) => error,
        };
        let found = preempt(info, &Needs::default(), &snapshot, &error, &[], start).map_err(|error| anyhow!("pod {number}: {error}"))?;
        for victim in &found.victims {
            snapshot.remove_pod(&victim.key);
        }
        snapshot.place(info.clone(), &found.node);
    }
    let rate = PODS as f64 / (SystemClock.instant() - began).as_secs_f64();
    let detail = format!("{PODS} pods, each in place of two of {}; upstream's floor 200", NODES * EACH);
    Ok(Figure::new(format!("scheduler, {NODES} nodes, preemption"), rate, "pods/s", Budget::AtLeast(200.0), detail))
}

impl Workload {
    fn measure(&self) -> Result<Figure> {
        let mut snapshot = Snapshot::default();
        for number in 0..NODES {
            snapshot.set_node(node(number)?);
        }
        let spec = (self.spec)();
        let pods: Vec<Arc<Pod>> = (0..self.before + self.pods).map(|number| pod(number, &spec)).collect::<Result<_>>()?;
        let mut start = 0;
        let mut longest = Duration::ZERO;
        let mut began = SystemClock.instant();
        for (number, pod) in pods.into_iter().enumerate() {
            if number == self.before {
                began = SystemClock.instant();
                longest = Duration::ZERO;
            }
            let this = SystemClock.instant();
            let info = info(pod);
            let placement = schedule(&info, &Needs::default(), &snapshot, start, 0, &mut random).map_err(|error| anyhow!("pod {number}: {error}"))?;
            start = placement.next_start;
            let name = snapshot.nodes()[placement.node].name.clone();
            snapshot.place(info, &name);
            longest = longest.max(SystemClock.instant() - this);
        }
        let took = SystemClock.instant() - began;
        let rate = self.pods as f64 / took.as_secs_f64();
        let detail = format!("{} pods after {}; longest {:.1} ms; upstream's floor {}", self.pods, self.before, longest.as_secs_f64() * 1000.0, self.upstream);
        Ok(Figure::new(format!("scheduler, {NODES} nodes, {}", self.name), rate, "pods/s", Budget::AtLeast(self.budget), detail))
    }
}

fn node(number: usize) -> Result<Arc<Node>> {
    let name = format!("node-{number}");
    Ok(Arc::new(serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", number % ZONES) } },
        "status": { "allocatable": { "cpu": "32", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi" } },
    }))?))
}

fn pod(number: usize, spec: &Value) -> Result<Arc<Pod>> {
    let name = format!("web-{number}");
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "bench", "uid": name, "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": "web:1", "resources": { "requests": { "cpu": "100m", "memory": "500Mi" } } }] },
    });
    let fields = pod["spec"].as_object_mut().expect("it was just made an object");
    fields.extend(spec.as_object().cloned().unwrap_or_default());
    Ok(Arc::new(serde_json::from_value(pod)?))
}
