//! Snapshots settle: what the controllers of snapshots ask for is done, and then nothing is asked for any more.
use super::{class, of_claim, of_content, world};
use crate::driver::{Facts, Rpc};
use crate::snapshots::{BEING_CREATED, BEING_DELETED, CONTENT_FINALIZER, content, snapshot, snapshotter};
use crate::tests::{hold, patch, typed, with};
use api_meta::ClusterName;
use controller_kit::volume_snapshot::{MANAGED_BY, VolumeSnapshot, VolumeSnapshotContent};
use controller_kit::{Controller, ObjectKey, converges, reference, whole_seconds};
use csi::v1::Snapshot;
use serde_json::{Value, json};
use std::sync::Arc;

fn deleted() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
}

fn mark(content: &mut Arc<VolumeSnapshotContent>, annotation: &str, value: Option<&str>) {
    patch(content, json!({"metadata": {"annotations": {annotation: value}}}));
}

/// Does what is asked for, and gives what was told of it.
fn settle(world: snapshot::World) -> (snapshot::World, Vec<&'static str>) {
    use snapshot::Action;
    let mut told = Vec::new();
    let end = converges(world, 4, snapshot::Snapshots::reconcile, |world, action| match action {
        Action::SetClass(name) => patch(&mut world.snapshot, json!({"spec": {"volumeSnapshotClassName": name}})),
        Action::SetFinalizers(finalizers) => patch(&mut world.snapshot, json!({"metadata": {"finalizers": finalizers}})),
        Action::HoldClaim => hold(world.claim.as_mut().unwrap(), snapshot::CLAIM_AS_SOURCE, true),
        Action::LetClaimGo => hold(world.claim.as_mut().unwrap(), snapshot::CLAIM_AS_SOURCE, false),
        Action::CreateContent(content) => world.content = Some(Arc::new(*content)),
        Action::Bind { class, .. } => {
            let content = world.content.as_mut().unwrap();
            patch(content, json!({"spec": {"volumeSnapshotRef": reference(&*world.snapshot)}}));
            if let Some(class) = class {
                patch(content, json!({"spec": {"volumeSnapshotClassName": class}}));
            }
        }
        Action::MarkContent(_) => mark(world.content.as_mut().unwrap(), BEING_DELETED, Some("yes")),
        // It is held until the driver has let go.
        Action::DeleteContent(_) => patch(world.content.as_mut().unwrap(), deleted()),
        Action::SetStatus(status) => patch(&mut world.snapshot, json!({"status": snapshot::status_patch(&status).unwrap()})),
        Action::Tell { reason, .. } => told.push(reason),
    });
    (end, told)
}

fn status(world: &snapshot::World) -> String {
    let status = world.snapshot.status.clone().unwrap_or_default();
    format!("{} {:?} {}", status.bound_volume_snapshot_content_name.unwrap_or_default(), status.ready_to_use.unwrap_or_default(), status.error.is_some())
}

#[test]
fn a_snapshot_settles_at_each_step_of_its_life() {
    let new = of_claim(json!({"metadata": {"finalizers": null}, "spec": {"volumeSnapshotClassName": null}}));
    // Nothing says yet which class it is to have.
    let (mut unclassed, told) = settle(world(new, None));
    assert_eq!((status(&unclassed).as_str(), told), (" false true", vec!["SetDefaultSnapshotClassFailed"]));
    unclassed.classes = vec![class("c", true)];
    let (mut asked, told) = settle(unclassed);
    assert_eq!((status(&asked).as_str(), told), ("snapcontent-u false false", vec!["CreatingSnapshot"]));
    let held = |world: &snapshot::World| {
        (world.snapshot.metadata.finalizers.clone().unwrap_or_default(), world.claim.as_ref().unwrap().metadata.finalizers.clone().unwrap_or_default())
    };
    let both = vec![snapshot::AS_SOURCE.to_owned(), snapshot::BOUND.to_owned()];
    assert_eq!(held(&asked), (both.clone(), vec![snapshot::CLAIM_AS_SOURCE.to_owned()]));
    let made = json!({"status": {"snapshotHandle": "x", "creationTime": 1_000_000_000, "restoreSize": 1 << 30, "readyToUse": false}});
    patch(asked.content.as_mut().unwrap(), made);
    let (mut cut, told) = settle(asked);
    assert_eq!((status(&cut).as_str(), told), ("snapcontent-u false false", vec!["SnapshotCreated"]));
    patch(cut.content.as_mut().unwrap(), json!({"status": {"readyToUse": true}}));
    let (mut ready, told) = settle(cut);
    assert_eq!((status(&ready).as_str(), told, held(&ready)), ("snapcontent-u true false", vec!["SnapshotReady"], (both, vec![])));
    patch(&mut ready.snapshot, deleted());
    let (mut going, told) = settle(ready);
    let content = going.content.take().unwrap();
    assert!(content.metadata.deletion_timestamp.is_some() && content.metadata.annotations.as_ref().unwrap().contains_key(BEING_DELETED) && told.is_empty());
    assert_eq!(held(&going).0.len(), 2, "it goes after its content");
    assert!(held(&settle(going).0).0.is_empty());
}

