//! Telling of the pod: its status to the API and to this node, and its deletion once it has ended.
use super::{Outcome, Worker};
use crate::pod::status::{Observed, is_over, is_terminal, status};
use crate::pod::status_patch::status_patch;
use crate::pod_table::PodView;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use std::sync::Arc;

impl Worker {
    fn status(&self, finished: bool, now: Timestamp) -> PodStatus {
        status(&self.observed(finished, &self.context.host_ips(), now))
    }

    /// Whether the pod's containers ended for good.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        is_over(&self.observed(false, &[], now))
    }

    fn observed<'a>(&'a self, finished: bool, host_ips: &'a [String], now: Timestamp) -> Observed<'a> {
        Observed {
            pod: &self.pod,
            old: &self.known,
            runtime: &self.runtime,
            probes: &self.probes,
            history: &self.history,
            to_restart: &self.to_restart,
            ending: self.ending.as_ref(),
            finished,
            host_ips,
            now,
        }
    }

    /// Publishes the status, writes it to the API where it differs, and deletes a pod that is done.
    pub(super) fn report(&mut self, finished: bool, now: Timestamp) {
        let status = self.status(finished, now);
        let mut view = Pod::clone(&self.pod);
        view.status = Some(status.clone());
        self.context.table.publish(self.key.clone(), PodView { pod: Arc::new(view), sandbox: self.runtime.sandbox().map(|s| s.id.clone()) });
        // With its pods stopped by the agent itself there is nothing to tell: they start again with it.
        if self.stopping || self.gone || self.writing {
            return;
        }
        // The last word was said, perhaps by an earlier agent; what it was said of is gone.
        let is_settled = self.known.phase.as_deref().is_some_and(is_terminal) && self.runtime.is_empty();
        match self.write_again_at {
            Some(at) if now < at => return self.wake(at),
            _ => self.write_again_at = None,
        }
        let api: Api<Pod> = Api::namespaced(self.context.client(&self.id), &self.key.namespace);
        let name = self.key.name.clone();
        if let Some(patch) = status_patch(&self.id.uid, &self.known, &status).filter(|_| !is_settled) {
            self.writing = true;
            self.operations.spawn(async move {
                let written = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                Outcome::Written(Box::new(written))
            });
            return;
        }
        if finished && self.pod.metadata.deletion_timestamp.is_some() && !self.deleting {
            self.deleting = true;
            let uid = self.id.uid.to_string();
            self.operations.spawn(async move {
                let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
                let parameters = DeleteParams { grace_period_seconds: Some(0), preconditions, ..Default::default() };
                Outcome::Deleted(api.delete(&name, &parameters).await.map(|_| ()))
            });
        }
    }
}
