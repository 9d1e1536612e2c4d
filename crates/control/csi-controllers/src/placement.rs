//! Placement: on which node the volume of a claim is made, where several could make it.
use crate::driver::Rpc;
use crate::provisioner::{Provisioner, SELECTED_NODE};
use controller_kit::{Error, ObjectKey, Preconditions, seconds_since, storage_class};
use csi::v1::GetCapacityRequest;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a node without room leaves a claim to others, and how often it looks whether they took it.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Provisioner {
    /// Takes a claim that nobody chose a node for. Of several nodes one's write counts; one that has room comes before one that has none.
    pub(crate) async fn choose(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, parameters: BTreeMap<String, String>, bytes: i64) -> Result<(), Error> {
        self.wait_for_others(claim, parameters, bytes).await?;
        let patch = json!({"metadata": {"annotations": {SELECTED_NODE: self.driver.facts.node_name}}});
        match self.claims.patch(key, "", &patch, &Preconditions::exactly(&claim.metadata)).await {
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets the scheduler choose another node where this one has no room.
    pub(crate) async fn reschedule(&self, key: &ObjectKey, claim: &PersistentVolumeClaim, status: &tonic::Status) -> Result<(), Error> {
        let class = storage_class::host_class_of(&self.classes, &key.cluster, claim);
        let chosen_for_pod = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
        if status.code() != tonic::Code::ResourceExhausted || !chosen_for_pod {
            return Ok(());
        }
        self.give_back(key, claim).await
    }

    pub(crate) async fn give_back(&self, key: &ObjectKey, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let patch = json!({"metadata": {"annotations": {SELECTED_NODE: null}}});
        match self.claims.patch(key, "", &patch, &Preconditions::uid_of(&claim.metadata)).await {
            Err(error) if !error.is_conflict() && !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets other nodes have a claim first that there is no room for here.
    async fn wait_for_others(&self, claim: &PersistentVolumeClaim, parameters: BTreeMap<String, String>, bytes: i64) -> Result<(), Error> {
        let late = claim.metadata.creation_timestamp.as_ref().is_none_or(|made| seconds_since(made, self.kit.now()) >= PATIENCE);
        if late || !self.driver.facts.can(Rpc::GetCapacity) {
            return Ok(());
        }
        let request = GetCapacityRequest { parameters, accessible_topology: self.driver.facts.topology.clone(), ..Default::default() };
        match self.driver.controller.clone().get_capacity(request).await {
            Ok(has) if has.get_ref().available_capacity < bytes => Err(Error::Later { after: LOOK_AGAIN, why: "another node may have room".into() }),
            // What is wrong with the class is told when the volume is asked for.
            _ => Ok(()),
        }
    }
}
