//! What volumes hold: their size, their data through snapshots and clones, and whose they are.
use crate::rig::{MIB, NODE, Rig, block, create, mounts};
use cloud_api::Caller;
use csi::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use csi::v1::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest, CreateSnapshotRequest, DeleteVolumeRequest,
    GetCapacityRequest, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest,
    NodeUnstageVolumeRequest, VolumeCapability, VolumeContentSource,
};
use lightningstor::VolumeServer;
use lightningstor::v1::volume_service_server::VolumeService;
use lightningstor::v1::{AttachVolumeRequest, CreateVolumeRequest as NewVolume, DeleteVolumeRequest as OldVolume, GetVolumeRequest, ListVolumesRequest};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use tonic::{Code, Request};

async fn bring_up(rig: &mut Rig, volume_id: &str, capability: VolumeCapability) -> PathBuf {
    let (staged, target) = (rig.path(&format!("staged-{volume_id}")), rig.path(&format!("target-{volume_id}")));
    let attach =
        ControllerPublishVolumeRequest { volume_id: volume_id.into(), node_id: NODE.into(), volume_capability: Some(capability.clone()), ..Default::default() };
    let context = rig.controller.controller_publish_volume(attach).await.unwrap().into_inner().publish_context;
    assert!(context["devicePath"].starts_with("/dev/loop"), "{context:?}");
    let (staging, target_path) = (staged.display().to_string(), target.display().to_string());
    let stage = NodeStageVolumeRequest {
        volume_id: volume_id.into(),
        staging_target_path: staging.clone(),
        volume_capability: Some(capability.clone()),
        ..Default::default()
    };
    rig.node.node_stage_volume(stage).await.unwrap();
    let publish = NodePublishVolumeRequest {
        volume_id: volume_id.into(),
        staging_target_path: staging,
        target_path,
        volume_capability: Some(capability),
        ..Default::default()
    };
    rig.node.node_publish_volume(publish).await.unwrap();
    target
}

async fn take_down(rig: &mut Rig, volume_id: &str) {
    let (staged, target) = (rig.path(&format!("staged-{volume_id}")), rig.path(&format!("target-{volume_id}")));
    let id = || volume_id.to_owned();
    rig.node.node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id: id(), target_path: target.display().to_string() }).await.unwrap();
    let detach = || ControllerUnpublishVolumeRequest { volume_id: id(), node_id: NODE.into(), ..Default::default() };
    if staged.exists() {
        let refused = rig.controller.controller_unpublish_volume(detach()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "it is still mounted: {refused:?}");
    }
    rig.node.node_unstage_volume(NodeUnstageVolumeRequest { volume_id: id(), staging_target_path: staged.display().to_string() }).await.unwrap();
    let refused = rig.controller.delete_volume(DeleteVolumeRequest { volume_id: id(), ..Default::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "it is still attached: {refused:?}");
    rig.controller.controller_unpublish_volume(detach()).await.unwrap();
    rig.controller.delete_volume(DeleteVolumeRequest { volume_id: id(), ..Default::default() }).await.unwrap();
}

