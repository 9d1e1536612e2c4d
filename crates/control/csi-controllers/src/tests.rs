//! What the controllers decide, over worlds of values.
mod changing;
mod settling;

use crate::driver::{Facts, Rpc};
use crate::persistent_volume::{FINALIZER, PROVISIONED_BY};
use crate::source::Source;
use crate::{attacher, deleter, modifier, provisioner, resizer};
use api_meta::ClusterName;
use controller_kit::{Controller, ObjectKey};
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const ALL: &[Rpc] = &[Rpc::PublishUnpublishVolume, Rpc::ExpandVolume, Rpc::SingleNodeMultiWriter];

pub(crate) fn typed<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// Changes an object as the server does by a merge patch.
pub(crate) fn patch<K: Serialize + DeserializeOwned>(object: &mut Arc<K>, change: Value) {
    *object = typed(with(serde_json::to_value(&**object).unwrap(), change));
}

/// Patches one of an object's finalizers in, or out.
pub(crate) fn hold<K: Serialize + DeserializeOwned + Metadata<Ty = ObjectMeta>>(object: &mut Arc<K>, finalizer: &str, held: bool) {
    let mut finalizers = object.metadata().finalizers.clone().unwrap_or_default();
    finalizers.retain(|other| other != finalizer);
    finalizers.extend(held.then(|| finalizer.to_owned()));
    patch(object, json!({"metadata": {"finalizers": finalizers}}));
}

fn merge(into: &mut Value, from: Value) {
    let Value::Object(from) = from else { return *into = from };
    if !into.is_object() {
        *into = json!({});
    }
    let into = into.as_object_mut().unwrap();
    from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v));
    into.retain(|_, value| !value.is_null());
}

pub(crate) fn with(mut value: Value, change: Value) -> Value {
    merge(&mut value, change);
    value
}

fn provisions(cluster: &str, claim: Value, class: Value) -> Vec<String> {
    provisions_from(cluster, claim, class, Source::Nothing)
}