#[test]
fn a_snapshot_of_what_existed_settles_and_so_does_one_that_lost_its_content() {
    let existing =
        of_claim(json!({"spec": {"source": {"persistentVolumeClaimName": null, "volumeSnapshotContentName": "old"}, "volumeSnapshotClassName": null}}));
    let old = |uid: Option<&str>| {
        let spec = json!({"source": {"volumeHandle": null, "snapshotHandle": "x"}, "volumeSnapshotRef": {"uid": uid}});
        of_content(json!({"metadata": {"name": "old"}, "spec": spec, "status": {"snapshotHandle": "x", "readyToUse": true}}))
    };
    let of_existing = |content: Option<Value>| snapshot::World { claim: None, volume: None, ..world(existing.clone(), content) };
    let (bound, told) = settle(of_existing(Some(old(None))));
    assert_eq!((status(&bound).as_str(), told), ("old true false", vec!["SnapshotReady"]));
    assert_eq!(bound.content.as_ref().unwrap().spec.volume_snapshot_ref.uid.as_deref(), Some("u"));
    let (lost, told) = settle(snapshot::World { content: None, ..bound });
    assert_eq!((status(&lost).as_str(), told), ("old false true", vec!["SnapshotContentMissing"]));
    let (refused, told) = settle(of_existing(Some(old(Some("another")))));
    assert_eq!((status(&refused).as_str(), told), (" false true", vec!["SnapshotBindFailed"]));
}

#[test]
fn a_content_settles_held_and_marked() {
    let settle = |content: Value, snapshot: Option<Value>| {
        let world = content::World { content: typed(content), snapshot: snapshot.map(typed::<VolumeSnapshot>) };
        let end = converges(world, 1, content::Contents::reconcile, |world, action| match action {
            content::Action::Hold => hold(&mut world.content, CONTENT_FINALIZER, true),
            content::Action::MarkDeleted => mark(&mut world.content, BEING_DELETED, Some("yes")),
            content::Action::NotBound => panic!("it is bound"),
        });
        let marked = end.content.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(BEING_DELETED));
        (end.content.metadata.finalizers.as_ref().map_or(0, Vec::len), marked)
    };
    let new = json!({"metadata": {"finalizers": ["theirs"]}});
    assert_eq!(settle(of_content(new.clone()), Some(of_claim(json!({})))), (2, false));
    assert_eq!(settle(of_content(new.clone()), None), (2, true));
    assert_eq!(settle(of_content(json!({})), Some(of_claim(deleted()))), (1, true));
    assert_eq!(settle(of_content(with(new, deleted())), Some(of_claim(json!({})))), (1, false));
}

