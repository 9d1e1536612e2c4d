//! Controller: volumes made, attached, grown, copied and taken away.
use super::{Driver, capabilities};
use crate::server::{signed, unsigned};
use crate::{Attributes, Error, NewVolume, Source, TOPOLOGY_KEY, kubernetes, plan};
use csi::v1::controller_server::Controller;
use csi::v1::controller_service_capability::rpc::Type as Rpc;
use csi::v1::controller_service_capability::{Rpc as RpcCapability, Type as CapabilityType};
use csi::v1::list_volumes_response::{Entry, VolumeStatus};
use csi::v1::validate_volume_capabilities_response::Confirmed;
use csi::v1::volume_content_source::{SnapshotSource, Type as SourceType, VolumeSource};
use csi::v1::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse,
    ControllerGetVolumeRequest, ControllerGetVolumeResponse, ControllerModifyVolumeRequest, ControllerModifyVolumeResponse, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, ControllerServiceCapability, ControllerUnpublishVolumeRequest, ControllerUnpublishVolumeResponse, CreateSnapshotRequest,
    CreateSnapshotResponse, CreateVolumeRequest, CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, DeleteVolumeRequest,
    DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse, ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse,
    Snapshot, Topology, TopologyRequirement, ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse, Volume, VolumeCondition,
    VolumeContentSource, controller_get_volume_response, list_snapshots_response,
};
use std::collections::BTreeMap;
use tonic::{Request, Response, Status};

const DEVICE: &str = "devicePath";

impl Driver {
    fn topology(&self) -> Topology {
        Topology { segments: BTreeMap::from([(TOPOLOGY_KEY.to_owned(), self.node_id.to_string())]) }
    }

    /// Whether a volume may lie here.
    fn is_accessible(&self, wanted: Option<&TopologyRequirement>) -> bool {
        let here = |topology: &Topology| topology.segments.get(TOPOLOGY_KEY).is_none_or(|node| **node == *self.node_id);
        wanted.is_none_or(|wanted| wanted.requisite.is_empty() || wanted.requisite.iter().any(here))
    }

    fn told(&self, volume: crate::Volume) -> Volume {
        Volume {
            capacity_bytes: signed(volume.size_bytes),
            volume_id: volume.id,
            volume_context: BTreeMap::from([("type".to_owned(), volume.volume_type)]),
            content_source: volume.source.map(|source| VolumeContentSource {
                r#type: Some(match source {
                    Source::Snapshot(snapshot_id) => SourceType::Snapshot(SnapshotSource { snapshot_id }),
                    Source::Volume(volume_id) => SourceType::Volume(VolumeSource { volume_id }),
                }),
            }),
            accessible_topology: vec![self.topology()],
        }
    }
}

fn named(what: &str, value: String) -> Result<String, Error> {
    if value.is_empty() { Err(Error::Invalid(format!("the {what} is missing"))) } else { Ok(value) }
}

fn range(range: Option<CapacityRange>) -> Result<(u64, u64), Error> {
    let range = range.unwrap_or_default();
    Ok((unsigned("required_bytes", range.required_bytes)?, unsigned("limit_bytes", range.limit_bytes)?))
}

fn source(source: Option<VolumeContentSource>) -> Result<Option<Source>, Error> {
    match source.map(|source| source.r#type) {
        None => Ok(None),
        Some(Some(SourceType::Snapshot(source))) => Ok(Some(Source::Snapshot(named("snapshot id", source.snapshot_id)?))),
        Some(Some(SourceType::Volume(source))) => Ok(Some(Source::Volume(named("source volume id", source.volume_id)?))),
        Some(None) => Err(Error::Invalid("the volume content source names no source".into())),
    }
}

fn entries_most(max_entries: i32) -> Result<usize, Error> {
    usize::try_from(max_entries).map_err(|_| Error::Invalid("max_entries must not be negative".into()))
}

fn told_snapshot(snapshot: crate::Snapshot) -> Snapshot {
    Snapshot {
        size_bytes: signed(snapshot.size_bytes),
        snapshot_id: snapshot.id,
        source_volume_id: snapshot.volume_id,
        creation_time: Some(prost_types::Timestamp { seconds: snapshot.created_at, nanos: 0 }),
        ready_to_use: true,
        group_snapshot_id: String::new(),
    }
}

fn published(volume: &crate::Volume) -> Vec<String> {
    volume.attached.iter().map(|attached| attached.node.clone()).collect()
}

