//! Node: devices formatted and mounted for pods, and taken down.
use super::Driver;
use super::capabilities::{self, Capability, Mount};
use crate::server::signed;
use crate::{Allocation, Error, Filesystem, Volume, filesystem, mounts};
use csi::v1::node_server::Node;
use csi::v1::node_service_capability::rpc::Type as Rpc;
use csi::v1::node_service_capability::{Rpc as RpcCapability, Type as CapabilityType};
use csi::v1::volume_usage::Unit;
use csi::v1::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, VolumeCondition,
    VolumeUsage,
};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use tonic::{Request, Response, Status};

impl Driver {
    /// Runs blocking work in the turn of a volume's mounts.
    async fn blocking<T: Send + 'static>(&self, id: &str, work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
        self.turns.take(id, work).await
    }

    async fn stage(&self, volume: Volume, device: PathBuf, point: PathBuf, mount: Mount, read_only: bool) -> Result<(), Error> {
        let kind = match volume.filesystem {
            Some(filesystem) if filesystem.kind != mount.kind => {
                let (has, wants) = (filesystem.kind.name(), mount.kind.name());
                return Err(Error::Invalid(format!("volume {:?} has the file system {has}, not {wants}", volume.id)));
            }
            Some(_) => None,
            None => Some(mount.kind),
        };
        let mut options = mount.options;
        if read_only {
            options.push("ro".into());
        }
        let (engine, runtime) = (self.engine.clone(), tokio::runtime::Handle::current());
        self.blocking(&volume.id.clone(), move || {
            // Asked for again in this turn: what came before it may have formatted the volume.
            let mut current = runtime.block_on(engine.get(&volume.id))?;
            if let (Some(kind), None) = (kind, current.filesystem) {
                filesystem::format(&device, kind)?;
                let made = Filesystem { kind, size_bytes: current.size_bytes };
                // INVARIANT: what is remembered as formatted was formatted to the end, and is never formatted again.
                runtime.block_on(engine.set_filesystem(&volume.id, made))?;
                current.filesystem = Some(made);
            }
            let has = current.filesystem.expect("it was there or has just been made");
            let mut options = options;
            if current.attributes.allocation == Allocation::Full {
                options.push("nodiscard".into());
            }
            make_directory(&point)?;
            let grown = filesystem::mount(&device, &point, has, current.size_bytes, &options)?;
            if grown {
                runtime.block_on(engine.set_filesystem(&volume.id, Filesystem { size_bytes: current.size_bytes, ..has }))?;
            }
            Ok(())
        })
        .await
    }
}

fn at(what: &str, path: &str) -> Result<PathBuf, Error> {
    match Path::new(path) {
        _ if path.is_empty() => Err(Error::Invalid(format!("the {what} is missing"))),
        path if !path.is_absolute() => Err(Error::Invalid(format!("the {what} {} is not absolute", path.display()))),
        path => Ok(path.to_owned()),
    }
}

fn id(id: String) -> Result<String, Error> {
    if id.is_empty() { Err(Error::Invalid("the volume id is missing".into())) } else { Ok(id) }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(Error::io("creating", path))
}

fn publish_mount(staged: &Path, target: &Path, read_only: bool) -> Result<(), Error> {
    if !mounts::is_mounted(staged)? {
        return Err(Error::FailedPrecondition(format!("nothing is staged at {}", staged.display())));
    }
    make_directory(target)?;
    if mounts::is_mounted(target)? {
        // The bind may have been made and its flags not, when somebody died between the two.
        return if read_only { mounts::remount_read_only(target) } else { Ok(()) };
    }
    mounts::bind(staged, target, read_only)
}

fn publish_device(device: &Path, target: &Path) -> Result<(), Error> {
    if let Some(parent) = target.parent() {
        make_directory(parent)?;
    }
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(target)
        .map(drop)
        .or_else(|error| if target.exists() { Ok(()) } else { Err(error) })
        .map_err(Error::io("creating", target))?;
    if mounts::is_mounted(target)? { Ok(()) } else { mounts::bind(device, target, false) }
}

/// Unmounts and removes the directory or file. INVARIANT: what is removed is empty, and nothing is mounted there.
fn take_down(target: &Path) -> Result<(), Error> {
    mounts::unmount(target)?;
    let removed = match fs::symlink_metadata(target) {
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir(target),
        Ok(_) => fs::remove_file(target),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", target)(error)),
        _ => Ok(()),
    }
}

