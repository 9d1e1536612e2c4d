//! VolumeService over gRPC: the engine for those who want volumes without Kubernetes.
use crate::v1::volume_service_server::{VolumeService, VolumeServiceServer};
use crate::v1::{
    AttachVolumeRequest, Capacity, CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest, DetachVolumeRequest, Empty,
    ExpandVolumeRequest, GetCapacityRequest, GetVolumeRequest, ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse, Snapshot,
    Volume, VolumeAttachment,
};
use crate::{Attributes, Engine, Error, NewVolume, Source, plan};
use cloud_api::{Caller, TokenVerifier};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// The service. Its callers see what belongs to their project, administrators of an organisation all of that one, and
/// the platform's own components everything. What is others' is not there.
pub struct VolumeServer {
    engine: Arc<dyn Engine>,
}

/// Serves volumes to callers with good tokens until `stop`.
pub async fn serve_volumes(
    engine: Arc<dyn Engine>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    verifier: Arc<dyn TokenVerifier>,
    stop: CancellationToken,
) {
    let routes = Routes::new(VolumeServiceServer::new(VolumeServer::new(engine)));
    cloud_api::serve(listener, tls, routes, verifier, stop).await;
}

impl VolumeServer {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// A volume that `caller` may use.
    async fn volume(&self, caller: &Caller, id: &str) -> Result<crate::Volume, Error> {
        let volume = self.engine.get(id).await?;
        if caller.may_use(&volume.org_id, &volume.project_id) { Ok(volume) } else { Err(Error::volume(id)) }
    }

    /// Whether a snapshot is `caller`'s: its volume's owner's. One whose volume is gone is the platform's.
    async fn owns(&self, caller: &Caller, snapshot: &crate::Snapshot) -> bool {
        caller.platform || self.volume(caller, &snapshot.volume_id).await.is_ok()
    }

    /// A snapshot that `caller` may use.
    async fn snapshot(&self, caller: &Caller, id: &str) -> Result<crate::Snapshot, Error> {
        let found = self.engine.snapshots().await.into_iter().find(|snapshot| snapshot.id == id);
        match found {
            Some(snapshot) if self.owns(caller, &snapshot).await => Ok(snapshot),
            _ => Err(Error::NotFound { what: "snapshot", id: id.into() }),
        }
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
            name: unscoped(&volume.name, &volume.org_id, &volume.project_id),
            id: volume.id,
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
        let caller = Caller::of(&request)?.clone();
        let asked = request.into_inner();
        // Who says nothing means their own.
        let or_own = |asked: String, own: &str| if asked.is_empty() { own.to_owned() } else { asked };
        let (org_id, project_id) = (or_own(asked.org_id, &caller.org_id), or_own(asked.project_id, &caller.project_id));
        if !caller.may_use(&org_id, &project_id) {
            return Err(Status::permission_denied(format!("volumes of project {project_id:?} of organisation {org_id:?} are others' to make")));
        }
        let source = source(asked.source_snapshot_id, asked.source_volume_id)?;
        match &source {
            Some(Source::Volume(id)) => drop(self.volume(&caller, id).await?),
            Some(Source::Snapshot(id)) => drop(self.snapshot(&caller, id).await?),
            None => {}
        }
        let new = NewVolume {
            name: scoped(&asked.name, &org_id, &project_id),
            size_bytes: unsigned("size_bytes", asked.size_bytes)?,
            limit_bytes: 0,
            volume_type: asked.volume_type,
            replication: match asked.replication_factor {
                0 => 1,
                factor => u32::try_from(factor).map_err(|_| Error::Invalid("replication_factor must not be negative".into()))?,
            },
            org_id,
            project_id,
            source,
            attributes: Attributes::default(),
        };
        let volume = self.engine.create(new).await?;
        Ok(Response::new(self.told(volume).await))
    }

