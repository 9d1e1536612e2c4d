//! A pod's conditions, as the kubelet sets them.
use super::containers::{init_containers, is_sidecar, spec};
use super::phase::has_started;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The conditions that the node owns. Others are kept as they are.
pub const OWN: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: String,
}

impl Verdict {
    fn yes() -> Self {
        Self { status: true, reason: None, message: String::new() }
    }
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: false, reason: Some(reason), message }
    }
}

/// All conditions of a status: others' first, then the node's own. `sandbox_serves` says whether the network is there.
pub fn conditions(
    pod: &Pod,
    old: &PodStatus,
    phase: &str,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    sandbox_serves: bool,
    now: Timestamp,
) -> Vec<PodCondition> {
    let before = old.conditions.as_deref().unwrap_or_default();
    let mut all: Vec<PodCondition> = before.iter().filter(|c| !OWN.contains(&c.type_.as_str())).cloned().collect();
    let containers = containers_ready(pod, phase, init, regular);
    let verdicts = [
        if sandbox_serves { Verdict::yes() } else { Verdict { status: false, reason: None, message: String::new() } },
        initialized(pod, phase, init, regular),
        ready(pod, &all, &containers),
        containers,
        Verdict::yes(),
    ];
    for (type_, verdict) in OWN.into_iter().zip(verdicts) {
        let status = if verdict.status { "True" } else { "False" };
        let unchanged = before.iter().find(|c| c.type_ == type_ && c.status == status).and_then(|c| c.last_transition_time.clone());
        all.push(PodCondition {
            type_: type_.into(),
            status: status.into(),
            reason: verdict.reason.map(Into::into),
            message: Some(verdict.message).filter(|message| !message.is_empty()),
            last_transition_time: unchanged.or(Some(Time(now))),
            last_probe_time: None,
            observed_generation: pod.metadata.generation,
        });
    }
    all
}

fn containers_ready(pod: &Pod, phase: &str, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Verdict {
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    let sidecars = init_containers(pod).iter().filter(|c| is_sidecar(c)).map(|c| (c, init));
    for (container, statuses) in sidecars.chain(spec(pod).containers.iter().map(|c| (c, regular))) {
        match statuses.iter().find(|s| s.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => Verdict::no("PodCompleted", String::new()),
        "Failed" => Verdict::no("PodFailed", String::new()),
        _ => match unready_message(&unknown, "unready", &unready) {
            message if message.is_empty() => Verdict::yes(),
            message => Verdict::no("ContainersNotReady", message),
        },
    }
}

fn ready(pod: &Pod, others: &[PodCondition], containers: &Verdict) -> Verdict {
    if !containers.status {
        return Verdict { status: false, reason: containers.reason, message: containers.message.clone() };
    }
    let messages: Vec<String> = spec(pod)
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let type_ = &gate.condition_type;
            match others.iter().find(|c| c.type_ == *type_) {
                None => Some(format!("corresponding condition of pod readiness gate \"{type_}\" does not exist.")),
                Some(c) if c.status != "True" => Some(format!("the status of pod readiness gate \"{type_}\" is not \"True\", but {}", c.status)),
                Some(_) => None,
            }
        })
        .collect();
    if messages.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", messages.join(", ")) }
}

fn initialized(pod: &Pod, phase: &str, init: &[ContainerStatus], regular: &[ContainerStatus]) -> Verdict {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in init_containers(pod) {
        match init.iter().find(|s| s.name == container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if is_sidecar(container) && status.started != Some(true) => incomplete.push(container.name.as_str()),
            Some(status) if !is_sidecar(container) && !status.ready => incomplete.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict { status: true, reason: Some("PodCompleted"), message: String::new() };
    }
    if regular.iter().any(has_started) {
        return Verdict::yes();
    }
    match unready_message(&unknown, "incomplete", &incomplete) {
        message if message.is_empty() => Verdict::yes(),
        message => Verdict::no("ContainersNotInitialized", message),
    }
}

fn unready_message(unknown: &[&str], adjective: &str, unready: &[&str]) -> String {
    let part = |adjective: &str, names: &[&str]| (!names.is_empty()).then(|| format!("containers with {adjective} status: [{}]", names.join(" ")));
    [part("unknown", unknown), part(adjective, unready)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
