//! VolumeService over gRPC: the engine for those who want volumes without Kubernetes.
use crate::v1::volume_service_server::VolumeService;
use crate::v1::{
    AttachVolumeRequest, Capacity, CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest, DetachVolumeRequest, Empty,
    ExpandVolumeRequest, GetCapacityRequest, GetVolumeRequest, ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse, Snapshot,
    Volume, VolumeAttachment,
};
use crate::{Engine, Error, NewVolume, Source, plan};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct VolumeServer {
    engine: Arc<dyn Engine>,
}

impl VolumeServer {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    async fn told(&self, volume: crate::Volume) -> Volume {
        // One that went meanwhile takes nothing.
        let allocated = self.engine.allocated(&volume.id).await.unwrap_or_default();
        Volume {
            status: if volume.attached.is_some() { "in-use" } else { "available" }.into(),
            size_bytes: signed(volume.size_bytes),
            replication_factor: i32::try_from(volume.replication).unwrap_or(i32::MAX),
            allocated_bytes: signed(allocated),
            attached_node_id: volume.attached.map(|attached| attached.node).unwrap_or_default(),
            id: volume.id,
            name: volume.name,
            volume_type: volume.volume_type,
            org_id: volume.org_id,
            project_id: volume.project_id,
        }
    }
}

pub fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub fn unsigned(what: &str, bytes: i64) -> Result<u64, Error> {
    u64::try_from(bytes).map_err(|_| Error::Invalid(format!("{what} must not be negative")))
}

/// The source that two fields of a request name, of which one at most may be set.
fn source(snapshot: String, volume: String) -> Result<Option<Source>, Error> {
    match (snapshot.is_empty(), volume.is_empty()) {
        (true, true) => Ok(None),
        (false, true) => Ok(Some(Source::Snapshot(snapshot))),
        (true, false) => Ok(Some(Source::Volume(volume))),
        (false, false) => Err(Error::Invalid("a volume begins with a snapshot or a volume, not with both".into())),
    }
}

#[tonic::async_trait]
impl VolumeService for VolumeServer {
    async fn create_volume(&self, request: Request<CreateVolumeRequest>) -> Result<Response<Volume>, Status> {
        let asked = request.into_inner();
        let new = NewVolume {
            name: asked.name,
            size_bytes: unsigned("size_bytes", asked.size_bytes)?,
            limit_bytes: 0,
            volume_type: asked.volume_type,
            replication: match asked.replication_factor {
                0 => 1,
                factor => u32::try_from(factor).map_err(|_| Error::Invalid("replication_factor must not be negative".into()))?,
            },
            org_id: asked.org_id,
            project_id: asked.project_id,
            source: source(asked.source_snapshot_id, asked.source_volume_id)?,
        };
        let volume = self.engine.create(new).await?;
        Ok(Response::new(self.told(volume).await))
    }

    async fn delete_volume(&self, request: Request<DeleteVolumeRequest>) -> Result<Response<Empty>, Status> {
        self.engine.delete(&request.into_inner().volume_id).await?;
        Ok(Response::new(Empty {}))
    }

    async fn attach_volume(&self, request: Request<AttachVolumeRequest>) -> Result<Response<VolumeAttachment>, Status> {
        let asked = request.into_inner();
        let read_only = match asked.attach_mode.as_str() {
            "" | "read-write" => false,
            "read-only" => true,
            other => return Err(Error::Invalid(format!("attach mode {other:?} is none of read-write, read-only")).into()),
        };
        let attachment = self.engine.attach(&asked.volume_id, &asked.node_id, read_only).await?;
        let device = attachment.device.display().to_string();
        Ok(Response::new(VolumeAttachment {
            id: format!("{}@{}", attachment.volume_id, attachment.node),
            volume_id: attachment.volume_id,
            node_id: attachment.node,
            connection_info: serde_json::json!({"type": "loop", "device": &device}).to_string(),
            device_path: device,
        }))
    }

    async fn detach_volume(&self, request: Request<DetachVolumeRequest>) -> Result<Response<Empty>, Status> {
        let asked = request.into_inner();
        self.engine.detach(&asked.volume_id, &asked.node_id).await?;
        Ok(Response::new(Empty {}))
    }

    async fn get_volume(&self, request: Request<GetVolumeRequest>) -> Result<Response<Volume>, Status> {
        let volume = self.engine.get(&request.into_inner().volume_id).await?;
        Ok(Response::new(self.told(volume).await))
    }

    async fn list_volumes(&self, request: Request<ListVolumesRequest>) -> Result<Response<ListVolumesResponse>, Status> {
        let asked = request.into_inner();
        let most = usize::try_from(asked.page_size).map_err(|_| Error::Invalid("page_size must not be negative".into()))?;
        let mut all = self.engine.list().await;
        let takes = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
        all.retain(|volume| takes(&asked.org_id, &volume.org_id) && takes(&asked.project_id, &volume.project_id));
        let total = all.iter().map(|volume| volume.size_bytes).sum();
        let (page, next_page_token) = plan::page(&all, |volume| &volume.id, &asked.page_token, most);
        let mut volumes = Vec::with_capacity(page.len());
        for volume in page {
            volumes.push(self.told(volume).await);
        }
        Ok(Response::new(ListVolumesResponse { volumes, next_page_token, total_size_bytes: signed(total) }))
    }

    async fn expand_volume(&self, request: Request<ExpandVolumeRequest>) -> Result<Response<Volume>, Status> {
        let asked = request.into_inner();
        let volume = self.engine.expand(&asked.volume_id, unsigned("size_bytes", asked.size_bytes)?).await?;
        Ok(Response::new(self.told(volume).await))
    }

    async fn create_snapshot(&self, request: Request<CreateSnapshotRequest>) -> Result<Response<Snapshot>, Status> {
        let asked = request.into_inner();
        Ok(Response::new(told(self.engine.create_snapshot(&asked.name, &asked.volume_id).await?)))
    }

    async fn delete_snapshot(&self, request: Request<DeleteSnapshotRequest>) -> Result<Response<Empty>, Status> {
        self.engine.delete_snapshot(&request.into_inner().snapshot_id).await?;
        Ok(Response::new(Empty {}))
    }

    async fn list_snapshots(&self, request: Request<ListSnapshotsRequest>) -> Result<Response<ListSnapshotsResponse>, Status> {
        let of = request.into_inner().volume_id;
        let all = self.engine.snapshots().await.into_iter().filter(|snapshot| of.is_empty() || snapshot.volume_id == of);
        Ok(Response::new(ListSnapshotsResponse { snapshots: all.map(told).collect() }))
    }

    async fn get_capacity(&self, request: Request<GetCapacityRequest>) -> Result<Response<Capacity>, Status> {
        let capacity = self.engine.capacity(&request.into_inner().volume_type).await?;
        Ok(Response::new(Capacity {
            total_bytes: signed(capacity.total),
            available_bytes: signed(capacity.available),
            promised_bytes: signed(capacity.promised),
        }))
    }
}

fn told(snapshot: crate::Snapshot) -> Snapshot {
    Snapshot { id: snapshot.id, name: snapshot.name, volume_id: snapshot.volume_id, size_bytes: signed(snapshot.size_bytes), created_at: snapshot.created_at }
}
