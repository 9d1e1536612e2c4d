//! A disk that is too small: what does not fit is refused, changes nothing and leaves nothing.
use crate::rig::{MIB, Rig, create, mounts};
use csi::v1::{CapacityRange, ControllerExpandVolumeRequest, ControllerGetVolumeRequest, CreateSnapshotRequest, DeleteVolumeRequest, GetCapacityRequest};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let mut rig = Rig::on_a_disk_of(160).await;
    let huge = rig.controller.create_volume(create("huge", 1024, mounts("ext4"))).await.unwrap_err();
    assert_eq!(huge.code(), Code::ResourceExhausted, "{huge:?}");
    assert_eq!(rig.left(), Vec::<String>::new());

    let volume = rig.controller.create_volume(create("fits", 64, mounts("ext4"))).await.unwrap().into_inner().volume.unwrap();
    let expand = |mib: i64| ControllerExpandVolumeRequest {
        volume_id: volume.volume_id.clone(),
        capacity_range: Some(CapacityRange { required_bytes: mib * MIB, limit_bytes: 0 }),
        ..Default::default()
    };
    let refused = rig.controller.controller_expand_volume(expand(1024)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "who asked may ask for less: {refused:?}");
    let asked = ControllerGetVolumeRequest { volume_id: volume.volume_id.clone() };
    assert_eq!(rig.controller.controller_get_volume(asked).await.unwrap().into_inner().volume.unwrap().capacity_bytes, 64 * MIB);
    assert_eq!(rig.controller.controller_expand_volume(expand(96)).await.unwrap().into_inner().capacity_bytes, 96 * MIB);

    // What was written takes room: a copy of it does not fit any more.
    let image = rig.path("data/ssd/volumes").join(&volume.volume_id).join("image");
    OpenOptions::new().write(true).open(&image).unwrap().write_all_at(&vec![7; 90 << 20], 0).unwrap();
    let capacity = rig.controller.get_capacity(GetCapacityRequest { parameters: create("", 0, mounts("ext4")).parameters, ..Default::default() });
    let left = capacity.await.unwrap().into_inner().available_capacity;
    assert!(left < 80 * MIB, "{left} bytes are left");
    let snapshot = CreateSnapshotRequest { source_volume_id: volume.volume_id.clone(), name: "copy".into(), ..Default::default() };
    let refused = rig.controller.create_snapshot(snapshot.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(rig.left().len(), 1, "{:?}", rig.left());

    // Room that was made can be taken at once.
    let second = rig.controller.create_volume(create("second", 96, mounts("ext4"))).await.unwrap_err();
    assert_eq!(second.code(), Code::ResourceExhausted, "{second:?}");
    rig.controller.delete_volume(DeleteVolumeRequest { volume_id: volume.volume_id, ..Default::default() }).await.unwrap();
    let second = rig.controller.create_volume(create("second", 96, mounts("ext4"))).await.unwrap().into_inner().volume.unwrap();
    rig.controller.delete_volume(DeleteVolumeRequest { volume_id: second.volume_id, ..Default::default() }).await.unwrap();
    assert_eq!(rig.left(), Vec::<String>::new());
}
