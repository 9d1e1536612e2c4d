//! History: ControllerRevisions, the templates a StatefulSet or DaemonSet has had.
use crate::{owners, templates};
use controller_kit::Kind;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};
use std::sync::Arc;

/// The label of a StatefulSet's revision.
pub const HASH: &str = "controller.kubernetes.io/hash";
/// The label of pods that tells their revision: its name for a StatefulSet's, its hash for a DaemonSet's, whose
/// revisions carry it too.
pub const POD_REVISION: &str = "controller-revision-hash";

/// What must be done so that the current template has the newest revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Create(Box<ControllerRevision>),
    /// An older revision is the current one again.
    Renumber {
        revision: Arc<ControllerRevision>,
        number: i64,
    },
}

/// A patch that puts the template in place, as upstream stores it.
fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("API types encode");
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template a revision stands for.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The order revisions came in.
pub fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by(|a, b| {
        let key = |r: &ControllerRevision| (r.revision, r.metadata.creation_timestamp.clone(), r.metadata.name.clone());
        key(a).cmp(&key(b))
    });
}

pub fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

/// The revision of this template: which one it is (or will be), and what must be done for it.
/// `revisions` are sorted.
pub fn update_revision<O: Kind>(
    owner: &O,
    template: &PodTemplateSpec,
    hash_label: &str,
    collisions: Option<i32>,
    revisions: &[Arc<ControllerRevision>],
) -> (Arc<ControllerRevision>, Option<Step>) {
    let number = revisions.last().and_then(|last| last.revision).unwrap_or_default() + 1;
    let equal = revisions.iter().rposition(|revision| template_of(revision).as_ref() == Some(template));
    match equal {
        Some(at) if at + 1 == revisions.len() => (revisions[at].clone(), None),
        Some(at) => (revisions[at].clone(), Some(Step::Renumber { revision: revisions[at].clone(), number })),
        None => {
            let metadata = owner.metadata();
            let hash = templates::hash(template, collisions);
            let mut labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
            labels.insert(hash_label.to_owned(), hash.clone());
            let new = ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(format!("{}-{hash}", metadata.name.as_deref().unwrap_or_default())),
                    namespace: metadata.namespace.clone(),
                    labels: Some(labels),
                    // `kubectl rollout history` reads the cause of a change here.
                    annotations: metadata.annotations.clone(),
                    owner_references: Some(vec![owners::controller_reference(owner)]),
                    ..Default::default()
                },
                data: RawExtension(data_of(template)),
                revision: Some(number),
            };
            (Arc::new(new.clone()), Some(Step::Create(Box::new(new))))
        }
    }
}

/// Revisions nobody uses, beyond the limit, the oldest first.
pub fn excess(revisions: &[Arc<ControllerRevision>], used: impl Fn(&ControllerRevision) -> bool, limit: Option<i32>) -> Vec<Arc<ControllerRevision>> {
    let mut unused: Vec<Arc<ControllerRevision>> = revisions.iter().filter(|revision| !used(revision)).cloned().collect();
    unused.truncate(unused.len().saturating_sub(usize::try_from(limit.unwrap_or(10)).unwrap_or_default()));
    unused
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::StatefulSet;

    #[test]
    fn a_template_that_returns_is_renumbered_not_made_anew() {
        let owner = StatefulSet { metadata: ObjectMeta { name: Some("web".into()), ..Default::default() }, ..Default::default() };
        let template = |image: &str| serde_json::from_value::<PodTemplateSpec>(json!({"spec": {"containers": [{"name": "c", "image": image}]}})).unwrap();
        let revision = |image: &str, all: &[Arc<ControllerRevision>]| update_revision(&owner, &template(image), HASH, None, all);
        let (one, step) = revision("one", &[]);
        assert!(matches!(step, Some(Step::Create(_))) && template_of(&one) == Some(template("one")));
        let (two, _) = revision("two", std::slice::from_ref(&one));
        assert_eq!((one.revision, two.revision), (Some(1), Some(2)));
        assert_eq!(revision("two", &[one.clone(), two.clone()]), (two.clone(), None));
        let (back, step) = revision("one", &[one.clone(), two.clone()]);
        assert_eq!((back, step), (one.clone(), Some(Step::Renumber { revision: one.clone(), number: 3 })));
        assert_eq!(excess(&[one.clone(), two.clone()], |r| *r == *two, Some(0)), [one]);
    }
}
