//! Node selectors: which nodes a nodeSelector, a node affinity or a volume's affinity takes.
use api_meta::label_selector::{Operator, Requirement};
use api_meta::{LabelSelector, Labels};
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use std::collections::BTreeMap;

/// A term ready to be matched: requirements on labels and on the node's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeTerm {
    labels: LabelSelector,
    names: LabelSelector,
    /// A term without requirements, or with one nobody understands, takes no node.
    void: bool,
}

struct NameField<'a>(&'a str);

impl Labels for NameField<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        (key == "metadata.name").then_some(self.0)
    }
}

fn requirements(list: Option<&Vec<NodeSelectorRequirement>>) -> Option<LabelSelector> {
    let parse = |requirement: &NodeSelectorRequirement| {
        let operator = match requirement.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            _ => return None,
        };
        Some(Requirement { key: requirement.key.clone(), operator, values: requirement.values.clone().unwrap_or_default() })
    };
    Some(LabelSelector::from_requirements(list.into_iter().flatten().map(parse).collect::<Option<Vec<_>>>()?))
}

impl NodeTerm {
    pub fn new(term: &NodeSelectorTerm) -> Self {
        match (requirements(term.match_expressions.as_ref()), requirements(term.match_fields.as_ref())) {
            (Some(labels), Some(names)) => {
                let void = labels.is_everything() && names.is_everything();
                Self { labels, names, void }
            }
            _ => Self { labels: LabelSelector::everything(), names: LabelSelector::everything(), void: true },
        }
    }

    pub fn matches(&self, name: &str, labels: &(impl Labels + ?Sized)) -> bool {
        !self.void && self.labels.matches(labels) && self.names.matches(&NameField(name))
    }

    /// The nodes it is pinned to by name, if it is.
    pub fn pinned(&self) -> Option<&[String]> {
        self.names.requirements().iter().find(|r| r.key == "metadata.name" && r.operator == Operator::In).map(|r| r.values.as_slice())
    }
}

/// Any of the selector's terms must match.
pub fn terms(selector: &NodeSelector) -> Vec<NodeTerm> {
    selector.node_selector_terms.iter().map(NodeTerm::new).collect()
}

/// What a pod requires of its node: its nodeSelector and required node affinity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredNodes {
    labels: BTreeMap<String, String>,
    terms: Option<Vec<NodeTerm>>,
}

impl RequiredNodes {
    pub fn of(spec: &PodSpec) -> Self {
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        Self { labels: spec.node_selector.clone().unwrap_or_default(), terms: required.map(terms) }
    }
    pub fn is_any(&self) -> bool {
        self.labels.is_empty() && self.terms.is_none()
    }
    pub fn matches(&self, name: &str, labels: &(impl Labels + ?Sized)) -> bool {
        self.labels.iter().all(|(key, value)| labels.label(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(name, labels)))
    }
    /// The only nodes it can be on, when every term names them.
    pub fn pinned(&self) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        for term in self.terms.as_ref()? {
            names.extend(term.pinned()?.iter().map(String::as_str));
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn required(spec: Value) -> RequiredNodes {
        let mut value = json!({"containers": []});
        value.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        RequiredNodes::of(&serde_json::from_value(value).unwrap())
    }

    fn affinity(terms: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    }

    #[test]
    fn selectors_fields_and_numbers_match_as_documented() {
        let labels: BTreeMap<String, String> = [("disk".into(), "ssd".into()), ("cores".into(), "8".into())].into();
        let one = |key: &str, operator: &str, values: &[&str]| json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
        for (spec, want) in [
            (json!({}), true),
            (json!({"nodeSelector": {"disk": "ssd"}}), true),
            (json!({"nodeSelector": {"disk": "hdd"}}), false),
            (affinity(one("cores", "Gt", &["7"])), true),
            (affinity(one("cores", "Gt", &["8"])), false),
            (affinity(one("cores", "Lt", &["9"])), true),
            (affinity(one("disk", "NotIn", &["ssd"])), false),
            (affinity(one("other", "DoesNotExist", &[])), true),
            (affinity(json!([])), false),
            (affinity(json!([{}])), false),
            (affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])), true),
            (
                affinity(
                    json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}, {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]),
                ),
                true,
            ),
        ] {
            assert_eq!(required(spec.clone()).matches("n1", &labels), want, "{spec}");
        }
        let pinned = required(affinity(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}])));
        assert_eq!(pinned.pinned(), Some(vec!["n2"]));
    }
}
