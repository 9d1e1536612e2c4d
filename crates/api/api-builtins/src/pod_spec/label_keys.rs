//! `matchLabelKeys`: what a pod's own labels add to its selectors when it is created.
use crate::fields::{Fill, Read};
use serde_json::{Value, json};

/// Adds, for each key the pod has a label of, a requirement to the selector beside it.
pub fn resolve(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let Some(spec) = pod.child("spec") else { return };
    if let Some(affinity) = spec.child("affinity") {
        for kind in ["podAffinity", "podAntiAffinity"] {
            let Some(pods) = affinity.child(kind) else { continue };
            pods.each("requiredDuringSchedulingIgnoredDuringExecution").for_each(|term| add(term, &labels));
            for term in pods.each("preferredDuringSchedulingIgnoredDuringExecution") {
                if let Some(term) = term.child("podAffinityTerm") {
                    add(term, &labels);
                }
            }
        }
    }
    spec.each("topologySpreadConstraints").for_each(|constraint| add(constraint, &labels));
}

fn add(term: &mut Value, labels: &Value) {
    if term["labelSelector"].is_null() {
        return;
    }
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys: Vec<String> = term[keys].texts().map(str::to_owned).collect();
        for key in keys {
            if let Some(value) = labels[&key].as_str() {
                let mut expressions = term["labelSelector"]["matchExpressions"].list().to_vec();
                expressions.push(json!({"key": key, "operator": operator, "values": [value]}));
                term["labelSelector"].put("matchExpressions", expressions);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_the_pod_has_become_requirements() {
        let mut pod = json!({
            "metadata": {"labels": {"hash": "1"}},
            "spec": {"topologySpreadConstraints": [{"labelSelector": {}, "matchLabelKeys": ["hash", "other"]}, {"matchLabelKeys": ["hash"]}]},
        });
        resolve(&mut pod);
        let constraints = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(constraints[0]["labelSelector"]["matchExpressions"], json!([{"key": "hash", "operator": "In", "values": ["1"]}]));
        assert!(constraints[1].get("labelSelector").is_none());
    }
}
