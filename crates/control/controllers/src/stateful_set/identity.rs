//! Identity: a pod's ordinal, and what follows from it: name, host, labels, claims.
use super::claims;
use crate::controller_revisions::{self, REVISION_LABEL};
use crate::{owners, pods, templates};
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, Volume};

pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub fn set_name(set: &StatefulSet) -> &str {
    set.metadata.name.as_deref().unwrap_or_default()
}

pub fn spec(set: &StatefulSet) -> StatefulSetSpec {
    set.spec.clone().unwrap_or_default()
}

/// The ordinal in a name `{set}-{ordinal}`; `None` for any other name.
pub fn ordinal(set: &StatefulSet, name: &str) -> Option<i32> {
    let digits = name.strip_prefix(set_name(set))?.strip_prefix('-')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// The first ordinal, and the one after the last.
pub fn range(set: &StatefulSet) -> std::ops::Range<i32> {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|spec| spec.ordinals.as_ref()).and_then(|ordinals| ordinals.start).unwrap_or_default();
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    start..start.saturating_add(replicas)
}

/// The pod of this ordinal, made of a revision's template.
pub fn new_pod(set: &StatefulSet, revision: &ControllerRevision, ordinal: i32) -> Pod {
    let spec = spec(set);
    let template = controller_revisions::template(revision).unwrap_or_else(|| spec.template.clone());
    let mut pod = templates::pod_from_template(&template, set.metadata.namespace.as_deref().unwrap_or_default(), set_name(set), owners::controller_reference(set));
    let name = format!("{}-{ordinal}", set_name(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    pod = identified(set, &pod);
    pod.metadata.labels.get_or_insert_default().insert(REVISION_LABEL.to_owned(), controller_revisions::name(revision).to_owned());
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name.clone());
    pod_spec.subdomain = spec.service_name.filter(|name| !name.is_empty());
    let templates = spec.volume_claim_templates.unwrap_or_default();
    let mut volumes: Vec<Volume> = templates.iter().map(|template| claim_volume(set, template.metadata.name.as_deref().unwrap_or_default(), ordinal)).collect();
    let others = pod_spec.volumes.take().unwrap_or_default();
    volumes.extend(others.into_iter().filter(|other| templates.iter().all(|template| template.metadata.name.as_deref() != Some(&other.name))));
    pod_spec.volumes = Some(volumes).filter(|all| !all.is_empty());
    pod
}

fn claim_volume(set: &StatefulSet, template: &str, ordinal: i32) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claims::name(set, template, ordinal), read_only: Some(false) };
    Volume { name: template.to_owned(), persistent_volume_claim: Some(source), ..Default::default() }
}

/// The pod with the labels its name calls for.
pub fn identified(set: &StatefulSet, pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    let name = pods::name(&pod).to_owned();
    let ordinal = ordinal(set, &name).map(|ordinal| ordinal.to_string()).unwrap_or_default();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_NAME.to_owned(), name);
    labels.insert(POD_INDEX.to_owned(), ordinal);
    pod
}