fn provisions_from(cluster: &str, claim: Value, class: Value, source: Source) -> Vec<String> {
    let base = json!({"metadata": {"name": "data", "namespace": "n", "uid": "u",
        "annotations": {"volume.kubernetes.io/storage-provisioner": "d.example", "volume.kubernetes.io/selected-node": "n1"}},
        "spec": {"storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let class = with(json!({"metadata": {"name": "c"}, "provisioner": "d.example", "volumeBindingMode": "WaitForFirstConsumer"}), class);
    let cluster = ClusterName::parse(cluster).unwrap();
    let world = provisioner::World {
        facts: Arc::new(Facts::of_test(ALL)),
        key: ObjectKey::new(&cluster, "n", "data"),
        claim: typed(with(base, claim)),
        class: Some(typed(class)),
        attributes: None,
        made: false,
        owners: [("org_id".to_owned(), "o".to_owned())].into(),
        source,
        copied: false,
    };
    let told = provisioner::Provisioner::reconcile(&world).actions.into_iter().map(|action| match action {
        provisioner::Action::Choose { parameters, bytes } => format!("choose {bytes} {parameters:?}"),
        provisioner::Action::GiveBack(why) => why,
        provisioner::Action::Refuse(why) => why,
        provisioner::Action::HoldSource { claim, hold } => format!("hold {claim}: {hold}"),
        provisioner::Action::Create { request, fs_type } => {
            let size = request.capacity_range.unwrap().required_bytes;
            format!("{} {size} {fs_type} {:?}", request.name, request.parameters)
        }
    });
    told.collect()
}

#[test]
fn a_volume_is_made_for_the_claims_of_this_node_alone() {
    let made = provisions("root", json!({}), json!({"parameters": {"type": "ssd", "csi.storage.k8s.io/fstype": "xfs"}}));
    assert_eq!(made, [r#"pvc-u 1073741824 xfs {"org_id": "o", "type": "ssd"}"#]);
    assert_eq!(provisions("a.team", json!({}), json!({})), [r#"a.team_pvc-u 1073741824 ext4 {"org_id": "o"}"#]);
    let selected = |node: Value| json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
    assert!(provisions("root", selected("n2".into()), json!({})).is_empty(), "it is another node's");
    assert_eq!(provisions("root", json!({"metadata": {"annotations": {"volume.kubernetes.io/storage-provisioner": "other"}}}), json!({})), [""; 0]);
    assert_eq!(provisions("root", json!({"spec": {"volumeName": "v"}}), json!({})), [""; 0]);
    let nobody = json!({"metadata": {"annotations": null}});
    assert!(provisions("root", nobody, json!({})).is_empty(), "nobody asked");
}

#[test]
fn a_copy_is_made_where_its_source_lies() {
    let lies_on = |node: &str| {
        let content = json!({"metadata": {"labels": {"snapshot.storage.kubernetes.io/managed-by": node}}, "spec": {"driver": "d.example"}});
        Source::Snapshot { name: "s".into(), snapshot: None, content: Some(typed(content)) }
    };
    let elsewhere = "what the volume is to begin with can't be read on node \"n1\"";
    assert_eq!(provisions_from("root", json!({}), json!({}), lies_on("n2")), [elsewhere]);
    assert_ne!(provisions_from("root", json!({}), json!({}), lies_on("n1")), [elsewhere]);
    let zone = |zone: &str| json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}}});
    let copy_of = |zone: Value| Source::Claim { name: "c".into(), claim: None, volume: Some(typed(volume(zone))) };
    assert_eq!(provisions_from("root", json!({}), json!({}), copy_of(zone("n2"))), [elsewhere]);
    // Where no pod chooses the node, only one that can read the source may.
    let unchosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": null}}});
    let at_once = json!({"volumeBindingMode": "Immediate", "parameters": {"type": "ssd", "csi.storage.k8s.io/fstype": "xfs"}});
    assert_eq!(provisions_from("root", unchosen.clone(), at_once.clone(), lies_on("n2")), [""; 0]);
    assert_eq!(provisions_from("root", unchosen.clone(), at_once.clone(), lies_on("n1")), [r#"choose 1073741824 {"type": "ssd"}"#]);
    assert_eq!(provisions_from("root", unchosen, at_once, copy_of(zone("n1"))), [r#"choose 1073741824 {"type": "ssd"}"#]);
}

pub(crate) fn volume(change: Value) -> Value {
    let base = json!({"metadata": {"name": "v", "finalizers": [FINALIZER], "annotations": {PROVISIONED_BY: "d.example"}},
        "spec": {"csi": {"driver": "d.example", "volumeHandle": "h"}, "persistentVolumeReclaimPolicy": "Delete", "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["n1"]}]}]}}},
        "status": {"phase": "Released"}});
    with(base, change)
}

#[test]
fn a_volume_goes_when_nobody_has_it_and_its_class_says_so() {
    let decide = |change: Value, attached_to: Option<&str>| {
        let world = deleter::World { facts: Arc::new(Facts::of_test(ALL)), volume: typed(volume(change)), attached_to: attached_to.map(str::to_owned) };
        deleter::Deleter::reconcile(&world).actions
    };
    let delete = || deleter::Action::DeleteVolume { volume_id: "h".into() };
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(decide(json!({}), None), [delete(), deleter::Action::DeleteObject]);
    assert_eq!(decide(going.clone(), None), [delete(), deleter::Action::LetGo]);
    assert_eq!(decide(json!({}), Some("n1")), [], "it is still attached");
    assert_eq!(decide(json!({"status": {"phase": "Bound"}}), None), []);
    assert_eq!(decide(json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}), None), []);
    assert_eq!(decide(with(going, json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}})), None), [deleter::Action::LetGo]);
    assert_eq!(decide(json!({"metadata": {"annotations": null}}), None), [], "an administrator made it");
    let elsewhere =
        json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["n2"]}]}]}}}});
    assert_eq!(decide(elsewhere, None), [], "it lies on another node");
}

#[test]
fn attachments_to_this_node_are_made_and_taken_away() {
    let decide = |change: Value, rpcs: &[Rpc]| -> String {
        let attachment = with(
            json!({"metadata": {"name": "a"}, "spec": {"attacher": "d.example", "nodeName": "n1", "source": {"persistentVolumeName": "v"}}, "status": {"attached": false}}),
            change,
        );
        let world = attacher::World { facts: Arc::new(Facts::of_test(rpcs)), attachment: typed(attachment), volume: Some(typed(volume(json!({})))) };
        let told = attacher::Attacher::reconcile(&world).actions.into_iter().map(|action| match action {
            attacher::Action::Hold => "hold".to_owned(),
            attacher::Action::Publish(request) => format!("publish {} to {}", request.volume_id, request.node_id),
            attacher::Action::Trivially => "trivially".into(),
            attacher::Action::Unpublish { volume_id } => format!("unpublish {volume_id}"),
            attacher::Action::LetGo => "let go".into(),
        });
        told.collect::<Vec<_>>().join(", ")
    };
    let held = json!({"metadata": {"finalizers": ["external-attacher/d-example"]}});
    assert_eq!(decide(json!({}), ALL), "hold, publish h to id-1");
    assert_eq!(decide(held.clone(), ALL), "publish h to id-1");
    assert_eq!(decide(json!({}), &[]), "trivially");
    assert_eq!(decide(json!({"status": {"attached": true}}), ALL), "");
    assert_eq!(decide(json!({"spec": {"nodeName": "n2"}}), ALL), "");
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"attached": true}});
    assert_eq!(decide(with(held, going.clone()), ALL), "unpublish h, let go");
    assert_eq!(decide(going, ALL), "");
}

