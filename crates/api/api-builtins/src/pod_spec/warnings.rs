//! What is accepted in a PodSpec but hardly meant: upstream's warnings to the client.
use super::legacy_volumes::DEPRECATED;
use crate::check::At;
use crate::fields::Read;
use api_meta::Quantity;
use serde_json::Value;
use std::collections::BTreeSet;

/// The warnings about the PodSpec at this path of an object.
pub fn pod_spec(object: &Value, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let root = At::root(object);
    let spec = root.field(path);
    let secrets = spec.field("imagePullSecrets");
    for secret in secrets.items().filter(|secret| secret["name"].text().is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", secret.path()));
    }
    let selector = spec.field("nodeSelector");
    for (label, at) in selector.entries() {
        if let Some((_, since, instead)) = OLD_LABELS.iter().find(|(old, ..)| *old == label) {
            warnings.push(format!("{}: deprecated since {since}; use {instead:?} instead", at.path()));
        }
    }
    let volumes = spec.field("volumes");
    for volume in volumes.items() {
        for (kind, since) in DEPRECATED.iter().filter(|(kind, _)| volume[*kind].is_set()) {
            warnings.push(format!("{}: {since}", volume.field(kind).path()));
        }
    }
    let grace = spec.field("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|seconds| seconds < 0) {
        warnings.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", grace.path()));
    }
    for list in ["initContainers", "containers"] {
        let list = spec.field(list);
        for container in list.items() {
            self::container(&mut warnings, &container);
        }
    }
    warnings
}

/// Labels of nodes that have other names by now.
const OLD_LABELS: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

fn container(warnings: &mut Vec<String>, container: &At) {
    let (variables, mut seen) = (container.field("env"), BTreeSet::new());
    for variable in variables.items() {
        let name = variable.value()["name"].text();
        if !seen.insert(name) {
            warnings.push(format!("{}: hides previous definition of {name:?}, which may be dropped when using apply", variable.path()));
        }
    }
    let resources = container.field("resources");
    for kind in ["limits", "requests"] {
        let amounts = resources.field(kind);
        for (name, amount) in amounts.entries() {
            let fraction = Quantity::parse(amount.text()).is_ok_and(|quantity| !quantity.is_integer());
            if matches!(name, "memory" | "ephemeral-storage") && fraction {
                warnings.push(format!("{}: fractional byte value {:?} is invalid, must be an integer", amount.path(), amount.text()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_hardly_meant_is_named() {
        let pod = json!({"spec": {"terminationGracePeriodSeconds": -1, "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "volumes": [{"name": "v", "rbd": {}}], "containers": [{
            "env": [{"name": "A"}, {"name": "A"}],
            "resources": {"limits": {"memory": "128m", "cpu": "500m"}},
        }]}});
        assert_eq!(
            pod_spec(&pod, "spec"),
            [
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"128m\" is invalid, must be an integer",
            ]
        );
    }
}
