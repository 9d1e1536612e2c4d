//! Identity: what makes the nth pod of a set that pod: name, labels, claims.
use crate::history::POD_REVISION;
use crate::owners;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub fn set_name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

pub fn first_ordinal(set: &StatefulSet) -> i32 {
    set.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default()
}

/// The ordinal in a pod's name, if it is the set's.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let (parent, ordinal) = pod.metadata.name.as_deref()?.rsplit_once('-')?;
    (parent == set_name(set)).then(|| ordinal.parse().ok())?
}

pub fn revision(pod: &Pod) -> &str {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(POD_REVISION)).map(String::as_str).unwrap_or_default()
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.metadata.name.as_deref().unwrap_or_default(), set_name(set))
}

fn deletes(set: &StatefulSet, of: impl Fn(&k8s_openapi::api::apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy) -> Option<&String>) -> bool {
    set.spec.persistent_volume_claim_retention_policy.as_ref().and_then(of).is_some_and(|policy| policy == "Delete")
}

/// The pod's claims. They outlive the pod, and the set too unless its retention policy says otherwise.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let owner = deletes(set, |policy| policy.when_deleted.as_ref()).then(|| OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..owners::controller_reference(set)
    });
    let templates = set.spec.volume_claim_templates.iter().flatten();
    let claim = templates.map(|template| {
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(set.spec.selector.match_labels.clone().unwrap_or_default());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(set, template, ordinal)),
                namespace: set.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: template.metadata.annotations.clone(),
                owner_references: owner.clone().map(|owner| vec![owner]),
                ..Default::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    });
    claim.collect()
}

fn is_pod(owner: &OwnerReference, name: &str) -> bool {
    owner.kind == "Pod" && owner.name == name
}

/// Whether the claim goes with a pod of this ordinal that is no more (KEP 1847).
pub fn is_of_earlier_pod(set: &StatefulSet, claim: &PersistentVolumeClaim, ordinal: i32) -> bool {
    let name = format!("{}-{ordinal}", set_name(set));
    claim.metadata.owner_references.iter().flatten().any(|owner| is_pod(owner, &name))
}

/// The owners a claim should have by the retention policy, if it has others: the set if the claim goes with it, and
/// the pod instead once that is scaled away and takes its claims along (KEP 1847).
pub fn owners_to_be(set: &StatefulSet, claim: &PersistentVolumeClaim, pod: &Pod, is_condemned: bool) -> Option<Vec<OwnerReference>> {
    if claim.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let with_pod = is_condemned && deletes(set, |policy| policy.when_scaled.as_ref());
    let with_set = !with_pod && deletes(set, |policy| policy.when_deleted.as_ref());
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let old = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut owners = old.clone();
    owners.retain(|owner| {
        (with_set || Some(&owner.uid) != set.metadata.uid.as_ref()) && (!is_pod(owner, pod_name) || (with_pod && Some(&owner.uid) == pod.metadata.uid.as_ref()))
    });
    let plain = |owner: OwnerReference| OwnerReference { controller: None, block_owner_deletion: None, ..owner };
    let mut add = |owner: OwnerReference| {
        if owners.iter().all(|other| other.uid != owner.uid) {
            owners.push(plain(owner));
        }
    };
    if with_set {
        add(owners::controller_reference(set));
    }
    if with_pod {
        add(owners::controller_reference(pod));
    }
    (owners != old).then_some(owners)
}

pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, ordinal: i32, revision: &str) -> Pod {
    let name = format!("{}-{ordinal}", set_name(set));
    let mut pod =
        crate::templates::pod_from_template(template, set.metadata.namespace.as_deref().unwrap_or_default(), set_name(set), owners::controller_reference(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.into(), name.clone());
    labels.insert(POD_INDEX.into(), ordinal.to_string());
    labels.insert(POD_REVISION.into(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone().filter(|name| !name.is_empty());
    let templates = set.spec.volume_claim_templates.as_deref().unwrap_or_default();
    if !templates.is_empty() {
        let claimed = |volume: &Volume| templates.iter().any(|template| template.metadata.name.as_deref() == Some(&volume.name));
        let mut volumes: Vec<Volume> = templates
            .iter()
            .map(|template| Volume {
                name: template.metadata.name.clone().unwrap_or_default(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name: claim_name(set, template, ordinal), read_only: None }),
                ..Default::default()
            })
            .collect();
        volumes.extend(spec.volumes.take().unwrap_or_default().into_iter().filter(|volume| !claimed(volume)));
        spec.volumes = Some(volumes);
    }
    pod
}
