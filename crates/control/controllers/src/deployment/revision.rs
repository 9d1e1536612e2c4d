//! Revisions: which ReplicaSet is of which template and in which order they came.
use super::rollout::{DESIRED_REPLICAS, MAX_REPLICAS, Rollout, Set};
use crate::{owners, templates};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const HASH_LABEL: &str = "pod-template-hash";
/// What a ReplicaSet does not take over from its deployment's annotations.
const OWN_ANNOTATIONS: [&str; 6] =
    ["kubectl.kubernetes.io/last-applied-configuration", REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, "deprecated.deployment.rollback.to"];
const HISTORY_LIMIT: usize = 2000;

/// Whether a set's template is the deployment's, but for the hash label.
pub fn same(of_set: Option<&PodTemplateSpec>, of_deployment: &PodTemplateSpec) -> bool {
    of_set.is_some_and(|of_set| without_hash(of_set) == without_hash(of_deployment))
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let metadata = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(HASH_LABEL);
        if labels.is_empty() {
            metadata.labels = None;
        }
    }
    metadata.creation_timestamp = None;
    template
}

fn revision_of(set: &Set) -> i64 {
    set.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The old sets by revision, the oldest first.
pub fn by_revision(sets: &[Set]) -> Vec<&Set> {
    let mut sorted: Vec<&Set> = sets.iter().collect();
    sorted.sort_by_key(|set| revision_of(set));
    sorted
}

impl Rollout {
    /// Makes the new set the latest revision, with the deployment's annotations; creates it if asked to.
    /// Gives the revision the deployment should carry, and whether the set is made just now.
    pub fn update_new(&mut self, create: bool) -> (Option<String>, bool) {
        let revision = self.old.iter().map(revision_of).max().unwrap_or_default() + 1;
        let limits = self.limits.clone();
        let min_ready_seconds = self.deployment.spec.min_ready_seconds;
        if let Some(new) = &mut self.new {
            annotate(new, &self.deployment, revision);
            new.now.spec.min_ready_seconds = min_ready_seconds;
            return (new.annotation(REVISION).map(str::to_owned), false);
        }
        if !create {
            return (None, false);
        }
        let mut new = Set { was: None, now: new_set(&self.deployment) };
        let replicas = self.wanted_of_new(0);
        annotate(&mut new, &self.deployment, revision);
        new.scale(replicas, &limits);
        self.new = Some(new);
        (Some(revision.to_string()), true)
    }
}

fn annotate(set: &mut Set, deployment: &Deployment, revision: i64) {
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN_ANNOTATIONS.contains(&name.as_str()) {
            set.annotate(name, value.clone());
        }
    }
    let had = set.annotation(REVISION).map(str::to_owned);
    if revision_of(set) >= revision {
        return;
    }
    set.annotate(REVISION, revision.to_string());
    if let Some(had) = had {
        let mut history: Vec<String> = set.annotation(REVISION_HISTORY).unwrap_or_default().split(',').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        history.push(had);
        while history.len() > 1 && history.join(",").len() > HISTORY_LIMIT {
            history.remove(0);
        }
        set.annotate(REVISION_HISTORY, history.join(","));
    }
}

/// A ReplicaSet of the deployment's template, named after it and the template's hash.
fn new_set(deployment: &Deployment) -> ReplicaSet {
    let spec = deployment.spec.clone();
    let hash = templates::hash(&spec.template, deployment.status.as_ref().and_then(|status| status.collision_count));
    let mut template = spec.template;
    template.metadata.get_or_insert_default().labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())),
            namespace: deployment.metadata.namespace.clone(),
            labels: template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()),
            owner_references: Some(vec![owners::controller_reference(deployment)]),
            ..Default::default()
        },
        spec: ReplicaSetSpec { replicas: Some(0), min_ready_seconds: spec.min_ready_seconds, selector, template: Some(template) },
        status: None,
    }
}
