//! Volumes settle: made, attached and deleted as is asked for, and then nothing is asked for any more.
use super::{ALL, hold, patch, typed, volume, with};
use crate::driver::{Facts, Rpc};
use crate::persistent_volume::{self, FINALIZER};
use crate::source::{self, Source};
use crate::{attacher, deleter, provisioner};
use api_meta::ClusterName;
use controller_kit::{Controller, ObjectKey, converges, whole_seconds};
use csi::v1::Volume;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn now() -> Time {
    whole_seconds(Timestamp::UNIX_EPOCH)
}

pub(super) fn deleted() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
}

const CLONING: &str = "provisioner.storage.kubernetes.io/cloning-protection";

fn claim(name: &str, change: Value) -> Value {
    let base = json!({"metadata": {"name": name, "namespace": "n", "uid": name,
        "annotations": {"volume.kubernetes.io/storage-provisioner": "d.example"}},
        "spec": {"storageClassName": "c", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    with(base, change)
}

fn provisioning(claim: Value, binding: &str, source: Source) -> provisioner::World {
    let class = json!({"metadata": {"name": "c"}, "provisioner": "d.example", "volumeBindingMode": binding});
    provisioner::World {
        facts: Arc::new(Facts::of_test(&[Rpc::CloneVolume])),
        key: ObjectKey::new(&ClusterName::root(), "n", "data"),
        claim: typed(claim),
        class: Some(typed(class)),
        attributes: None,
        made: false,
        owners: Default::default(),
        source,
        copied: false,
    }
}

/// Does what is asked for; the driver has no room `full` times first. Gives how often it was asked for a volume.
fn provision(world: provisioner::World, mut full: usize) -> (provisioner::World, usize) {
    use provisioner::Action;
    let selected = |node: Option<&str>| json!({"metadata": {"annotations": {provisioner::SELECTED_NODE: node}}});
    let mut asked = 0;
    let end = converges(world, 3, provisioner::Provisioner::reconcile, |world, action| match action {
        Action::Choose { .. } => patch(&mut world.claim, selected(Some("n1"))),
        Action::GiveBack(_) => patch(&mut world.claim, selected(None)),
        Action::Create { request, fs_type } => {
            asked += 1;
            if full > 0 {
                full -= 1;
                // Another node may have room.
                return patch(&mut world.claim, selected(None));
            }
            let made = Volume { volume_id: request.name, capacity_bytes: 1 << 30, ..Default::default() };
            let class = world.class.as_ref().unwrap();
            let object = persistent_volume::object("d.example", &world.claim, class, &made, &fs_type).unwrap();
            world.made = object.metadata.name.unwrap() == persistent_volume::name(&world.claim);
        }
        Action::HoldSource { claim, hold: held } => {
            let own = *claim == *world.key.name;
            match &mut world.source {
                Source::Claim { name, claim: Some(of), .. } if *name == claim => hold(of, CLONING, held),
                _ if own => hold(&mut world.claim, CLONING, held),
                _ => panic!("nobody asked for {claim}"),
            }
        }
        Action::Refuse(why) => panic!("{why}"),
    });
    (end, asked)
}

#[test]
fn a_volume_is_made_once_and_its_source_held_meanwhile() {
    let (made, asked) = provision(provisioning(claim("data", json!({})), "Immediate", Source::Nothing), 0);
    assert!(made.made && asked == 1, "nobody chose a node, so this one is");
    let selected = json!({"metadata": {"annotations": {provisioner::SELECTED_NODE: "n1"}}});
    let late = || claim("data", selected.clone());
    assert_eq!(provision(provisioning(late(), "WaitForFirstConsumer", Source::Nothing), 0).1, 1);
    let (waits, asked) = provision(provisioning(late(), "WaitForFirstConsumer", Source::Nothing), 1);
    assert!(!waits.made && asked == 1, "the scheduler chooses anew");
    assert_eq!(provision(provisioning(with(late(), deleted()), "Immediate", Source::Nothing), 0).1, 0);

    let bound = claim("from", json!({"spec": {"volumeName": "v"}, "status": {"phase": "Bound"}}));
    let lies = volume(json!({"spec": {"claimRef": {"uid": "from"}}, "status": {"phase": "Bound"}}));
    let copy = Source::Claim { name: "from".into(), claim: Some(typed(bound)), volume: Some(typed(lies.clone())) };
    let (copied, asked) = provision(provisioning(late(), "WaitForFirstConsumer", copy), 0);
    let Source::Claim { claim: Some(from), .. } = copied.source else { panic!("it was a copy") };
    assert!(copied.made && asked == 1 && source::is_held(&from));
    // The copy is made, so its source may go.
    let freed =
        provisioner::World { claim: from, key: ObjectKey::new(&ClusterName::root(), "n", "from"), ..provisioning(late(), "Immediate", Source::Nothing) };
    let still = provisioner::World { copied: true, claim: freed.claim.clone(), key: freed.key.clone(), ..provisioning(late(), "Immediate", Source::Nothing) };
    assert!(source::is_held(&provision(still, 0).0.claim));
    assert!(!source::is_held(&provision(freed, 0).0.claim));

    let elsewhere =
        json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["n2"]}]}]}}}});
    let afar = Source::Claim { name: "from".into(), claim: None, volume: Some(typed(with(lies, elsewhere))) };
    let (given_back, asked) = provision(provisioning(late(), "WaitForFirstConsumer", afar), 0);
    assert!(!given_back.claim.metadata.annotations.as_ref().unwrap().contains_key(provisioner::SELECTED_NODE) && asked == 0);
}

