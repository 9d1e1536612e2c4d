//! ControllerRevisions: the history of a StatefulSet's or DaemonSet's pod template, and which entry is now.
use crate::{owners, templates};
use controller_kit::{Error, Kind, ObjectKey, Objects, Preconditions};
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};
use std::sync::Arc;

/// On revisions and pods: which revision a pod was made of.
pub const REVISION_LABEL: &str = "controller-revision-hash";
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// What to do so that the history ends with the template of now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Create(Box<ControllerRevision>),
    /// An older entry is the newest again, with this number.
    Renumber(Arc<ControllerRevision>, i64),
}

/// The entry of the template as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    pub revision: Arc<ControllerRevision>,
    pub step: Option<Step>,
}

pub fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

pub fn of_pod(metadata: &ObjectMeta) -> &str {
    metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_LABEL)).map(String::as_str).unwrap_or_default()
}

fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or_default()
}

/// The template as a history entry holds it: a patch that puts it back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("API types encode");
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template a history entry holds.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.get("spec")?.get("template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Whether an entry holds this template. Compared as typed values, so that another order or form of the same does not count.
pub fn holds(revision: &ControllerRevision, of_now: &PodTemplateSpec) -> bool {
    template(revision).is_some_and(|held| held == *of_now)
}

/// Sorts a history, the oldest first.
pub fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by(|a, b| {
        let made = |r: &ControllerRevision| r.metadata.creation_timestamp.as_ref().map(|time| time.0);
        number(a).cmp(&number(b)).then_with(|| made(a).cmp(&made(b))).then_with(|| name(a).cmp(name(b)))
    });
}

/// Finds the entry of `of_now` in a sorted history, or makes it.
///
/// `labels` are what revisions of this owner are selected by; `collisions` the owner's count of name clashes.
pub fn current<K: Metadata<Ty = ObjectMeta>>(
    owner: &K,
    of_now: &PodTemplateSpec,
    history: &[Arc<ControllerRevision>],
    collisions: Option<i32>,
    with_hash_label: bool,
) -> Current {
    let next = history.last().map(|last| number(last)).unwrap_or_default() + 1;
    if let Some(found) = history.iter().rev().find(|revision| holds(revision, of_now)) {
        let is_last = history.last().is_some_and(|last| Arc::ptr_eq(last, found));
        let step = (!is_last).then(|| Step::Renumber(found.clone(), next));
        return Current { revision: found.clone(), step };
    }
    let metadata = owner.metadata();
    let hash = templates::hash(of_now, collisions.filter(|count| *count > 0));
    let mut labels = of_now.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    labels.insert(if with_hash_label { HASH_LABEL } else { REVISION_LABEL }.to_owned(), hash.clone());
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    let owner_name = metadata.name.as_deref().unwrap_or_default();
    // A name of at most 253: the owner's is cut to leave room for the hash.
    let prefix: String = owner_name.chars().take(223).collect();
    let revision = Arc::new(ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{prefix}-{hash}")),
            namespace: metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|all| !all.is_empty()),
            owner_references: Some(vec![owners::controller_reference(owner)]),
            ..Default::default()
        },
        data: RawExtension(data(of_now)),
        revision: Some(next),
    });
    Current { step: Some(Step::Create(Box::new((*revision).clone()))), revision }
}

/// The oldest entries beyond `limit` that no one lives by. `live` are the names of entries in use.
pub fn superfluous(history: &[Arc<ControllerRevision>], live: &[&str], limit: Option<i32>) -> Vec<Arc<ControllerRevision>> {
    let dead: Vec<&Arc<ControllerRevision>> = history.iter().filter(|revision| !live.contains(&name(revision))).collect();
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or_default();
    dead.iter().take(dead.len().saturating_sub(limit)).map(|revision| Arc::clone(revision)).collect()
}

/// Takes a step. `Ok(false)`: the new entry's name belongs to another template; count a collision and try again.
pub async fn take<O: Kind>(revisions: &Objects<ControllerRevision>, key: &ObjectKey, owner: &O, step: &Step) -> Result<bool, Error> {
    match step {
        Step::Create(revision) => match revisions.create(&key.cluster, revision).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_already_exists() => {
                let found = revisions.fresh(&ObjectKey::of(&key.cluster, &revision.metadata)).await?;
                let uid = owner.metadata().uid.as_deref().unwrap_or_default();
                let ours = found.is_some_and(|found| found.data == revision.data && owners::is_controlled_by(&found.metadata, uid));
                if ours { Err(Error::NotYet(format!("controller revision {:?} exists already", name(revision)))) } else { Ok(false) }
            }
            Err(error) => Err(error),
        },
        Step::Renumber(revision, number) => {
            let patch = json!({"revision": number});
            let key = ObjectKey::of(&key.cluster, &revision.metadata);
            revisions.patch(&key, "", &patch, &Preconditions::exactly(&revision.metadata)).await.map(|_| true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::StatefulSet;

    fn of(image: &str) -> PodTemplateSpec {
        serde_json::from_value(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}})).unwrap()
    }

    #[test]
    fn an_old_template_is_renumbered_and_a_new_one_added() {
        let mut owner = StatefulSet::default();
        owner.metadata.name = Some("web".into());
        let mut history = Vec::new();
        for image in ["one", "two"] {
            let current = current(&owner, &of(image), &history, None, true);
            assert!(matches!(current.step, Some(Step::Create(_))));
            history.push(current.revision);
        }
        assert_eq!(history.iter().map(|r| number(r)).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(template(&history[0]), Some(of("one")));
        assert_eq!(current(&owner, &of("two"), &history, None, true).step, None);
        assert_eq!(current(&owner, &of("one"), &history, None, true).step, Some(Step::Renumber(history[0].clone(), 3)));
        assert_ne!(name(&current(&owner, &of("three"), &history, Some(1), true).revision), name(&current(&owner, &of("three"), &history, None, true).revision));
    }

    #[test]
    fn the_oldest_unused_go_first() {
        let entry = |n: i64| Arc::new(ControllerRevision { metadata: ObjectMeta { name: Some(format!("r{n}")), ..Default::default() }, revision: Some(n), ..Default::default() });
        let history: Vec<_> = (1..=5).map(entry).collect();
        let names = |limit| superfluous(&history, &["r1", "r5"], Some(limit)).iter().map(|r| name(r).to_owned()).collect::<Vec<_>>();
        assert_eq!((names(1), names(9)), (vec!["r2".to_owned(), "r3".to_owned()], vec![]));
    }
}
