//! Protects classes of attributes that claims or volumes name (KEP-3751).
use super::{Action, World, decide, write};
use api_meta::ClusterName;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Runner, async_trait};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use std::sync::Arc;

const FINALIZER: &str = "kubernetes.io/vac-protection";

pub struct AttributesClassProtection {
    classes: Objects<VolumeAttributesClass>,
    claims: Objects<PersistentVolumeClaim>,
    volumes: Objects<PersistentVolume>,
}

/// The classes a claim names: the one it has, the one it wants, and the one it is on its way to.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<&String> {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_ref());
    let target = status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_ref());
    wanted.into_iter().chain(current).chain(target).collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Option<&String> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_ref()
}

/// Those of virtual clusters may be the host's.
fn keys(cluster: &ClusterName, name: &str) -> [ObjectKey; 2] {
    [ObjectKey::new(cluster, "", name), ObjectKey::new(&ClusterName::root(), "", name)]
}

pub fn runner(kit: &Kit) -> Runner<AttributesClassProtection> {
    let (classes, claims, volumes) = (kit.objects::<VolumeAttributesClass>(), kit.objects::<PersistentVolumeClaim>(), kit.objects::<PersistentVolume>());
    let controller = AttributesClassProtection { classes: classes.clone(), claims: claims.clone(), volumes: volumes.clone() };
    Runner::new(controller)
        .watch_own(&classes)
        .watch(&claims, |change| {
            let old = change.old.as_ref().map(|claim| classes_of_claim(claim)).unwrap_or_default();
            old.into_iter().flat_map(|name| keys(&change.key.cluster, name)).collect()
        })
        .watch(&volumes, |change| {
            let old = change.old.as_ref().and_then(|volume| class_of_volume(volume));
            old.into_iter().flat_map(|name| keys(&change.key.cluster, name)).collect()
        })
}

#[async_trait]
impl Controller for AttributesClassProtection {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "volumeattributesclass-protection-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let class = self.classes.get(key)?;
        let concerns = |cluster: &ClusterName| key.cluster.is_root() || *cluster == key.cluster;
        let claimed =
            |(of, claim): &(ObjectKey, Arc<PersistentVolumeClaim>)| concerns(&of.cluster) && classes_of_claim(claim).iter().any(|name| ***name == *key.name);
        let has = |(of, volume): &(ObjectKey, Arc<PersistentVolume>)| concerns(&of.cluster) && class_of_volume(volume).is_some_and(|name| **name == *key.name);
        let going = class.metadata.deletion_timestamp.is_some();
        let in_use = going && (self.claims.all().iter().any(claimed) || self.volumes.all().iter().any(has));
        Some(World { metadata: class.metadata.clone(), in_use, finalizer: FINALIZER })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        decide(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        write(&self.classes, key, FINALIZER, action).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::{Value, json};

    #[test]
    fn a_class_is_named_by_what_has_it_wants_it_or_is_on_its_way_to_it() {
        let of_claim = |spec: Value, status: Value| {
            let claim: PersistentVolumeClaim = serde_json::from_value(json!({"metadata": {}, "spec": spec, "status": status})).unwrap();
            classes_of_claim(&claim).into_iter().cloned().collect::<Vec<_>>()
        };
        let under_way =
            json!({"currentVolumeAttributesClassName": "silver", "modifyVolumeStatus": {"status": "InProgress", "targetVolumeAttributesClassName": "gold"}});
        for (spec, status, expected) in [
            (json!({}), json!({}), &[][..]),
            (json!({"volumeAttributesClassName": "gold"}), json!({}), &["gold"]),
            (json!({}), json!({"currentVolumeAttributesClassName": "silver"}), &["silver"]),
            (json!({"volumeAttributesClassName": "bronze"}), under_way, &["bronze", "silver", "gold"]),
        ] {
            assert_eq!(of_claim(spec, status), expected);
        }
        let volume = serde_json::from_value(json!({"metadata": {}, "spec": {"volumeAttributesClassName": "gold"}})).unwrap();
        assert_eq!(class_of_volume(&volume).unwrap(), "gold");
        let (team, root) = (ClusterName::parse("a.team").unwrap(), ClusterName::root());
        assert_eq!(keys(&team, "gold"), [ObjectKey::new(&team, "", "gold"), ObjectKey::new(&root, "", "gold")], "it may be the host's");
    }

    #[test]
    fn a_class_stays_until_nothing_names_it() {
        let apply = |world: &mut World, action| match action {
            Action::Protect => world.metadata.finalizers.get_or_insert_default().push(FINALIZER.into()),
            Action::LetGo => world.metadata.finalizers.as_mut().unwrap().retain(|finalizer| finalizer != FINALIZER),
        };
        let metadata = serde_json::from_value(json!({"name": "gold", "finalizers": ["theirs"]})).unwrap();
        let mut held = converges(World { metadata, in_use: false, finalizer: FINALIZER }, 1, AttributesClassProtection::reconcile, apply);
        held.metadata.deletion_timestamp = Some(controller_kit::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
        held.in_use = true;
        let mut used = converges(held, 0, AttributesClassProtection::reconcile, apply);
        assert_eq!(used.metadata.finalizers.as_deref(), Some(&["theirs".to_owned(), FINALIZER.to_owned()][..]));
        used.in_use = false;
        assert_eq!(converges(used, 1, AttributesClassProtection::reconcile, apply).metadata.finalizers, Some(vec!["theirs".to_owned()]));
    }
}