async fn made(rig: &mut Rig, name: &str, mib: i64, capability: VolumeCapability, source: Option<Type>) -> String {
    let source = source.map(|source| VolumeContentSource { r#type: Some(source) });
    let request = csi::v1::CreateVolumeRequest { volume_content_source: source, ..create(name, mib, capability) };
    rig.controller.create_volume(request).await.unwrap().into_inner().volume.unwrap().volume_id
}

#[tokio::test]
async fn volumes_are_thin_hold_their_size_and_grow_while_mounted() {
    for (kind, mib, larger) in [("ext4", 64, 128), ("xfs", 320, 512)] {
        let mut rig = Rig::start().await;
        let id = made(&mut rig, "data", mib, mounts(kind), None).await;
        let target = bring_up(&mut rig, &id, mounts(kind)).await;
        assert!(rig.engine.allocated(&id).await.unwrap() < u64::try_from(mib * MIB).unwrap() * 2 / 3, "{kind} is not thin");
        let fill = |name: &str| std::fs::write(target.join(name), vec![1u8; usize::try_from(mib * MIB).unwrap()]);
        assert_eq!(fill("large").unwrap_err().kind(), std::io::ErrorKind::StorageFull, "{kind}");
        let range = Some(CapacityRange { required_bytes: larger * MIB, limit_bytes: 0 });
        let expand =
            ControllerExpandVolumeRequest { volume_id: id.clone(), capacity_range: range, volume_capability: Some(mounts(kind)), ..Default::default() };
        let expanded = rig.controller.controller_expand_volume(expand).await.unwrap().into_inner();
        assert_eq!((expanded.capacity_bytes, expanded.node_expansion_required), (larger * MIB, true));
        let path = target.display().to_string();
        let grow = NodeExpandVolumeRequest { volume_id: id.clone(), volume_path: path.clone(), capacity_range: range, ..Default::default() };
        if let Err(status) = rig.node.node_expand_volume(grow).await {
            // A process without CAP_SYS_RESOURCE, as in a container, can't grow a mounted ext4: it grows before it is mounted again.
            assert!(kind == "ext4" && status.code() == Code::FailedPrecondition && status.message().contains("CAP_SYS_RESOURCE"), "{status:?}");
            let (staged, id) = (rig.path(&format!("staged-{id}")).display().to_string(), id.clone());
            rig.node.node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: path.clone() }).await.unwrap();
            rig.node.node_unstage_volume(NodeUnstageVolumeRequest { volume_id: id.clone(), staging_target_path: staged }).await.unwrap();
            bring_up(&mut rig, &id, mounts(kind)).await;
        }
        fill("large").unwrap();
        let stats = NodeGetVolumeStatsRequest { volume_id: id.clone(), volume_path: path, ..Default::default() };
        let usage = rig.node.node_get_volume_stats(stats).await.unwrap().into_inner().usage;
        assert!(usage[0].total > (larger - 100) * MIB && usage[0].used >= mib * MIB && usage[1].total > 0, "{usage:?}");
        // What was freed goes back to the disk.
        std::fs::remove_file(target.join("large")).unwrap();
        nix::unistd::sync();
        take_down(&mut rig, &id).await;
        assert_eq!(rig.left(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn snapshots_and_clones_begin_with_their_sources_data() {
    let mut rig = Rig::start().await;
    let id = made(&mut rig, "data", 32, mounts("ext4"), None).await;
    let target = bring_up(&mut rig, &id, mounts("ext4")).await;
    std::fs::write(target.join("file"), "first").unwrap();
    let snapshot = CreateSnapshotRequest { source_volume_id: id.clone(), name: "then".into(), ..Default::default() };
    let taken = rig.controller.create_snapshot(snapshot.clone()).await.unwrap().into_inner().snapshot.unwrap();
    std::fs::write(target.join("file"), "second").unwrap();
    // The same again is the same snapshot, as it was.
    assert_eq!(rig.controller.create_snapshot(snapshot).await.unwrap().into_inner().snapshot.unwrap(), taken);
    assert!(taken.ready_to_use && taken.size_bytes == 32 * MIB);

    let restored = made(&mut rig, "restored", 48, mounts("ext4"), Some(Type::Snapshot(SnapshotSource { snapshot_id: taken.snapshot_id.clone() }))).await;
    let clone = made(&mut rig, "clone", 16, mounts("ext4"), Some(Type::Volume(VolumeSource { volume_id: id.clone() }))).await;
    let (from_snapshot, from_volume) = (bring_up(&mut rig, &restored, mounts("ext4")).await, bring_up(&mut rig, &clone, mounts("ext4")).await);
    assert_eq!(std::fs::read_to_string(from_snapshot.join("file")).unwrap(), "first");
    assert_eq!(std::fs::read_to_string(from_volume.join("file")).unwrap(), "second");
    // A copy that is larger than its source has a file system that is, too.
    let facts = nix::sys::statvfs::statvfs(&from_snapshot).unwrap();
    assert!(facts.blocks() * facts.fragment_size() > 34 << 20);
    // A volume outlives its snapshots and the other way round.
    for volume in [&restored, &clone, &id] {
        take_down(&mut rig, volume).await;
    }
    rig.engine.delete_snapshot(&taken.snapshot_id).await.unwrap();
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[tokio::test]
async fn raw_devices_are_given_as_they_are_and_survive_a_new_driver() {
    let mut rig = Rig::start().await;
    let id = made(&mut rig, "raw", 32, block(), None).await;
    let target = bring_up(&mut rig, &id, block()).await;
    let metadata = std::fs::metadata(&target).unwrap();
    assert!(metadata.file_type().is_block_device());
    let mut rig = rig.again().await;
    // The device that is there is found again, not made a second time.
    assert_eq!(std::fs::metadata(bring_up(&mut rig, &id, block()).await).unwrap().rdev(), metadata.rdev());
    rig.node.node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: target.display().to_string() }).await.unwrap();
    rig.controller
        .controller_unpublish_volume(ControllerUnpublishVolumeRequest { volume_id: id.clone(), node_id: NODE.into(), ..Default::default() })
        .await
        .unwrap();
    rig.controller.delete_volume(DeleteVolumeRequest { volume_id: id, ..Default::default() }).await.unwrap();
    assert_eq!(rig.left(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_possible_is_refused_with_the_reason() {
    let mut rig = Rig::start().await;
    let mut copies = create("a", 32, mounts("ext4"));
    copies.parameters.insert("replication".into(), "3".into());
    let refused = rig.controller.create_volume(copies).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "replication 3 is not possible: the engine of this cluster keeps 1 copy of a volume, on one node")
    );
    let available = rig.controller.get_capacity(GetCapacityRequest::default()).await.unwrap().into_inner().available_capacity;
    let refused = rig.controller.create_volume(create("b", available / MIB * 2, mounts("ext4"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let refused = rig.controller.create_volume(create("c", 32, mounts("ntfs"))).await.unwrap_err();
    assert_eq!(refused.message(), "file system \"ntfs\" is none of ext4, xfs");
    rig.controller.create_volume(create("d", 32, mounts("ext4"))).await.unwrap();
    assert_eq!(rig.controller.create_volume(create("d", 64, mounts("ext4"))).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn attributes_change_while_a_volume_is_in_use_and_last() {
    let mut rig = Rig::start().await;
    let with = |parameters: &[(&str, &str)]| parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let full = csi::v1::CreateVolumeRequest { mutable_parameters: with(&[("allocation", "full")]), ..create("a", 32, mounts("ext4")) };
    let id = rig.controller.create_volume(full).await.unwrap().into_inner().volume.unwrap().volume_id;
    let target = bring_up(&mut rig, &id, mounts("ext4")).await;
    let device = rig.engine.device(&id).await.unwrap();
    let queue = |name: &str| std::fs::read_to_string(format!("/sys/block/{}/queue/{name}", device.file_name().unwrap().display())).unwrap().trim().to_owned();
    let gives_back = || {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().find(|line| line.contains(target.to_str().unwrap())).unwrap().split(',').any(|option| option == "discard")
    };
    let bytes = u64::try_from(32 * MIB).unwrap();
    assert!(rig.engine.allocated(&id).await.unwrap() >= bytes);
    assert!(!gives_back());

    let modify = |parameters: &[(&str, &str)]| csi::v1::ControllerModifyVolumeRequest {
        volume_id: id.clone(),
        mutable_parameters: with(parameters),
        ..Default::default()
    };
    rig.controller.controller_modify_volume(modify(&[("allocation", "thin"), ("readAheadKiB", "64")])).await.unwrap();
    assert_eq!((queue("read_ahead_kb").as_str(), gives_back()), ("64", true));
    // What is not named stays, what is unknown changes nothing.
    rig.controller.controller_modify_volume(modify(&[("allocation", "full")])).await.unwrap();
    let refused = rig.controller.controller_modify_volume(modify(&[("allocation", "thin"), ("iops", "100")])).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "mutable parameter \"iops\" is none of allocation, readAheadKiB"));
    assert_eq!((queue("read_ahead_kb").as_str(), gives_back()), ("64", false));
    let grown = ControllerExpandVolumeRequest {
        volume_id: id.clone(),
        capacity_range: Some(CapacityRange { required_bytes: 48 * MIB, limit_bytes: 0 }),
        ..Default::default()
    };
    rig.controller.controller_expand_volume(grown).await.unwrap();
    assert!(rig.engine.allocated(&id).await.unwrap() >= bytes + bytes / 2);
    std::fs::write(target.join("file"), "kept").unwrap();

    // A driver that takes the place of this one knows them.
    let mut rig = rig.again().await;
    let attributes = rig.engine.get(&id).await.unwrap().attributes;
    assert_eq!((attributes.allocation, attributes.read_ahead), (lightningstor::Allocation::Full, Some(64)));
    assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), "kept");
    take_down(&mut rig, &id).await;
}

#[tokio::test]
async fn the_volume_service_tells_whose_volumes_are_and_what_they_take() {
    let rig = Rig::start().await;
    let service = VolumeServer::new(rig.engine.clone());
    let platform = Caller::component("test");
    for (name, project) in [("a", "p1"), ("b", "p1"), ("c", "p2")] {
        let new = NewVolume {
            name: name.into(),
            size_bytes: 32 * MIB,
            volume_type: "hdd".into(),
            org_id: "o".into(),
            project_id: project.into(),
            ..Default::default()
        };
        let volume = service.create_volume(platform.call(new)).await.unwrap().into_inner();
        assert_eq!((volume.status.as_str(), volume.volume_type.as_str(), volume.replication_factor), ("available", "hdd", 1));
        assert!(volume.allocated_bytes < MIB);
    }
    let list = ListVolumesRequest { org_id: "o".into(), project_id: "p1".into(), page_size: 1, ..Default::default() };
    let listed = service.list_volumes(platform.call(list.clone())).await.unwrap().into_inner();
    assert_eq!((listed.volumes.len(), listed.total_size_bytes), (1, 64 * MIB));
    let rest = service.list_volumes(platform.call(ListVolumesRequest { page_token: listed.next_page_token, ..list })).await.unwrap().into_inner();
    assert_eq!((rest.volumes.len(), rest.next_page_token.as_str()), (1, ""));
    let attach = AttachVolumeRequest { volume_id: rest.volumes[0].id.clone(), node_id: NODE.into(), attach_mode: "read-write".into() };
    let attached = service.attach_volume(platform.call(attach.clone())).await.unwrap().into_inner();
    assert!(attached.device_path.starts_with("/dev/loop") && attached.connection_info.contains(&attached.device_path));
    let elsewhere = service.attach_volume(platform.call(AttachVolumeRequest { node_id: "n2".into(), ..attach })).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::NotFound);
    rig.engine.release().await.unwrap();
    assert!(!rig.left().iter().any(|line| line.starts_with("device")));
}

#[tokio::test]
async fn a_project_has_its_own_volumes_and_nobody_elses() {
    let rig = Rig::start().await;
    let service = VolumeServer::new(rig.engine.clone());
    let member = |org: &str, project: &str| Caller { subject: "user-1".into(), org_id: org.into(), project_id: project.into(), ..Caller::default() };
    let (one, other) = (member("o", "p1"), member("o", "p2"));
    let admin = Caller { roles: ["org_admin".to_owned()].into(), ..member("o", "") };
    let new = NewVolume { name: "data".into(), size_bytes: 32 * MIB, volume_type: "ssd".into(), ..Default::default() };
    let mine = service.create_volume(one.call(new.clone())).await.unwrap().into_inner();
    let theirs = service.create_volume(other.call(new.clone())).await.unwrap().into_inner();
    assert!(mine.id != theirs.id && mine.name == "data" && theirs.name == "data", "two projects may call their volumes alike");
    assert_eq!((mine.org_id.as_str(), mine.project_id.as_str()), ("o", "p1"));
    assert_eq!(service.create_volume(one.call(new.clone())).await.unwrap().into_inner().id, mine.id, "once more is the same");

    let get = |id: &str| GetVolumeRequest { volume_id: id.into() };
    assert_eq!(service.get_volume(one.call(get(&theirs.id))).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(service.get_volume(admin.call(get(&theirs.id))).await.unwrap().into_inner().id, theirs.id);
    assert_eq!(service.get_volume(member("x", "p1").call(get(&mine.id))).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(service.get_volume(Request::new(get(&mine.id))).await.unwrap_err().code(), Code::Unauthenticated);
    let refused = service.create_volume(one.call(NewVolume { project_id: "p2".into(), ..new.clone() })).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let stolen = service.create_volume(one.call(NewVolume { name: "copy".into(), source_volume_id: theirs.id.clone(), ..new })).await.unwrap_err();
    assert_eq!(stolen.code(), Code::NotFound);
    let attach = AttachVolumeRequest { volume_id: theirs.id.clone(), node_id: NODE.into(), attach_mode: String::new() };
    assert_eq!(service.attach_volume(one.call(attach)).await.unwrap_err().code(), Code::NotFound);
    for (caller, count) in [(&one, 1), (&other, 1), (&admin, 2), (&member("x", "p1"), 0)] {
        assert_eq!(service.list_volumes(caller.call(ListVolumesRequest::default())).await.unwrap().into_inner().volumes.len(), count);
    }
    service.delete_volume(one.call(OldVolume { volume_id: theirs.id.clone() })).await.unwrap();
    assert_eq!(service.get_volume(other.call(get(&theirs.id))).await.unwrap().into_inner().id, theirs.id, "others' volumes are not there to be deleted");
}
