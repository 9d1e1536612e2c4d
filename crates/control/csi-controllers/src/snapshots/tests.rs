//! What is decided about snapshots, over worlds of values.
mod settling;

use super::{BEING_CREATED, BEING_DELETED, CONTENT_FINALIZER, content, snapshot, snapshotter};
use crate::driver::{Facts, Rpc};
use crate::source::{self, Source};
use crate::tests::{typed, with};
use api_meta::ClusterName;
use controller_kit::volume_snapshot::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent};
use controller_kit::{Controller, ObjectKey};
use serde_json::{Value, json};
use std::sync::Arc;

fn of_claim(change: Value) -> Value {
    with(
        json!({"metadata": {"name": "s", "namespace": "n", "uid": "u", "finalizers": [snapshot::AS_SOURCE]},
            "spec": {"source": {"persistentVolumeClaimName": "data"}, "volumeSnapshotClassName": "c"}}),
        change,
    )
}

fn of_content(change: Value) -> Value {
    with(
        json!({"metadata": {"name": "snapcontent-u", "finalizers": [CONTENT_FINALIZER]},
            "spec": {"driver": "d.example", "deletionPolicy": "Delete", "volumeSnapshotClassName": "c", "source": {"volumeHandle": "h"},
                "volumeSnapshotRef": {"name": "s", "namespace": "n", "uid": "u"}}}),
        change,
    )
}

fn class(name: &str, default: bool) -> Arc<VolumeSnapshotClass> {
    let annotations = json!({"snapshot.storage.kubernetes.io/is-default-class": default.to_string()});
    typed(json!({"metadata": {"name": name, "annotations": annotations}, "driver": "d.example", "deletionPolicy": "Delete"}))
}