#[test]
fn a_volume_grows_until_its_claim_has_what_it_asks_for() {
    let decide = |size: &str, change: Value| {
        let claim = with(
            json!({"metadata": {"name": "data", "namespace": "n"}, "spec": {"volumeName": "v", "resources": {"requests": {"storage": "2Gi"}}},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}),
            change,
        );
        let world = resizer::World {
            facts: Arc::new(Facts::of_test(ALL)),
            claim: typed(claim),
            volume: typed(volume(json!({"spec": {"capacity": {"storage": size}}, "status": {"phase": "Bound"}}))),
            refused: false,
            wait: None,
        };
        let size = |action| match action {
            resizer::Action::Begin(_) => None,
            resizer::Action::Expand(request) => Some(request.capacity_range.unwrap().required_bytes),
        };
        resizer::Resizer::reconcile(&world).actions.into_iter().find_map(size)
    };
    assert_eq!(decide("1Gi", json!({})), Some(2 << 30));
    assert_eq!(decide("2Gi", json!({})), Some(2 << 30), "the node was not told");
    assert_eq!(decide("2Gi", json!({"status": {"conditions": [{"type": "FileSystemResizePending", "status": "True"}]}})), None);
    assert_eq!(decide("2Gi", json!({"status": {"capacity": {"storage": "2Gi"}}})), None);
    assert_eq!(decide("1Gi", json!({"status": {"phase": "Pending"}})), None);
}

#[test]
fn attributes_are_given_when_the_class_is_there_and_given_up_when_it_is_no_longer_named() {
    let decide = |claim: Value, class: Option<&str>, wait: Option<u64>| -> String {
        let base = json!({"metadata": {"name": "data", "namespace": "n"}, "spec": {"volumeName": "v", "volumeAttributesClassName": "gold"}, "status": {"phase": "Bound"}});
        let class = class.map(|driver| typed(json!({"metadata": {"name": "gold"}, "driverName": driver, "parameters": {"a": "b"}})));
        let facts = Arc::new(Facts::of_test(&[Rpc::ModifyVolume]));
        let wait = wait.map(std::time::Duration::from_secs);
        let world = modifier::World { facts, claim: typed(with(base, claim)), volume: typed(volume(json!({}))), class, wait };
        let told = modifier::Modifier::reconcile(&world).actions.into_iter().map(|action| match action {
            modifier::Action::Wait => "wait".to_owned(),
            modifier::Action::Begin => "begin".into(),
            modifier::Action::Modify { volume_id, parameters } => format!("modify {volume_id} {parameters:?}"),
            modifier::Action::Refuse(why) => why,
            modifier::Action::Forget => "forget".into(),
        });
        told.collect::<Vec<_>>().join(", ")
    };
    let under_way = |state: &str| json!({"status": {"modifyVolumeStatus": {"status": state, "targetVolumeAttributesClassName": "gold"}}});
    let modify = r#"modify h {"a": "b"}"#;
    assert_eq!(decide(json!({}), Some("d.example"), None), format!("begin, {modify}"));
    assert_eq!(decide(json!({}), None, None), "wait");
    assert_eq!(decide(under_way("Pending"), None, None), "");
    assert_eq!(decide(under_way("Pending"), Some("d.example"), None), format!("begin, {modify}"));
    assert_eq!(decide(under_way("InProgress"), Some("d.example"), None), modify);
    assert_eq!(decide(under_way("Infeasible"), Some("d.example"), Some(60)), "", "it was refused a moment ago");
    assert_eq!(decide(under_way("Infeasible"), Some("d.example"), None), modify);
    let another = json!({"spec": {"volumeAttributesClassName": "silver"}});
    assert_eq!(decide(with(under_way("Infeasible"), another), Some("d.example"), Some(60)), format!("begin, {modify}"));
    assert_eq!(decide(json!({}), Some("other.example"), None), r#"begin, VolumeAttributesClass "gold" is of driver "other.example", not "d.example""#);
    assert_eq!(decide(json!({"status": {"currentVolumeAttributesClassName": "gold"}}), Some("d.example"), None), "");
    let back = json!({"status": {"currentVolumeAttributesClassName": "gold", "modifyVolumeStatus": {"status": "Infeasible"}}});
    assert_eq!(decide(back, Some("d.example"), None), "forget");
    assert_eq!(decide(json!({"status": {"phase": "Pending"}}), Some("d.example"), None), "");
}