/// Does what is asked for, by a driver that answers so at first and has it ready then; gives what the driver was asked for.
fn cut(cluster: &str, content: Value, mut answers: Vec<Result<bool, &str>>) -> (VolumeSnapshotContent, Vec<&'static str>) {
    use snapshotter::Action;
    answers.reverse();
    let rounds = 2 + answers.len();
    let mut asked = Vec::new();
    let facts = Arc::new(Facts::of_test(&[Rpc::CreateDeleteSnapshot, Rpc::ListSnapshots]));
    let key = ObjectKey::new(&ClusterName::parse(cluster).unwrap(), "", "snapcontent-u");
    let world = snapshotter::World { key, facts, content: typed(content), class: Some(class("c", false)) };
    let tell = |content: &mut Arc<VolumeSnapshotContent>, status: Value| patch(content, json!({ "status": status }));
    let refuse = |content: &mut Arc<VolumeSnapshotContent>, why: &str| tell(content, snapshotter::failed(why, whole_seconds(jiff::Timestamp::UNIX_EPOCH)));
    let made = |ready_to_use| snapshotter::made(&Snapshot { snapshot_id: "x".into(), size_bytes: 1024, ready_to_use, ..Default::default() });
    let end = converges(world, rounds, snapshotter::Snapshotter::reconcile, |world, action| match action {
        Action::Begin => mark(&mut world.content, BEING_CREATED, Some("yes")),
        Action::End => mark(&mut world.content, BEING_CREATED, None),
        Action::Create { .. } => {
            asked.push("create");
            match answers.pop().unwrap_or(Ok(true)) {
                Ok(ready) => {
                    tell(&mut world.content, made(ready));
                    mark(&mut world.content, BEING_CREATED, None);
                }
                Err(why) => refuse(&mut world.content, why),
            }
        }
        Action::Find(_) => {
            asked.push("find");
            patch(&mut world.content, json!({"metadata": {"labels": {MANAGED_BY: "n1"}}}));
            tell(&mut world.content, made(true));
        }
        Action::Delete(_) => asked.push("delete"),
        Action::Forget => tell(&mut world.content, snapshotter::forgotten()),
        Action::LetGo => hold(&mut world.content, CONTENT_FINALIZER, false),
        Action::Refuse(why) => refuse(&mut world.content, &why),
    });
    (Arc::unwrap_or_clone(end.content), asked)
}

#[test]
fn a_snapshot_is_cut_found_and_deleted_once() {
    let told = |content: &VolumeSnapshotContent| {
        let status = content.status.clone().unwrap_or_default();
        let begun = content.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(BEING_CREATED));
        (status.snapshot_handle.is_some(), status.ready_to_use == Some(true), status.error.is_some(), begun)
    };
    for (answers, times) in [(vec![], 1), (vec![Ok(false)], 2), (vec![Err("no"), Err("no"), Ok(false)], 4)] {
        let (content, asked) = cut("root", of_content(json!({})), answers);
        assert_eq!((told(&content), asked), ((true, true, false, false), vec!["create"; times]));
    }
    let existing = of_content(json!({"spec": {"source": {"volumeHandle": null, "snapshotHandle": "x"}}}));
    let (found, asked) = cut("root", existing.clone(), vec![]);
    assert_eq!((told(&found), asked), ((true, true, false, false), vec!["find"]));
    // What is another cluster's is refused, once.
    for theirs in [existing, of_content(json!({}))] {
        let (refused, asked) = cut("a.team", theirs, vec![]);
        assert_eq!((told(&refused), asked), ((false, false, true, false), vec![]));
    }
    let going = |change: Value| of_content(with(with(deleted(), json!({"metadata": {"annotations": {BEING_DELETED: "yes"}}})), change));
    let made = json!({"status": {"snapshotHandle": "x", "readyToUse": true}});
    for (content, expected) in [
        (going(made.clone()), vec!["delete"]),
        (going(with(made, json!({"spec": {"deletionPolicy": "Retain"}}))), vec![]),
        // Whether it was made before its maker died is asked of the driver.
        (going(json!({"metadata": {"annotations": {BEING_CREATED: "yes"}}})), vec!["create", "delete"]),
        (going(json!({})), vec![]),
    ] {
        let (gone, asked) = cut("root", content, vec![]);
        assert_eq!((gone.metadata.finalizers.map_or(0, |all| all.len()), asked), (0, expected));
    }
}
