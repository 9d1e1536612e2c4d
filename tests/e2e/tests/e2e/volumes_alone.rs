//! `k8shost lightningstor`: volumes made by gRPC, on a machine of their own, and its driver at a socket.
use crate::SOON;
use crate::service_alone::{Issuer, Running, channel, listens, outside, with_token};
use lightningstor::v1::volume_service_client::VolumeServiceClient;
use lightningstor::v1::{AttachVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest, DetachVolumeRequest, GetVolumeRequest, ListVolumesRequest};
use std::process::Stdio;
use testkit::{Host, Network, binary, wait_until};
use tonic::{Code, Request};

const MIB: i64 = 1 << 20;

#[test]
fn volumes_made_by_grpc_are_their_projects_and_outlive_the_service() {
    let network = Network::new();
    let host: Host = network.host();
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let issuer = Issuer::new();
    std::fs::write(path("jwks.json"), issuer.jwks()).expect("a file can be written");
    let start = || {
        let mut command = host.command(&binary().display().to_string());
        command.args(["lightningstor", "--data-dir", &path("data"), "--iam-jwks", &path("jwks.json"), "--node-name", "n1"]);
        command.args(["--csi-endpoint", &format!("unix://{}", path("csi.sock"))]);
        Running(command.stdin(Stdio::null()).spawn().expect("the server's binary runs"))
    };
    let running = start();
    let authority = || std::fs::read_to_string(directory.path().join("data/tls/ca.crt")).unwrap_or_default();
    wait_until("the API listens", SOON, || !authority().is_empty() && listens(&network, &host.address, 8000));
    wait_until("the driver has its socket", SOON, || directory.path().join("csi.sock").exists());

    let (one, other) = (issuer.token("org-1", "proj-1", 3600), issuer.token("org-1", "proj-2", 3600));
    let (address, pem, mine, theirs) = (format!("{}:8000", host.address), authority(), one.clone(), other.clone());
    let id = outside(&network, async move || {
        let mut client = VolumeServiceClient::new(channel(&address, "lightningstor", &pem).await);
        let new = CreateVolumeRequest { name: "data".into(), size_bytes: 64 * MIB, volume_type: "ssd".into(), ..Default::default() };
        assert_eq!(client.create_volume(Request::new(new.clone())).await.expect_err("it has no token").code(), Code::Unauthenticated);
        let volume = client.create_volume(with_token(&mine, new)).await.expect("it is made").into_inner();
        assert_eq!((volume.org_id.as_str(), volume.project_id.as_str(), volume.size_bytes), ("org-1", "proj-1", 64 * MIB));
        let get = GetVolumeRequest { volume_id: volume.id.clone() };
        assert_eq!(client.get_volume(with_token(&theirs, get)).await.expect_err("it is another project's").code(), Code::NotFound);
        let attach = AttachVolumeRequest { volume_id: volume.id.clone(), node_id: "n1".into(), attach_mode: String::new() };
        let attached = client.attach_volume(with_token(&mine, attach)).await.expect("it is attached").into_inner();
        assert!(attached.device_path.starts_with("/dev/loop"), "{attached:?}");
        volume.id
    });
    // Killed, it knows its volumes when it is started again, and what they are attached to.
    drop(running);
    let running = start();
    wait_until("the API listens again", SOON, || listens(&network, &host.address, 8000));
    let (address, pem) = (format!("{}:8000", host.address), authority());
    outside(&network, async move || {
        let mut client = VolumeServiceClient::new(channel(&address, "lightningstor", &pem).await);
        let listed = client.list_volumes(with_token(&one, ListVolumesRequest::default())).await.expect("they are listed").into_inner();
        assert_eq!(listed.volumes.iter().map(|volume| (volume.id.as_str(), volume.status.as_str())).collect::<Vec<_>>(), [(id.as_str(), "in-use")]);
        let none = client.list_volumes(with_token(&other, ListVolumesRequest::default())).await.expect("they are listed").into_inner();
        assert!(none.volumes.is_empty());
        client.detach_volume(with_token(&one, DetachVolumeRequest { volume_id: id.clone(), node_id: "n1".into() })).await.expect("it is detached");
        client.delete_volume(with_token(&one, DeleteVolumeRequest { volume_id: id })).await.expect("it is deleted");
    });
    let left = std::fs::read_dir(directory.path().join("data/ssd/volumes")).expect("the directory is there").count();
    let devices = String::from_utf8(std::process::Command::new("losetup").arg("-a").output().expect("losetup is installed").stdout).expect("text");
    assert!(!devices.contains(&path("data")), "{devices}");
    assert_eq!(left, 0, "the volume's files are gone");
    drop(running);
}
