//! Placement: on which nodes a DaemonSet's pods belong.
use controller_kit::node_selector::RequiredNodes;
use controller_kit::tolerations::any_tolerates;
use k8s_openapi::api::core::v1::{Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodTemplateSpec, Toleration};

/// What daemon pods bear besides what their template says: they belong to the node whatever its state.
fn own_tolerations(host_network: bool) -> Vec<Toleration> {
    let bear = |key: &str, effect: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".into()),
        effect: Some(effect.into()),
        ..Default::default()
    };
    let mut all = vec![
        bear("not-ready", "NoExecute"),
        bear("unreachable", "NoExecute"),
        bear("disk-pressure", "NoSchedule"),
        bear("memory-pressure", "NoSchedule"),
        bear("pid-pressure", "NoSchedule"),
        bear("unschedulable", "NoSchedule"),
    ];
    if host_network {
        all.push(bear("network-unavailable", "NoSchedule"));
    }
    all
}

/// The template with the tolerations of daemon pods.
pub fn daemon_template(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let spec = template.spec.get_or_insert_default();
    let own = own_tolerations(spec.host_network.unwrap_or_default());
    let tolerations = spec.tolerations.get_or_insert_default();
    for toleration in own {
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    template
}

/// Whether a pod of the template should be started on the node, and whether one there may stay.
pub fn belongs(template: &PodTemplateSpec, node: &Node) -> (bool, bool) {
    let Some(spec) = &template.spec else { return (false, false) };
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let named = spec.node_name.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == name);
    if !named || !RequiredNodes::of(spec).matches(name, &node.metadata.labels) {
        return (false, false);
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut untolerated = taints.filter(|taint| taint.effect != "PreferNoSchedule" && !any_tolerates(tolerations, taint)).peekable();
    if untolerated.peek().is_none() {
        return (true, true);
    }
    (false, untolerated.all(|taint| taint.effect != "NoExecute"))
}

/// Pins the pod to the node by name; the scheduler then checks all else.
pub fn pin(pod: &mut Pod, node: &str) {
    let term = NodeSelectorTerm {
        match_fields: Some(vec![NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: Some(vec![node.to_owned()]) }]),
        match_expressions: None,
    };
    let affinity = pod.spec.get_or_insert_default().affinity.get_or_insert_default();
    let node_affinity = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    node_affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node a daemon pod is on, or is pinned to.
pub fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.clone().filter(|name| !name.is_empty()) {
        return Some(name);
    }
    RequiredNodes::of(spec).pinned().and_then(|names| names.first().map(|name| (*name).to_owned()))
}
