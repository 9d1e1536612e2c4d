//! Growing: the last step of an expansion, on the node, for a claim that waits for it (KEP-1790).
use super::record::Record;
use super::{CsiVolumes, PLUGIN, refused};
use crate::claim;
use crate::error::SetUpError;
use crate::referenced_objects::api_message;
use csi::v1::node_service_capability::rpc::Type as Rpc;
use csi::v1::{CapacityRange, NodeExpandVolumeRequest};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition, PersistentVolumeClaimStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::path::Path;

const PENDING: &str = "FileSystemResizePending";
const FAILED: &str = "NodeResizeError";
const NODE_IN_PROGRESS: &str = "NodeResizeInProgress";
const NODE_INFEASIBLE: &str = "NodeResizeInfeasible";

/// Whether a claim waits for its node; what the node called impossible waits for the resizer to begin anew.
fn waits(status: &PersistentVolumeClaimStatus) -> bool {
    let pending = status.conditions.iter().flatten().any(|condition| condition.type_ == PENDING && condition.status == "True");
    match status.allocated_resource_statuses.as_ref().and_then(|all| all.get("storage")).map(String::as_str) {
        None => pending,
        Some(state) => matches!(state, "NodeResizePending" | NODE_IN_PROGRESS),
    }
}

/// Whether the driver would say no again.
fn is_infeasible(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::OutOfRange | tonic::Code::NotFound)
}

/// What a refusal is to the claim's status. An error is told once, as its words may be others each time.
fn refusal(status: &PersistentVolumeClaimStatus, why: &tonic::Status, now: Time) -> Value {
    let mut conditions = status.conditions.clone().unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == FAILED) {
        let message = Some(format!("failed to expand pvc with rpc error: code = {:?} desc = {}", why.code(), why.message()));
        conditions.push(PersistentVolumeClaimCondition {
            type_: FAILED.into(),
            status: "True".into(),
            message,
            last_transition_time: Some(now),
            ..Default::default()
        });
    }
    let mut told = json!({ "conditions": conditions });
    if is_infeasible(why) {
        told["allocatedResourceStatuses"] = json!({"storage": NODE_INFEASIBLE});
    }
    told
}

impl CsiVolumes {
    /// Grows the file system of a published volume and tells the claim, if the claim waits for it.
    pub async fn grow(&self, client: kube::Client, now: Time, pod_directory: &Path, claim: &PersistentVolumeClaim) -> Result<(), SetUpError> {
        let status = claim.status.clone().unwrap_or_default();
        let Some(name) = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|_| waits(&status)) else { return Ok(()) };
        let failed = |error: kube::Error| SetUpError::Refused(format!("expanding volume {name}: {}", api_message(&error)));
        let volume = Api::<PersistentVolume>::all(client.clone()).get(&name).await.map_err(failed)?;
        let spec = volume.spec.unwrap_or_default();
        let capacity = spec.capacity.clone().unwrap_or_default();
        let required = capacity.get("storage").and_then(|quantity| api_meta::Quantity::parse(&quantity.0).ok()).map(|quantity| quantity.units());
        let (Some(source), Some(required_bytes)) = (spec.csi, required) else { return Ok(()) };
        let directory = pod_directory.join("volumes").join(PLUGIN).join(&name);
        let Some(record) = Record::read(&directory) else { return Ok(()) };
        let plugin = self.plugins.get(&source.driver).await.ok_or_else(|| claim::no_csi_driver(&source.driver))?;
        if plugin.can(Rpc::ExpandVolume) {
            let _turn = self.turn(&record).await;
            let staging = self.staging_directory(&record.driver, &record.volume_handle);
            let request = NodeExpandVolumeRequest {
                volume_id: source.volume_handle.clone(),
                volume_path: record.target(&directory).display().to_string(),
                capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
                staging_target_path: record.staged_at(&staging).display().to_string(),
                volume_capability: Some(csi::access::capability(
                    spec.access_modes.as_deref().unwrap_or_default(),
                    record.block,
                    source.fs_type.as_deref().unwrap_or_default(),
                    spec.mount_options.as_deref().unwrap_or_default(),
                    plugin.can(Rpc::SingleNodeMultiWriter),
                )),
                ..Default::default()
            };
            tell(&client, claim, json!({"allocatedResourceStatuses": {"storage": NODE_IN_PROGRESS}})).await.map_err(failed)?;
            if let Err(why) = plugin.node.clone().node_expand_volume(request).await {
                tell(&client, claim, refusal(&status, &why, now)).await.map_err(failed)?;
                return Err(refused("Expander.NodeExpand failed:", &why));
            }
        }
        let about_size = |kind: &str| matches!(kind, PENDING | FAILED | "Resizing" | "ControllerResizeError");
        let left: Vec<_> = status.conditions.into_iter().flatten().filter(|condition| !about_size(&condition.type_)).collect();
        tell(&client, claim, json!({"capacity": capacity, "conditions": left, "allocatedResourceStatuses": null})).await.map_err(failed)
    }
}

async fn tell(client: &kube::Client, claim: &PersistentVolumeClaim, status: Value) -> Result<(), kube::Error> {
    let patch = json!({"metadata": {"uid": claim.metadata.uid}, "status": status});
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), claim.metadata.namespace.as_deref().unwrap_or_default());
    claims.patch_status(claim.metadata.name.as_deref().unwrap_or_default(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PersistentVolumeClaimStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_node_grows_what_waits_for_it_and_leaves_what_it_refused() {
        let of = |state: &str| status(json!({"allocatedResourceStatuses": {"storage": state}, "conditions": [{"type": PENDING, "status": "True"}]}));
        assert!(waits(&of("NodeResizePending")) && waits(&of(NODE_IN_PROGRESS)));
        assert!(!waits(&of(NODE_INFEASIBLE)) && !waits(&of("ControllerResizeInProgress")));
        assert!(waits(&status(json!({"conditions": [{"type": PENDING, "status": "True"}]}))));
        assert!(!waits(&PersistentVolumeClaimStatus::default()));
    }

    #[test]
    fn a_refusal_is_told_once_and_what_can_never_be_is_given_up() {
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let told = refusal(&status(json!({})), &tonic::Status::out_of_range("too large"), now.clone());
        assert_eq!(told["allocatedResourceStatuses"]["storage"], NODE_INFEASIBLE);
        assert_eq!(told["conditions"][0]["message"], "failed to expand pvc with rpc error: code = OutOfRange desc = too large");
        let again = refusal(&status(told), &tonic::Status::internal("other words"), now);
        assert_eq!(again["conditions"].as_array().unwrap().len(), 1);
        assert!(again["allocatedResourceStatuses"].is_null());
    }
}
