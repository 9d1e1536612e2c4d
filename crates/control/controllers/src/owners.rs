//! Owners: controller references, and which objects a controller may claim by its selector.
use api_meta::LabelSelector;
use controller_kit::{Change, Error, Kind, ObjectKey, Objects, Preconditions};
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use std::sync::Arc;

/// The reference to the object's one managing controller.
pub fn controller_of(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub fn is_controlled_by(metadata: &ObjectMeta, uid: &str) -> bool {
    controller_of(metadata).is_some_and(|owner| owner.uid == uid)
}

/// A reference that makes `owner` the managing controller of what carries it.
pub fn controller_reference<K: Metadata<Ty = ObjectMeta>>(owner: &K) -> OwnerReference {
    let metadata = owner.metadata();
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub const BY_CONTROLLER: &str = "controller";

/// Index: the controller's uid, or `orphan:{namespace}` for objects without a controller.
pub fn by_controller<K: Metadata<Ty = ObjectMeta>>(object: &K) -> Vec<String> {
    let metadata = object.metadata();
    match controller_of(metadata) {
        Some(owner) => vec![owner.uid.clone()],
        None => vec![orphans_of(metadata.namespace.as_deref().unwrap_or_default())],
    }
}

fn orphans_of(namespace: &str) -> String {
    format!("orphan:{namespace}")
}

/// An owner's own objects.
pub fn own<K: Kind>(objects: &Objects<K>, owner: &ObjectKey, uid: &str) -> Vec<Arc<K>> {
    objects.by_index(BY_CONTROLLER, &owner.cluster, uid)
}

/// The objects of the owner's namespace that nobody controls.
pub fn orphans<K: Kind>(objects: &Objects<K>, owner: &ObjectKey) -> Vec<Arc<K>> {
    objects.by_index(BY_CONTROLLER, &owner.cluster, &orphans_of(&owner.namespace))
}

/// What an owner may claim or must release: its own objects, and the namespace's orphans.
pub fn candidates<K: Kind>(objects: &Objects<K>, key: &ObjectKey, uid: &str) -> Vec<Arc<K>> {
    let mut found = own(objects, key, uid);
    found.extend(orphans(objects, key));
    found
}

/// How the candidates split; `adopt` and `release` name those to be written.
pub struct Claims<K> {
    /// Those that are the owner's, the adopted included.
    pub owned: Vec<Arc<K>>,
    pub adopt: Vec<Arc<K>>,
    pub release: Vec<Arc<K>>,
}

/// Upstream's ControllerRefManager: matching orphans are adopted, own objects that match no longer are
/// released; an owner being deleted does neither.
pub fn claim<K: Metadata<Ty = ObjectMeta>>(owner: &ObjectMeta, selector: &LabelSelector, candidates: &[Arc<K>]) -> Claims<K> {
    let uid = owner.uid.as_deref().unwrap_or_default();
    let going = owner.deletion_timestamp.is_some();
    let mut claims = Claims { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for candidate in candidates {
        let metadata = candidate.metadata();
        let matches = selector.matches(&metadata.labels);
        match controller_of(metadata) {
            Some(controller) if controller.uid != uid => {}
            Some(_) if matches => claims.owned.push(candidate.clone()),
            Some(_) if !going => claims.release.push(candidate.clone()),
            Some(_) => {}
            None if !matches || going || metadata.deletion_timestamp.is_some() => {}
            None => {
                claims.adopt.push(candidate.clone());
                claims.owned.push(candidate.clone());
            }
        }
    }
    claims
}

/// Makes `owner` the controller of an orphan, after asking the API whether the owner is still there.
pub async fn adopt<O: Kind, K: Kind>(owners: &Objects<O>, owner: &ObjectKey, uid: &str, objects: &Objects<K>, object: &K) -> Result<(), Error> {
    let fresh = owners.fresh(owner).await?.filter(|fresh| fresh.metadata().uid.as_deref() == Some(uid));
    let Some(fresh) = fresh.filter(|fresh| fresh.metadata().deletion_timestamp.is_none()) else {
        return Err(Error::NotYet(format!("{} {owner} is gone or going and adopts nothing", O::KIND)));
    };
    let metadata = object.metadata();
    let mut references = metadata.owner_references.clone().unwrap_or_default();
    references.push(controller_reference(&fresh));
    let patch = json!({"metadata": {"ownerReferences": references}});
    objects.patch(&ObjectKey::of(&owner.cluster, metadata), "", &patch, &Preconditions::exactly(metadata)).await?;
    Ok(())
}

/// Takes the owner's reference off an object. What is gone or has changed hands is no error.
pub async fn release<K: Kind>(owner: &ObjectKey, uid: &str, objects: &Objects<K>, object: &K) -> Result<(), Error> {
    let metadata = object.metadata();
    let mut references = metadata.owner_references.clone().unwrap_or_default();
    references.retain(|reference| reference.uid != uid);
    let patch = json!({"metadata": {"ownerReferences": if references.is_empty() { json!(null) } else { json!(references) }}});
    match objects.patch(&ObjectKey::of(&owner.cluster, metadata), "", &patch, &Preconditions::exactly(metadata)).await {
        Err(error) if !error.is_not_found() && !error.is_invalid() => Err(error),
        _ => Ok(()),
    }
}

/// The keys of owners of kind `kind` a changed object concerns: its controller before and now, and for an
/// orphan all owners that select it.
pub fn owner_keys<K: Metadata<Ty = ObjectMeta>>(
    change: &Change<K>,
    kind: &str,
    selecting: impl Fn(&ObjectKey, &ObjectMeta) -> Vec<ObjectKey>,
) -> Vec<ObjectKey> {
    let key_of = |object: &Option<Arc<K>>| {
        let owner = controller_of(object.as_ref()?.metadata()).filter(|owner| owner.kind == kind)?;
        Some(ObjectKey::new(&change.key.cluster, &change.key.namespace, &owner.name))
    };
    let mut keys: Vec<ObjectKey> = key_of(&change.old).into_iter().collect();
    if let Some(now) = key_of(&change.new)
        && !keys.contains(&now)
    {
        keys.push(now);
    }
    if let Some(object) = &change.new
        && controller_of(object.metadata()).is_none()
    {
        keys.extend(selecting(&change.key, object.metadata()));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    fn pod(name: &str, label: &str, controller: Option<&str>) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.into());
        pod.metadata.labels = Some([("app".to_owned(), label.to_owned())].into());
        pod.metadata.owner_references = controller.map(|uid| vec![OwnerReference { uid: uid.into(), controller: Some(true), ..Default::default() }]);
        Arc::new(pod)
    }

    #[test]
    fn matching_orphans_are_adopted_and_strays_released() {
        let owner = ObjectMeta { uid: Some("u".into()), ..Default::default() };
        let selector = LabelSelector::parse("app=a").unwrap();
        let all = [pod("mine", "a", Some("u")), pod("stray", "b", Some("u")), pod("orphan", "a", None), pod("alien", "a", Some("x")), pod("other", "b", None)];
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|p| p.metadata.name.clone().unwrap()).collect::<Vec<_>>();
        let claims = claim(&owner, &selector, &all);
        assert_eq!(
            (names(&claims.owned), names(&claims.adopt), names(&claims.release)),
            (vec!["mine".into(), "orphan".into()], vec!["orphan".into()], vec!["stray".into()])
        );
        let going = ObjectMeta { deletion_timestamp: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH)), ..owner };
        let claims = claim(&going, &selector, &all);
        assert_eq!((names(&claims.owned), claims.adopt.len(), claims.release.len()), (vec!["mine".into()], 0, 0));
    }
}