/// Does what is asked for; the driver refuses `refusals` times first. Gives what is left, and how often the driver was asked.
fn delete(change: Value, attached_to: Option<&str>, mut refusals: usize) -> (deleter::World, usize) {
    let world = deleter::World { facts: Arc::new(Facts::of_test(ALL)), volume: typed(volume(change)), attached_to: attached_to.map(str::to_owned) };
    let (mut asked, mut ended) = (0, false);
    let end = converges(world, 4, deleter::Deleter::reconcile, |world, action| match action {
        deleter::Action::DeleteVolume { .. } => {
            asked += 1;
            // The first error ends a run.
            ended = refusals > 0;
            refusals = refusals.saturating_sub(1);
        }
        _ if ended => {}
        // With its finalizer, it only begins to go.
        deleter::Action::DeleteObject => patch(&mut world.volume, deleted()),
        deleter::Action::LetGo => hold(&mut world.volume, FINALIZER, false),
    });
    (end, asked)
}

#[test]
fn a_volume_nobody_claims_goes_with_its_object() {
    for (change, attached, refusals, goes, asked) in [
        (json!({}), None, 0, true, 2),
        (json!({}), None, 2, true, 4),
        (deleted(), None, 0, true, 1),
        (deleted(), None, 1, true, 2),
        (with(deleted(), json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}})), None, 0, true, 0),
        (json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}), None, 0, false, 0),
        (json!({"status": {"phase": "Bound"}}), None, 0, false, 0),
        (deleted(), Some("n1"), 0, false, 0),
    ] {
        let case = format!("{change} {attached:?} {refusals}");
        let (left, times) = delete(change, attached, refusals);
        let gone = left.volume.metadata.deletion_timestamp.is_some() && left.volume.metadata.finalizers.as_ref().is_none_or(Vec::is_empty);
        assert_eq!((gone, times), (goes, asked), "{case}");
    }
}

/// Does what is asked for; the driver refuses `refusals` times first. Gives what is left, and what the driver was asked for.
fn attach(world: attacher::World, mut refusals: usize) -> (attacher::World, Vec<&'static str>) {
    const HELD: &str = "external-attacher/d-example";
    let (mut asked, mut ended) = (Vec::new(), false);
    let end = converges(world, 3, attacher::Attacher::reconcile, |world, action| {
        let refused = refusals > 0;
        let why = json!({"message": "not now", "time": now()});
        let status = match action {
            attacher::Action::Hold => return hold(&mut world.attachment, HELD, true),
            attacher::Action::LetGo if ended => return,
            attacher::Action::LetGo => return hold(&mut world.attachment, HELD, false),
            attacher::Action::Trivially => json!({"attached": true}),
            attacher::Action::Publish(_) => {
                asked.push("publish");
                if refused {
                    json!({"attached": false, "attachError": why})
                } else {
                    json!({"attached": true, "attachmentMetadata": {"a": "b"}, "attachError": null})
                }
            }
            attacher::Action::Unpublish { .. } => {
                asked.push("unpublish");
                ended = refused;
                if refused { json!({"detachError": why}) } else { json!({}) }
            }
        };
        refusals = refusals.saturating_sub(1);
        patch(&mut world.attachment, json!({ "status": status }));
    });
    (end, asked)
}

#[test]
fn an_attachment_is_made_held_and_let_go_once() {
    let new = |rpcs: &[Rpc]| {
        let spec = json!({"attacher": "d.example", "nodeName": "n1", "source": {"persistentVolumeName": "v"}});
        let attachment = typed(json!({"metadata": {"name": "a", "finalizers": ["theirs"]}, "spec": spec, "status": {"attached": false}}));
        attacher::World { facts: Arc::new(Facts::of_test(rpcs)), attachment, volume: Some(typed(volume(json!({})))) }
    };
    let held = |world: &attacher::World| world.attachment.metadata.finalizers.as_ref().map_or(0, Vec::len) - 1;
    let (trivial, asked) = attach(new(&[]), 0);
    assert_eq!((trivial.attachment.status.as_ref().unwrap().attached, held(&trivial), asked), (true, 0, vec![]));
    let (made, asked) = attach(new(ALL), 0);
    assert_eq!((held(&made), asked), (1, vec!["publish"]));
    let (mut made, asked) = attach(new(ALL), 1);
    let status = made.attachment.status.clone().unwrap();
    assert_eq!((status.attached, status.attach_error, status.attachment_metadata.unwrap().len(), asked), (true, None, 1, vec!["publish", "publish"]));
    patch(&mut made.attachment, deleted());
    let (gone, asked) = attach(made, 1);
    assert_eq!(
        (held(&gone), gone.attachment.status.clone().unwrap().detach_error.unwrap().message.unwrap(), asked),
        (0, "not now".into(), vec!["unpublish", "unpublish"])
    );
    let mut without = attach(new(ALL), 0).0;
    patch(&mut without.attachment, deleted());
    without.volume = None;
    let (gone, asked) = attach(without, 0);
    assert_eq!(
        (gone.attachment.metadata.finalizers.clone().unwrap(), asked),
        (vec!["theirs".to_owned()], vec![]),
        "its volume is gone, so there is nobody to ask"
    );
}
