//! Calls repeated, reordered, cut off and made again after a crash: whatever came before, the end is clean.
#![allow(clippy::unwrap_used, reason = "a test may")]
mod process;
mod rig;

use csi::v1::volume_content_source::{SnapshotSource, Type as SourceType, VolumeSource};
use csi::v1::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerGetVolumeRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest,
    CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest, GetCapacityRequest, ListSnapshotsRequest, ListVolumesRequest,
    NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
    ValidateVolumeCapabilitiesRequest, VolumeContentSource,
};
use process::{Process, SERVE};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rig::{MIB, NODE, Place, create, mounts};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Status};

/// How many volumes the calls are about: two of their own, one made from a snapshot of the first, one a clone of the second.
const VOLUMES: u8 = 4;

/// A call about one of the volumes.
#[derive(Clone, Copy, Debug)]
enum Call {
    Create,
    Delete,
    Attach,
    Detach,
    Stage,
    Unstage,
    Publish,
    Unpublish,
    Expand,
    Grow,
    Snapshot,
    DropSnapshot,
    /// Every call that only asks.
    Ask,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Call(Call, u8),
    /// Sent, and given up after so many milliseconds.
    CutOff(Call, u8, u64),
    /// The same call by two clients at once.
    Twice(Call, u8),
    /// The driver is killed so many milliseconds after it was sent a call; another starts over what there is.
    Crash(Call, u8, u64),
}

fn calls() -> impl Strategy<Value = Call> {
    use Call::*;
    prop_oneof![
        3 => Just(Create), 1 => Just(Delete), 3 => Just(Attach), 1 => Just(Detach), 3 => Just(Stage), 1 => Just(Unstage),
        3 => Just(Publish), 1 => Just(Unpublish), 1 => Just(Expand), 1 => Just(Grow), 2 => Just(Snapshot), 1 => Just(DropSnapshot),
        1 => Just(Ask),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (calls(), 0..VOLUMES).prop_map(|(call, of)| Step::Call(call, of)),
        3 => (calls(), 0..VOLUMES, 0..30u64).prop_map(|(call, of, after)| Step::CutOff(call, of, after)),
        2 => (calls(), 0..VOLUMES).prop_map(|(call, of)| Step::Twice(call, of)),
        2 => (calls(), 0..VOLUMES, 0..40u64).prop_map(|(call, of, after)| Step::Crash(call, of, after)),
    ];
    prop::collection::vec(step, 1..30)
}

async fn make(rig: &Process, call: Call, of: u8) -> Result<(), Status> {
    let (mut controller, mut node) = (rig.controller.clone(), rig.node.clone());
    let name = format!("volume-{of}");
    // The name alone decides the id, as a client finds it by creating the volume again.
    let volume_id = id("vol", &name);
    let (staged, target) = (rig.place.path(&format!("staged-{of}")).display().to_string(), rig.place.path(&format!("target-{of}")).display().to_string());
    let capability = Some(mounts("ext4"));
    let range = Some(CapacityRange { required_bytes: 48 * MIB, limit_bytes: 0 });
    match call {
        Call::Create => {
            let source = match of {
                2 => Some(SourceType::Snapshot(SnapshotSource { snapshot_id: id("snap", "snapshot-0") })),
                3 => Some(SourceType::Volume(VolumeSource { volume_id: id("vol", "volume-1") })),
                _ => None,
            };
            let volume_content_source = source.map(|source| VolumeContentSource { r#type: Some(source) });
            controller.create_volume(CreateVolumeRequest { volume_content_source, ..create(&name, 32, mounts("ext4")) }).await.map(drop)
        }
        Call::Delete => controller.delete_volume(DeleteVolumeRequest { volume_id, ..Default::default() }).await.map(drop),
        Call::Attach => {
            let request = ControllerPublishVolumeRequest { volume_id, node_id: NODE.into(), volume_capability: capability, ..Default::default() };
            controller.controller_publish_volume(request).await.map(drop)
        }
        Call::Detach => {
            let request = ControllerUnpublishVolumeRequest { volume_id, node_id: NODE.into(), ..Default::default() };
            controller.controller_unpublish_volume(request).await.map(drop)
        }
        Call::Stage => {
            let request = NodeStageVolumeRequest { volume_id, staging_target_path: staged, volume_capability: capability, ..Default::default() };
            node.node_stage_volume(request).await.map(drop)
        }
        Call::Unstage => node.node_unstage_volume(NodeUnstageVolumeRequest { volume_id, staging_target_path: staged }).await.map(drop),
        Call::Publish => {
            let request =
                NodePublishVolumeRequest { volume_id, staging_target_path: staged, target_path: target, volume_capability: capability, ..Default::default() };
            node.node_publish_volume(request).await.map(drop)
        }
        Call::Unpublish => node.node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id, target_path: target }).await.map(drop),
        Call::Expand => {
            let request = ControllerExpandVolumeRequest { volume_id, capacity_range: range, ..Default::default() };
            controller.controller_expand_volume(request).await.map(drop)
        }
        Call::Grow => {
            let request = NodeExpandVolumeRequest { volume_id, volume_path: staged, capacity_range: range, ..Default::default() };
            node.node_expand_volume(request).await.map(drop)
        }
        Call::Snapshot => {
            let request = CreateSnapshotRequest { source_volume_id: volume_id, name: format!("snapshot-{of}"), ..Default::default() };
            controller.create_snapshot(request).await.map(drop)
        }
        Call::DropSnapshot => {
            let snapshot_id = id("snap", &format!("snapshot-{of}"));
            controller.delete_snapshot(DeleteSnapshotRequest { snapshot_id, ..Default::default() }).await.map(drop)
        }
        Call::Ask => {
            let parameters = create("", 0, mounts("ext4")).parameters;
            controller.get_capacity(GetCapacityRequest { parameters, ..Default::default() }).await?;
            controller.list_volumes(ListVolumesRequest::default()).await?;
            controller.list_snapshots(ListSnapshotsRequest::default()).await?;
            controller.controller_get_volume(ControllerGetVolumeRequest { volume_id: volume_id.clone() }).await?;
            let capabilities = vec![mounts("ext4")];
            let validate = ValidateVolumeCapabilitiesRequest { volume_id: volume_id.clone(), volume_capabilities: capabilities, ..Default::default() };
            controller.validate_volume_capabilities(validate).await?;
            node.node_get_volume_stats(NodeGetVolumeStatsRequest { volume_id, volume_path: target, ..Default::default() }).await.map(drop)
        }
    }
}