fn world(snapshot: Value, content: Option<Value>) -> snapshot::World {
    snapshot::World {
        snapshot: typed(snapshot),
        content: content.map(typed),
        classes: vec![class("c", false)],
        claim: Some(typed(json!({"metadata": {"name": "data", "namespace": "n", "uid": "p"}, "status": {"phase": "Bound"}}))),
        volume: Some(typed(json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"uid": "p"}, "csi": {"driver": "d.example", "volumeHandle": "h"}}}))),
        node: Some("n1".into()),
        restoring: false,
        claim_is_needed: false,
        now: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn decides(world: &snapshot::World) -> String {
    use snapshot::Action;
    let told = snapshot::Snapshots::reconcile(world).actions.into_iter().map(|action| match action {
        Action::SetClass(name) => format!("class {name}"),
        Action::SetFinalizers(finalizers) => format!("{} finalizers", finalizers.len()),
        Action::HoldClaim => "hold claim".into(),
        Action::LetClaimGo => "let claim go".into(),
        Action::CreateContent(content) => format!("create {} of {:?}", content.name(), content.spec.source.volume_handle.as_deref().unwrap_or_default()),
        Action::Bind { content, .. } => format!("bind {content}"),
        Action::MarkContent(name) => format!("mark {name}"),
        Action::DeleteContent(name) => format!("delete {name}"),
        Action::SetStatus(status) => format!("status ready={:?} size={:?}", status.ready_to_use.unwrap_or_default(), status.restore_size.map(|size| size.0)),
        Action::Tell { reason, .. } => reason.to_owned(),
    });
    told.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_snapshot_gets_a_content_and_is_told_of_it() {
    assert_eq!(decides(&world(of_claim(json!({})), None)), r#"hold claim, create snapcontent-u of "h", CreatingSnapshot"#);
    assert_eq!(
        decides(&world(of_claim(json!({"metadata": {"finalizers": null}})), None)),
        r#"1 finalizers, hold claim, create snapcontent-u of "h", CreatingSnapshot"#
    );
    assert_eq!(decides(&world(of_claim(json!({})), Some(of_content(json!({}))))), "status ready=false size=None");
    let made = json!({"status": {"snapshotHandle": "x", "creationTime": 1_000_000_000, "restoreSize": 1 << 30, "readyToUse": true}});
    let ready = decides(&world(of_claim(json!({})), Some(of_content(made.clone()))));
    assert_eq!(ready, r#"SnapshotCreated, SnapshotReady, status ready=true size=Some("1Gi")"#);
    let told = json!({"metadata": {"finalizers": [snapshot::AS_SOURCE, snapshot::BOUND]}, "status": {"boundVolumeSnapshotContentName": "snapcontent-u",
        "creationTime": "1970-01-01T00:00:01Z", "readyToUse": true, "restoreSize": "1Gi"}});
    assert_eq!(decides(&world(of_claim(told.clone()), Some(of_content(made)))), "");
    assert_eq!(decides(&world(of_claim(told), None)), "status ready=false size=Some(\"1Gi\"), SnapshotContentMissing");
}

#[test]
fn what_a_snapshot_waits_for_is_told_once() {
    let mut unbound = world(of_claim(json!({})), None);
    unbound.claim = Some(typed(json!({"metadata": {"name": "data", "namespace": "n", "uid": "p"}, "status": {"phase": "Pending"}})));
    assert_eq!(decides(&unbound), "status ready=false size=None, SnapshotContentCreationFailed");
    let why = "Failed to create snapshot content with error the PVC data is not yet bound to a PV, will not attempt to take a snapshot";
    unbound.snapshot = typed(of_claim(json!({"status": {"error": {"message": why}}})));
    assert_eq!(decides(&unbound), "");
    assert_eq!(decides(&world(of_claim(json!({"spec": {"volumeSnapshotClassName": "other"}})), None)), "status ready=false size=None, GetSnapshotClassFailed");

    let unclassed = || world(of_claim(json!({"spec": {"volumeSnapshotClassName": null}})), None);
    assert_eq!(decides(&unclassed()), "status ready=false size=None, SetDefaultSnapshotClassFailed");
    assert_eq!(decides(&snapshot::World { classes: vec![class("c", false), class("d", true)], ..unclassed() }), "class d");
    assert_eq!(
        decides(&snapshot::World { classes: vec![class("c", true), class("d", true)], ..unclassed() }),
        "status ready=false size=None, SetDefaultSnapshotClassFailed"
    );
}

#[test]
fn a_content_that_existed_is_bound_to_the_snapshot_it_names_alone() {
    let existing =
        of_claim(json!({"spec": {"source": {"persistentVolumeClaimName": null, "volumeSnapshotContentName": "old"}, "volumeSnapshotClassName": null}}));
    let old = |reference: Value| {
        of_content(json!({"metadata": {"name": "old"}, "spec": {"source": {"volumeHandle": null, "snapshotHandle": "x"}, "volumeSnapshotRef": reference}}))
    };
    assert_eq!(decides(&world(existing.clone(), Some(old(json!({"uid": null}))))), "bind old");
    assert_eq!(decides(&world(existing.clone(), Some(old(json!({}))))), "status ready=false size=None");
    assert_eq!(decides(&world(existing.clone(), Some(old(json!({"uid": "another"}))))), "status ready=false size=None, SnapshotBindFailed");
    assert_eq!(decides(&world(existing.clone(), Some(old(json!({"name": "t", "uid": null}))))), "status ready=false size=None, SnapshotBindFailed");
    assert_eq!(decides(&world(existing, None)), "status ready=false size=None, SnapshotContentMissing");
}

#[test]
fn a_snapshot_goes_after_its_content_and_not_while_it_is_used() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [snapshot::AS_SOURCE, snapshot::BOUND, "theirs"]}});
    let held = |policy: &str, change: Value| Some(of_content(with(json!({"spec": {"deletionPolicy": policy}}), change)));
    assert_eq!(decides(&world(of_claim(going.clone()), held("Delete", json!({})))), "mark snapcontent-u, delete snapcontent-u");
    let marked = json!({"metadata": {"annotations": {BEING_DELETED: "yes"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(decides(&world(of_claim(going.clone()), held("Delete", marked))), "");
    assert_eq!(decides(&world(of_claim(going.clone()), held("Retain", json!({})))), "mark snapcontent-u, 1 finalizers");
    assert_eq!(decides(&world(of_claim(going.clone()), None)), "1 finalizers");
    assert_eq!(decides(&snapshot::World { restoring: true, ..world(of_claim(going), None) }), "SnapshotDeletePending");
}

#[test]
fn a_claim_is_held_until_the_last_snapshot_of_it_is_ready() {
    let done = json!({"metadata": {"finalizers": [snapshot::AS_SOURCE, snapshot::BOUND]},
        "status": {"boundVolumeSnapshotContentName": "snapcontent-u", "readyToUse": true}});
    let held =
        typed(json!({"metadata": {"name": "data", "namespace": "n", "uid": "p", "finalizers": [snapshot::CLAIM_AS_SOURCE]}, "status": {"phase": "Bound"}}));
    let ready = || snapshot::World { claim: Some(Arc::clone(&held)), ..world(of_claim(done.clone()), Some(of_content(json!({})))) };
    assert_eq!(decides(&ready()), "let claim go");
    assert_eq!(decides(&snapshot::World { claim_is_needed: true, ..ready() }), "");
}

#[test]
fn a_content_is_held_and_told_when_its_snapshot_goes() {
    let decides = |content: Value, snapshot: Option<Value>| {
        content::Contents::reconcile(&content::World { content: typed(content), snapshot: snapshot.map(typed::<VolumeSnapshot>) }).actions
    };
    use content::Action::{Hold, MarkDeleted, NotBound};
    assert_eq!(decides(of_content(json!({"metadata": {"finalizers": null}})), Some(of_claim(json!({})))), [Hold]);
    assert_eq!(decides(of_content(json!({})), Some(of_claim(json!({})))), []);
    assert_eq!(decides(of_content(json!({})), None), [MarkDeleted]);
    assert_eq!(decides(of_content(json!({})), Some(of_claim(json!({"metadata": {"uid": "another"}})))), [MarkDeleted]);
    assert_eq!(decides(of_content(json!({"spec": {"volumeSnapshotRef": {"uid": null}}})), None), [NotBound]);
}

#[test]
fn the_driver_is_asked_for_its_own_nodes_and_clusters_alone() {
    use snapshotter::Action::{Begin, Create, Delete, End, Find, Forget, LetGo, Refuse};
    let decides = |cluster: &str, content: Value| {
        let cluster = ClusterName::parse(cluster).unwrap();
        let facts = Arc::new(Facts::of_test(&[Rpc::CreateDeleteSnapshot, Rpc::ListSnapshots]));
        let world = snapshotter::World {
            key: ObjectKey::new(&cluster, "", "snapcontent-u"),
            facts,
            content: typed::<VolumeSnapshotContent>(content),
            class: Some(class("c", false)),
        };
        snapshotter::Snapshotter::reconcile(&world).actions
    };
    let create = |name: &str, handle: &str| Create { name: name.into(), volume_id: handle.into(), parameters: Default::default() };
    let begun = json!({"metadata": {"annotations": {BEING_CREATED: "yes"}}});
    assert_eq!(decides("root", of_content(json!({}))), [Begin, create("snapshot-u", "h")]);
    assert_eq!(decides("root", of_content(begun.clone())), [create("snapshot-u", "h")]);
    assert_eq!(decides("root", of_content(json!({"status": {"readyToUse": true}}))), []);
    assert_eq!(decides("root", of_content(with(begun.clone(), json!({"status": {"readyToUse": true}})))), [End], "its maker died before it said so");
    let managed = "snapshot.storage.kubernetes.io/managed-by";
    assert_eq!(decides("root", of_content(json!({"metadata": {"labels": {managed: "n2"}}}))), []);
    assert_eq!(decides("root", of_content(json!({"spec": {"driver": "other"}}))), []);
    let own = json!({"spec": {"source": {"volumeHandle": "a.team_v"}}});
    assert_eq!(decides("a.team", of_content(own)), [Begin, create("a.team_snapshot-u", "a.team_v")]);
    assert!(matches!(decides("a.team", of_content(json!({})))[..], [Refuse(_)]), "it is another cluster's volume");
    let existing = |handle: &str| of_content(json!({"spec": {"source": {"volumeHandle": null, "snapshotHandle": handle}}}));
    assert_eq!(decides("root", existing("x")), [Find("x".into())]);
    assert!(matches!(decides("a.team", existing("x"))[..], [Refuse(_)]), "it is another cluster's snapshot");

    let going =
        |change: Value| of_content(with(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {BEING_DELETED: "yes"}}}), change));
    let handle = json!({"status": {"snapshotHandle": "x", "readyToUse": true}});
    assert_eq!(decides("root", going(handle.clone())), [Delete("x".into()), Forget, LetGo]);
    assert_eq!(decides("root", going(with(handle.clone(), json!({"spec": {"deletionPolicy": "Retain"}})))), [LetGo]);
    assert_eq!(decides("root", with(going(handle.clone()), json!({"metadata": {"annotations": null}}))), [], "its snapshot stays");
    assert_eq!(decides("root", going(begun)), [create("snapshot-u", "h")], "it may have been made");
    assert_eq!(decides("root", going(json!({}))), [LetGo]);
    assert_eq!(decides("a.team", going(handle)), [LetGo], "it is another cluster's snapshot");
}