#[tonic::async_trait]
impl Controller for Driver {
    async fn create_volume(&self, request: Request<CreateVolumeRequest>) -> Result<Response<CreateVolumeResponse>, Status> {
        let asked = request.into_inner();
        let name = named("name", asked.name)?;
        capabilities::check_all(&asked.volume_capabilities)?;
        let attributes = Attributes::default().with(&asked.mutable_parameters)?;
        let parameters = kubernetes::Parameters::parse(&asked.parameters)?;
        if !self.is_accessible(asked.accessibility_requirements.as_ref()) {
            return Err(Error::ResourceExhausted(format!("the volume is wanted on other nodes than {:?}, where this driver runs", self.node_id)).into());
        }
        let (size_bytes, limit_bytes) = range(asked.capacity_range)?;
        let new = NewVolume {
            name,
            size_bytes,
            limit_bytes,
            volume_type: parameters.volume_type,
            replication: parameters.replication,
            org_id: parameters.org_id,
            project_id: parameters.project_id,
            source: source(asked.volume_content_source)?,
            attributes,
        };
        let volume = self.engine.create(new).await?;
        Ok(Response::new(CreateVolumeResponse { volume: Some(self.told(volume)) }))
    }

    async fn delete_volume(&self, request: Request<DeleteVolumeRequest>) -> Result<Response<DeleteVolumeResponse>, Status> {
        self.engine.delete(&named("volume id", request.into_inner().volume_id)?).await?;
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn controller_publish_volume(&self, request: Request<ControllerPublishVolumeRequest>) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        let asked = request.into_inner();
        let (id, node) = (named("volume id", asked.volume_id)?, named("node id", asked.node_id)?);
        let capability = capabilities::check(asked.volume_capability.as_ref())?;
        let attachment = self.engine.attach(&id, &node, asked.readonly || (capability.read_only && capability.mount.is_none())).await?;
        let publish_context = BTreeMap::from([(DEVICE.to_owned(), attachment.device.display().to_string())]);
        Ok(Response::new(ControllerPublishVolumeResponse { publish_context }))
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        let asked = request.into_inner();
        self.engine.detach(&named("volume id", asked.volume_id)?, &asked.node_id).await?;
        Ok(Response::new(ControllerUnpublishVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let asked = request.into_inner();
        self.engine.get(&named("volume id", asked.volume_id)?).await?;
        if asked.volume_capabilities.is_empty() {
            return Err(Error::Invalid("the volume capabilities are missing".into()).into());
        }
        Ok(Response::new(match capabilities::check_all(&asked.volume_capabilities) {
            Err(error) => ValidateVolumeCapabilitiesResponse { confirmed: None, message: error.to_string() },
            Ok(()) => ValidateVolumeCapabilitiesResponse {
                confirmed: Some(Confirmed {
                    volume_context: asked.volume_context,
                    volume_capabilities: asked.volume_capabilities,
                    parameters: asked.parameters,
                    mutable_parameters: asked.mutable_parameters,
                }),
                message: String::new(),
            },
        }))
    }

    async fn list_volumes(&self, request: Request<ListVolumesRequest>) -> Result<Response<ListVolumesResponse>, Status> {
        let asked = request.into_inner();
        check_token(&asked.starting_token)?;
        let all = self.engine.list().await;
        let (page, next_token) = plan::page(&all, |volume| &volume.id, &asked.starting_token, entries_most(asked.max_entries)?);
        let entries = page.into_iter().map(|volume| Entry {
            status: Some(VolumeStatus { published_node_ids: published(&volume), volume_condition: None }),
            volume: Some(self.told(volume)),
        });
        Ok(Response::new(ListVolumesResponse { entries: entries.collect(), next_token }))
    }

    async fn get_capacity(&self, request: Request<GetCapacityRequest>) -> Result<Response<GetCapacityResponse>, Status> {
        let asked = request.into_inner();
        let elsewhere =
            asked.accessible_topology.as_ref().is_some_and(|topology| topology.segments.get(TOPOLOGY_KEY).is_some_and(|node| **node != *self.node_id));
        let possible = asked.volume_capabilities.iter().all(|capability| capabilities::check(Some(capability)).is_ok());
        if elsewhere || !possible {
            return Ok(Response::new(GetCapacityResponse::default()));
        }
        let parameters = kubernetes::Parameters::parse(&asked.parameters)?;
        let available = signed(self.engine.capacity(&parameters.volume_type).await?.available);
        let minimum_volume_size = Some(signed(plan::SMALLEST));
        Ok(Response::new(GetCapacityResponse { available_capacity: available, maximum_volume_size: Some(available), minimum_volume_size }))
    }

    async fn controller_get_capabilities(&self, _: Request<ControllerGetCapabilitiesRequest>) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let all = [
            Rpc::CreateDeleteVolume,
            Rpc::PublishUnpublishVolume,
            Rpc::ListVolumes,
            Rpc::GetCapacity,
            Rpc::CreateDeleteSnapshot,
            Rpc::ListSnapshots,
            Rpc::CloneVolume,
            Rpc::PublishReadonly,
            Rpc::ExpandVolume,
            Rpc::ListVolumesPublishedNodes,
            Rpc::VolumeCondition,
            Rpc::GetVolume,
            Rpc::SingleNodeMultiWriter,
            Rpc::ModifyVolume,
        ];
        let capability = |rpc: Rpc| ControllerServiceCapability { r#type: Some(CapabilityType::Rpc(RpcCapability { r#type: rpc as i32 })) };
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: all.map(capability).into() }))
    }

    async fn create_snapshot(&self, request: Request<CreateSnapshotRequest>) -> Result<Response<CreateSnapshotResponse>, Status> {
        let asked = request.into_inner();
        let (name, of) = (named("name", asked.name)?, named("source volume id", asked.source_volume_id)?);
        let snapshot = self.engine.create_snapshot(&name, &of).await?;
        Ok(Response::new(CreateSnapshotResponse { snapshot: Some(told_snapshot(snapshot)) }))
    }

    async fn delete_snapshot(&self, request: Request<DeleteSnapshotRequest>) -> Result<Response<DeleteSnapshotResponse>, Status> {
        self.engine.delete_snapshot(&named("snapshot id", request.into_inner().snapshot_id)?).await?;
        Ok(Response::new(DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(&self, request: Request<ListSnapshotsRequest>) -> Result<Response<ListSnapshotsResponse>, Status> {
        let asked = request.into_inner();
        check_token(&asked.starting_token)?;
        let takes = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
        let mut all = self.engine.snapshots().await;
        all.retain(|snapshot| takes(&asked.snapshot_id, &snapshot.id) && takes(&asked.source_volume_id, &snapshot.volume_id));
        let (page, next_token) = plan::page(&all, |snapshot| &snapshot.id, &asked.starting_token, entries_most(asked.max_entries)?);
        let entries = page.into_iter().map(|snapshot| list_snapshots_response::Entry { snapshot: Some(told_snapshot(snapshot)) });
        Ok(Response::new(ListSnapshotsResponse { entries: entries.collect(), next_token }))
    }

    async fn controller_expand_volume(&self, request: Request<ControllerExpandVolumeRequest>) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let asked = request.into_inner();
        let id = named("volume id", asked.volume_id)?;
        let (required, limit) = range(Some(asked.capacity_range.ok_or_else(|| Error::Invalid("the capacity range is missing".into()))?))?;
        let size = plan::size(required, limit)?;
        let volume = self.engine.expand(&id, size).await.map_err(|error| match error {
            // A volume grows where it lies or not at all: whoever asked may ask for less.
            Error::ResourceExhausted(why) => Error::OutOfRange(why),
            other => other,
        })?;
        if limit > 0 && volume.size_bytes > limit {
            return Err(Error::OutOfRange(format!("the volume has {} bytes already, and volumes don't shrink", volume.size_bytes)).into());
        }
        Ok(Response::new(ControllerExpandVolumeResponse {
            capacity_bytes: signed(volume.size_bytes),
            // A raw device grew with its image.
            node_expansion_required: !asked
                .volume_capability
                .is_some_and(|of| matches!(of.access_type, Some(csi::v1::volume_capability::AccessType::Block(_)))),
        }))
    }

    async fn controller_get_volume(&self, request: Request<ControllerGetVolumeRequest>) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        let volume = self.engine.get(&named("volume id", request.into_inner().volume_id)?).await?;
        let condition = match self.engine.allocated(&volume.id).await {
            Ok(_) => VolumeCondition { abnormal: false, message: "the image is there".into() },
            Err(error) => VolumeCondition { abnormal: true, message: error.to_string() },
        };
        let status = controller_get_volume_response::VolumeStatus { published_node_ids: published(&volume), volume_condition: Some(condition) };
        Ok(Response::new(ControllerGetVolumeResponse { volume: Some(self.told(volume)), status: Some(status) }))
    }

    async fn controller_modify_volume(&self, request: Request<ControllerModifyVolumeRequest>) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        let asked = request.into_inner();
        let volume = self.engine.get(&named("volume id", asked.volume_id)?).await?;
        self.engine.modify(&volume.id, volume.attributes.with(&asked.mutable_parameters)?).await?;
        Ok(Response::new(ControllerModifyVolumeResponse {}))
    }
}

/// A token that no answer gave is refused with the code that tells clients to begin anew.
fn check_token(token: &str) -> Result<(), Status> {
    if token.is_empty() || plan::is_id(token) { Ok(()) } else { Err(Status::aborted(format!("starting token {token:?} is none of this driver"))) }
}
