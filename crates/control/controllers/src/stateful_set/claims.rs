//! Claims: the volume claims of a set's pods, and who owns them.
use super::identity::{ordinal as ordinal_of, range, set_name};
use crate::owners;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub fn name(set: &StatefulSet, template: &str, ordinal: i32) -> String {
    format!("{template}-{}-{ordinal}", set_name(set))
}

pub fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

pub fn has_templates(set: &StatefulSet) -> bool {
    !templates(set).is_empty()
}

/// Whether a claim of this name can be one of the set's.
pub fn could_be_of(set: &StatefulSet, claim: &str) -> bool {
    templates(set).iter().any(|template| {
        let rest = claim.strip_prefix(template.metadata.name.as_deref().unwrap_or_default()).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| ordinal_of(set, rest).is_some())
    })
}

/// The claims a pod of this ordinal needs. They are owned as the retention policy says.
pub fn of_pod(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let selected = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    let made = templates(set).iter().map(|template| {
        let mut claim = template.clone();
        claim.metadata.name = Some(name(set, template.metadata.name.as_deref().unwrap_or_default(), ordinal));
        claim.metadata.namespace = set.metadata.namespace.clone();
        claim.metadata.labels.get_or_insert_default().extend(selected.clone());
        claim.status = None;
        claim
    });
    made.collect()
}

/// Who should own the claims of a pod, as references to set and pod.
struct Owners {
    set: bool,
    pod: bool,
}

fn wanted(set: &StatefulSet, ordinal: i32) -> Owners {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let deletes = |when: Option<&String>| when.is_some_and(|what| what == "Delete");
    let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let scaled_down = !range(set).contains(&ordinal);
    Owners { set: when_deleted && !(when_scaled && scaled_down), pod: when_scaled && scaled_down }
}

/// The claim with its owners as the retention policy wants them; `None` when they are so already.
/// `pod` is the pod that uses it, if it is there.
pub fn with_owners(set: &StatefulSet, claim: &PersistentVolumeClaim, ordinal: i32, pod: Option<&Pod>) -> Option<PersistentVolumeClaim> {
    let had = claim.metadata.owner_references.clone().unwrap_or_default();
    // Somebody else manages it.
    if owners::controller_of(&claim.metadata).is_some_and(|owner| Some(&owner.uid) != set.metadata.uid.as_ref() && !is_pod(owner)) {
        return None;
    }
    let wanted = wanted(set, ordinal);
    let pod_name = format!("{}-{ordinal}", set_name(set));
    let mut references: Vec<OwnerReference> =
        had.iter().filter(|owner| !(owner.kind == "StatefulSet" && owner.name == set_name(set)) && !(is_pod(owner) && owner.name == pod_name)).cloned().collect();
    if wanted.set {
        references.push(reference(set));
    }
    if let Some(pod) = pod.filter(|_| wanted.pod) {
        references.push(reference(pod));
    }
    let same = references.len() == had.len() && references.iter().all(|wanted| had.contains(wanted));
    (!same).then(|| {
        let mut claim = claim.clone();
        claim.metadata.owner_references = Some(references);
        claim
    })
}

/// Owned by an earlier pod of this name: it is about to be collected, and no pod may use it.
pub fn is_stale(claim: &PersistentVolumeClaim, pod: Option<&Pod>, ordinal: i32, set: &StatefulSet) -> bool {
    let pod_name = format!("{}-{ordinal}", set_name(set));
    let uid = pod.and_then(|pod| pod.metadata.uid.as_ref());
    claim.metadata.owner_references.iter().flatten().any(|owner| is_pod(owner) && owner.name == pod_name && Some(&owner.uid) != uid)
}

fn is_pod(owner: &OwnerReference) -> bool {
    owner.kind == "Pod" && owner.api_version == "v1"
}

/// Owned, so that it goes with its owner, and managed by it.
fn reference<K: Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    OwnerReference { block_owner_deletion: Some(true), ..owners::controller_reference(owner) }
}