#[test]
fn a_volume_begins_with_what_is_ready_and_fits() {
    let facts = Facts::of_test(&[Rpc::CreateDeleteSnapshot, Rpc::CloneVolume]);
    let key = ObjectKey::new(&ClusterName::root(), "n", "copy");
    let claim = typed(json!({"metadata": {"name": "copy", "namespace": "n"}, "spec": {}}));
    let ready = json!({"status": {"readyToUse": true, "boundVolumeSnapshotContentName": "snapcontent-u"}});
    let kept = json!({"status": {"snapshotHandle": "x", "restoreSize": 1024, "readyToUse": true}});
    let decide = |snapshot: Value, content: Value, size: i64| {
        let source = Source::Snapshot { name: "s".into(), snapshot: Some(typed(of_claim(snapshot))), content: Some(typed(of_content(content))) };
        source::content_source(&source, &facts, &key, &claim, size).map(|source| format!("{:?}", source.unwrap().r#type.unwrap()))
    };
    assert!(decide(ready.clone(), kept.clone(), 1024).unwrap().contains("\"x\""));
    assert_eq!(decide(json!({}), kept.clone(), 1024).unwrap_err(), "snapshot s is not Ready");
    assert_eq!(decide(ready.clone(), kept.clone(), 1).unwrap_err(), "requested volume size 1 is less than the size 1024 for the source snapshot s");
    let block = with(kept.clone(), json!({"spec": {"sourceVolumeMode": "Block"}}));
    assert!(decide(ready.clone(), block, 1024).unwrap_err().contains("modifies the mode of the source volume"));
    let others = with(kept, json!({"spec": {"volumeSnapshotRef": {"uid": "another"}}}));
    assert!(decide(ready, others, 1024).unwrap_err().contains("bound to a different snapshot"));
}