/// The id that a name leads to.
fn id(kind: &str, name: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest: String = Sha256::digest(name.as_bytes()).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{digest}")
}

/// What a call may be answered: done, or refused for the state things are in. Never broken.
fn check(step: Step, answer: Result<(), Status>) {
    if let Err(status) = answer {
        let fair = matches!(status.code(), Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted);
        assert!(fair, "{step:?}: {status:?}");
    }
}

async fn play(steps: Vec<Step>) {
    let mut rig = Process::start(Arc::new(Place(tempfile::tempdir().unwrap()))).await;
    for step in steps {
        match step {
            Step::Call(call, of) => check(step, make(&rig, call, of).await),
            Step::CutOff(call, of, after) => {
                if let Ok(answer) = tokio::time::timeout(Duration::from_millis(after), make(&rig, call, of)).await {
                    check(step, answer);
                }
            }
            Step::Twice(call, of) => {
                let (one, two) = tokio::join!(make(&rig, call, of), make(&rig, call, of));
                check(step, one);
                check(step, two);
            }
            Step::Crash(call, of, after) => {
                // Whether it came to an answer does not matter: it is dead now.
                let _ = tokio::time::timeout(Duration::from_millis(after), make(&rig, call, of)).await;
                rig = rig.killed().await;
            }
        }
    }
    // Whatever came before, a volume can be taken down, by calls that must succeed now.
    for of in 0..VOLUMES {
        for call in [Call::Unpublish, Call::Unstage, Call::Detach, Call::DropSnapshot, Call::Delete] {
            if let Err(status) = make(&rig, call, of).await {
                panic!("{call:?} of volume {of} in the end: {status:?}");
            }
        }
    }
    assert_eq!(rig.place.left(), Vec::<String>::new());
}

fn whatever_calls_come_nothing_is_left_of_a_volume_that_was_taken_down() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, max_shrink_iters: 64, ..Config::default() });
    runner
        .run(&steps(), |steps| {
            runtime.block_on(play(steps));
            Ok(())
        })
        .unwrap();
}

const NAME: &str = "whatever_calls_come_nothing_is_left_of_a_volume_that_was_taken_down";

/// The test, or the driver that it starts. Of what test runners ask it knows the list and the name.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [serve, data, socket] if serve == SERVE => process::serve(Path::new(data), Path::new(socket)),
        all if all.iter().any(|argument| argument == "--ignored") => {}
        all if all.iter().any(|argument| argument == "--list") => println!("{NAME}: test"),
        all if all.iter().all(|argument| argument.starts_with('-') || NAME.contains(argument.as_str())) => {
            whatever_calls_come_nothing_is_left_of_a_volume_that_was_taken_down();
        }
        _ => {}
    }
}