fn usage(path: &Path) -> Result<Vec<VolumeUsage>, Error> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound { what: "volume path", id: path.display().to_string() },
        _ => Error::io("reading", path)(error),
    })?;
    if metadata.file_type().is_block_device() {
        let mut device = fs::File::open(path).map_err(Error::io("opening", path))?;
        let size = io::Seek::seek(&mut device, io::SeekFrom::End(0)).map_err(Error::io("measuring", path))?;
        return Ok(vec![VolumeUsage { total: signed(size), unit: Unit::Bytes as i32, ..Default::default() }]);
    }
    let facts = nix::sys::statvfs::statvfs(path).map_err(|errno| Error::io("measuring", path)(errno.into()))?;
    let bytes = |blocks: u64| signed(blocks * facts.fragment_size());
    Ok(vec![
        VolumeUsage {
            available: bytes(facts.blocks_available()),
            total: bytes(facts.blocks()),
            used: bytes(facts.blocks() - facts.blocks_free()),
            unit: Unit::Bytes as i32,
        },
        VolumeUsage {
            available: signed(facts.files_available()),
            total: signed(facts.files()),
            used: signed(facts.files() - facts.files_free()),
            unit: Unit::Inodes as i32,
        },
    ])
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_stage_volume(&self, request: Request<NodeStageVolumeRequest>) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let asked = request.into_inner();
        let (id, point) = (id(asked.volume_id)?, at("staging target path", &asked.staging_target_path)?);
        let Capability { mount, read_only } = capabilities::check(asked.volume_capability.as_ref())?;
        let volume = self.engine.get(&id).await?;
        // Found or made: the machine may have been started again since it was attached.
        let device = self.engine.device(&id).await?;
        let read_only = read_only || volume.attached.as_ref().is_some_and(|attached| attached.read_only);
        if let Some(mount) = mount {
            self.stage(volume, device, point, mount, read_only).await?;
        }
        Ok(Response::new(NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(&self, request: Request<NodeUnstageVolumeRequest>) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let asked = request.into_inner();
        let (id, point) = (id(asked.volume_id)?, at("staging target path", &asked.staging_target_path)?);
        self.blocking(&id, move || take_down(&point)).await?;
        Ok(Response::new(NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(&self, request: Request<NodePublishVolumeRequest>) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let asked = request.into_inner();
        let (id, target, staged) = (id(asked.volume_id)?, at("target path", &asked.target_path)?, asked.staging_target_path);
        let capability = capabilities::check(asked.volume_capability.as_ref())?;
        self.engine.get(&id).await?;
        if capability.mount.is_some() {
            let (staged, read_only) = (at("staging target path", &staged)?, asked.readonly || capability.read_only);
            self.blocking(&id, move || publish_mount(&staged, &target, read_only)).await?;
        } else {
            let device = self.engine.device(&id).await?;
            self.blocking(&id, move || publish_device(&device, &target)).await?;
        }
        Ok(Response::new(NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(&self, request: Request<NodeUnpublishVolumeRequest>) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let asked = request.into_inner();
        let (id, target) = (id(asked.volume_id)?, at("target path", &asked.target_path)?);
        self.blocking(&id, move || take_down(&target)).await?;
        Ok(Response::new(NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(&self, request: Request<NodeGetVolumeStatsRequest>) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let asked = request.into_inner();
        let (id, path) = (id(asked.volume_id)?, at("volume path", &asked.volume_path)?);
        self.engine.get(&id).await?;
        let usage = self.blocking(&id, move || usage(&path)).await?;
        let volume_condition = Some(VolumeCondition { abnormal: false, message: "the volume answers".into() });
        Ok(Response::new(NodeGetVolumeStatsResponse { usage, volume_condition }))
    }

    async fn node_expand_volume(&self, request: Request<NodeExpandVolumeRequest>) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let asked = request.into_inner();
        let (id, path) = (id(asked.volume_id)?, at("volume path", &asked.volume_path)?);
        let volume = self.engine.get(&id).await?;
        if !path.exists() {
            return Err(Error::NotFound { what: "volume path", id: path.display().to_string() }.into());
        }
        let block = asked.volume_capability.is_some_and(|of| matches!(of.access_type, Some(csi::v1::volume_capability::AccessType::Block(_))));
        let size = volume.size_bytes;
        if let Some(has) = volume.filesystem.filter(|has| !block && has.size_bytes < size) {
            let device = self.engine.device(&id).await?;
            self.blocking(&id, move || filesystem::grow(&device, &path, has.kind)).await?;
            self.engine.set_filesystem(&id, Filesystem { size_bytes: size, ..has }).await?;
        }
        Ok(Response::new(NodeExpandVolumeResponse { capacity_bytes: signed(size) }))
    }

    async fn node_get_capabilities(&self, _: Request<NodeGetCapabilitiesRequest>) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let all = [Rpc::StageUnstageVolume, Rpc::GetVolumeStats, Rpc::ExpandVolume, Rpc::VolumeCondition, Rpc::SingleNodeMultiWriter];
        let capability = |rpc: Rpc| NodeServiceCapability { r#type: Some(CapabilityType::Rpc(RpcCapability { r#type: rpc as i32 })) };
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: all.map(capability).into() }))
    }

    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        let segments = std::collections::BTreeMap::from([(crate::TOPOLOGY_KEY.to_owned(), self.node_id.to_string())]);
        let accessible_topology = Some(csi::v1::Topology { segments });
        Ok(Response::new(NodeGetInfoResponse { node_id: self.node_id.to_string(), max_volumes_per_node: 0, accessible_topology }))
    }
}
