//! A driver of its own for each test, and what it has put on this machine.
#![allow(dead_code, reason = "two test programs use it, neither all of it")]
use csi::v1::controller_client::ControllerClient;
use csi::v1::node_client::NodeClient;
use csi::v1::volume_capability::access_mode::Mode;
use csi::v1::volume_capability::{AccessMode, AccessType, MountVolume};
use csi::v1::{CapacityRange, CreateVolumeRequest, VolumeCapability};
use lightningstor::{Driver, Engine, FileEngine, LightningStorSettings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

pub const NODE: &str = "n1";
pub const MIB: i64 = 1 << 20;

pub struct Rig {
    place: Arc<Place>,
    pub engine: Arc<dyn Engine>,
    pub controller: ControllerClient<Channel>,
    pub node: NodeClient<Channel>,
    _stop: DropGuard,
}

impl Rig {
    pub async fn start() -> Self {
        Self::over(Arc::new(Place(tempfile::tempdir().unwrap()))).await
    }

    /// With a file system of its own, of so many MiB, for all it keeps.
    pub async fn on_a_disk_of(mib: u32) -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        let options = format!("size={mib}m");
        nix::mount::mount(Some("none"), place.0.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), Some(options.as_str())).unwrap();
        Self::over(Arc::new(place)).await
    }

    /// A driver over what an earlier one has left.
    async fn over(place: Arc<Place>) -> Self {
        let settings = LightningStorSettings::under(&place.0.path().join("data"), NODE);
        let engine: Arc<dyn Engine> = Arc::new(FileEngine::open(settings, Arc::new(clock::SystemClock)).unwrap());
        let socket = place.socket();
        let stop = CancellationToken::new();
        let (driver, path, token) = (Driver::new(engine.clone(), NODE), socket.clone(), stop.clone());
        let channel = csi::channel(&socket);
        tokio::spawn(async move { lightningstor::serve(driver, &path, None, token).await.unwrap() });
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        Self { place, engine, controller: ControllerClient::new(channel.clone()), node: NodeClient::new(channel), _stop: stop.drop_guard() }
    }

    /// Another driver takes over.
    pub async fn again(self) -> Self {
        let place = self.place.clone();
        drop(self);
        Self::over(place).await
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path(name)
    }

    pub fn left(&self) -> Vec<String> {
        self.place.left()
    }
}

/// Where it all lies; it outlives drivers that die.
pub struct Place(pub TempDir);

impl Place {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    /// Another one each time: what an earlier driver listened on must not be dialled.
    pub fn socket(&self) -> PathBuf {
        self.0.path().join(format!("csi-{}.sock", clock::random_suffix(8)))
    }

    /// Loop devices, mounts and files that are there of volumes.
    pub fn left(&self) -> Vec<String> {
        let below = self.path("");
        let mut left: Vec<String> = loop_devices(&below).iter().map(|device| format!("device {device}")).collect();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).filter(|point| Path::new(point) != below && Path::new(point).starts_with(&below));
        left.extend(points.map(|point| format!("mount {point}")));
        for kind in ["ssd", "hdd"] {
            for part in ["volumes", "snapshots", "unfinished"] {
                let entries = std::fs::read_dir(below.join("data").join(kind).join(part)).unwrap().flatten();
                left.extend(entries.map(|entry| format!("file {}", entry.path().display())));
            }
        }
        left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let below = self.0.path().canonicalize().unwrap_or_default();
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for point in table.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|point| Path::new(point).starts_with(&below)) {
            // A test that failed halfway leaves nothing either.
            let _ = nix::mount::umount2(Path::new(point), nix::mount::MntFlags::MNT_DETACH);
        }
        for device in loop_devices(&below) {
            let _ = std::process::Command::new("losetup").args(["--detach", &device]).status();
        }
    }
}

fn loop_devices(below: &Path) -> Vec<String> {
    let entries = std::fs::read_dir("/sys/block").unwrap().flatten();
    let backed = entries.filter(|entry| {
        let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        Path::new(file.trim_end()).starts_with(below)
    });
    backed.map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy())).collect()
}

pub fn mounts(kind: &str) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume { fs_type: kind.into(), ..Default::default() })),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter as i32 }),
    }
}

pub fn block() -> VolumeCapability {
    VolumeCapability { access_type: Some(AccessType::Block(Default::default())), access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter as i32 }) }
}

pub fn create(name: &str, mib: i64, capability: VolumeCapability) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: mib * MIB, limit_bytes: 0 }),
        volume_capabilities: vec![capability],
        parameters: BTreeMap::from([("type".into(), "ssd".into()), ("replication".into(), "1".into())]),
        ..Default::default()
    }
}