    async fn delete_volume(&self, request: Request<DeleteVolumeRequest>) -> Result<Response<Empty>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().volume_id;
        match self.volume(&caller, &id).await {
            // What is gone, or was never seen, may be deleted once more.
            Err(Error::NotFound { .. }) => {}
            found => self.engine.delete(&found?.id).await?,
        }
        Ok(Response::new(Empty {}))
    }

    async fn attach_volume(&self, request: Request<AttachVolumeRequest>) -> Result<Response<VolumeAttachment>, Status> {
        let caller = Caller::of(&request)?.clone();
        let asked = request.into_inner();
        self.volume(&caller, &asked.volume_id).await?;
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
        let caller = Caller::of(&request)?.clone();
        let asked = request.into_inner();
        self.volume(&caller, &asked.volume_id).await?;
        self.engine.detach(&asked.volume_id, &asked.node_id).await?;
        Ok(Response::new(Empty {}))
    }

    async fn get_volume(&self, request: Request<GetVolumeRequest>) -> Result<Response<Volume>, Status> {
        let volume = self.volume(Caller::of(&request)?, &request.get_ref().volume_id).await?;
        Ok(Response::new(self.told(volume).await))
    }

    async fn list_volumes(&self, request: Request<ListVolumesRequest>) -> Result<Response<ListVolumesResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let asked = request.into_inner();
        let most = usize::try_from(asked.page_size).map_err(|_| Error::Invalid("page_size must not be negative".into()))?;
        let mut all = self.engine.list().await;
        let takes = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
        all.retain(|volume| caller.may_use(&volume.org_id, &volume.project_id));
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
        let caller = Caller::of(&request)?.clone();
        let asked = request.into_inner();
        self.volume(&caller, &asked.volume_id).await?;
        let volume = self.engine.expand(&asked.volume_id, unsigned("size_bytes", asked.size_bytes)?).await?;
        Ok(Response::new(self.told(volume).await))
    }

    async fn create_snapshot(&self, request: Request<CreateSnapshotRequest>) -> Result<Response<Snapshot>, Status> {
        let caller = Caller::of(&request)?.clone();
        let asked = request.into_inner();
        let volume = self.volume(&caller, &asked.volume_id).await?;
        let name = scoped(&asked.name, &volume.org_id, &volume.project_id);
        let snapshot = self.engine.create_snapshot(&name, &asked.volume_id).await?;
        Ok(Response::new(told(snapshot, Some(&volume))))
    }

    async fn delete_snapshot(&self, request: Request<DeleteSnapshotRequest>) -> Result<Response<Empty>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().snapshot_id;
        match self.snapshot(&caller, &id).await {
            Err(Error::NotFound { .. }) => {}
            found => self.engine.delete_snapshot(&found?.id).await?,
        }
        Ok(Response::new(Empty {}))
    }

    async fn list_snapshots(&self, request: Request<ListSnapshotsRequest>) -> Result<Response<ListSnapshotsResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let of = request.into_inner().volume_id;
        let mut snapshots = Vec::new();
        for snapshot in self.engine.snapshots().await.into_iter().filter(|snapshot| of.is_empty() || snapshot.volume_id == of) {
            match self.volume(&caller, &snapshot.volume_id).await {
                Ok(volume) => snapshots.push(told(snapshot, Some(&volume))),
                Err(_) if caller.platform => snapshots.push(told(snapshot, None)),
                Err(_) => {}
            }
        }
        Ok(Response::new(ListSnapshotsResponse { snapshots }))
    }

    async fn get_capacity(&self, request: Request<GetCapacityRequest>) -> Result<Response<Capacity>, Status> {
        Caller::of(&request)?;
        let capacity = self.engine.capacity(&request.into_inner().volume_type).await?;
        Ok(Response::new(Capacity {
            total_bytes: signed(capacity.total),
            available_bytes: signed(capacity.available),
            promised_bytes: signed(capacity.promised),
        }))
    }
}

/// The name in the engine, which knows no owners: two projects may call their volumes alike.
fn scoped(name: &str, org_id: &str, project_id: &str) -> String {
    if org_id.is_empty() || name.is_empty() { name.to_owned() } else { format!("{org_id}/{project_id}/{name}") }
}

fn unscoped(name: &str, org_id: &str, project_id: &str) -> String {
    name.strip_prefix(&format!("{org_id}/{project_id}/")).unwrap_or(name).to_owned()
}

/// `volume` is the one it is of, if that is still there.
fn told(snapshot: crate::Snapshot, volume: Option<&crate::Volume>) -> Snapshot {
    let name = volume.map_or_else(|| snapshot.name.clone(), |volume| unscoped(&snapshot.name, &volume.org_id, &volume.project_id));
    Snapshot { id: snapshot.id, name, volume_id: snapshot.volume_id, size_bytes: signed(snapshot.size_bytes), created_at: snapshot.created_at }
}
