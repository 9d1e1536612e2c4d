//! Terms of inter-pod affinity: which pods a term means, and over which part of the nodes.
use crate::PodInfo;
use crate::snapshot::NamespaceLabels;
use api_meta::label_selector::{Operator, Requirement};
use api_meta::{ClusterName, LabelSelector};
use controller_kit::selector;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub topology_key: String,
    pods: LabelSelector,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
}

impl Term {
    /// `None` when the selector can't be understood or selects nothing: such a term matches no pod.
    pub fn new(term: &PodAffinityTerm, owner: &Pod) -> Option<Self> {
        let of = term.label_selector.as_ref()?;
        let labels = owner.metadata.labels.as_ref();
        let mut requirements = selector(of).ok()?.requirements().to_vec();
        requirements.extend(of_own_labels(term.match_label_keys.as_ref(), labels, Operator::In));
        requirements.extend(of_own_labels(term.mismatch_label_keys.as_ref(), labels, Operator::NotIn));
        let namespace_selector = match &term.namespace_selector {
            Some(of) => Some(selector(of).ok()?),
            None => None,
        };
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.extend(owner.metadata.namespace.clone());
        }
        Some(Self { topology_key: term.topology_key.clone(), pods: LabelSelector::from_requirements(requirements), namespaces, namespace_selector })
    }

    /// Whether what it means depends on the labels of namespaces.
    pub fn looks_at_namespaces(&self) -> bool {
        self.namespace_selector.is_some()
    }

    /// Whether the term of an owner in `cluster` means this pod. Clusters never see each other's pods.
    pub fn matches(&self, cluster: &ClusterName, pod: &PodInfo, namespaces: &NamespaceLabels) -> bool {
        if *cluster != pod.key.cluster || !self.pods.matches(&pod.pod.metadata.labels) {
            return false;
        }
        if self.namespaces.iter().any(|namespace| **namespace == *pod.key.namespace) {
            return true;
        }
        self.namespace_selector.as_ref().is_some_and(|selector| selector.is_everything() || selector.matches(namespaces.of(cluster, &pod.key.namespace)))
    }
}

/// Requirements that a label be (or not be) as the owner's own.
pub fn of_own_labels(keys: Option<&Vec<String>>, labels: Option<&BTreeMap<String, String>>, operator: Operator) -> Vec<Requirement> {
    let own = keys.into_iter().flatten().filter_map(|key| Some((key, labels?.get(key)?)));
    own.map(|(key, value)| Requirement { key: key.clone(), operator: operator.clone(), values: vec![value.clone()] }).collect()
}
