//! NodeReporter: registers the Node and keeps its status and lease current.
use super::lease::{RENEW, renew};
use super::node_object::{Observation, differ, node, status};
use crate::AgentError;
use crate::context::AgentContext;
use crate::events::EventType;
use crate::machine;
use api_meta::ClusterName;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A status that did not change is written this often all the same.
const REPORT: SignedDuration = SignedDuration::from_mins(5);
/// How often a node that is not ready looks whether it is by now.
const LOOK: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_secs(1);

pub struct NodeReporter {
    context: Arc<AgentContext>,
    client: kube::Client,
    written: Option<(NodeStatus, Timestamp)>,
    lease: Option<Lease>,
    uid: Option<String>,
    was_ready: bool,
}

impl NodeReporter {
    pub fn new(context: Arc<AgentContext>) -> Self {
        let client = context.clients.cluster(&ClusterName::root());
        Self { context, client, written: None, lease: None, uid: None, was_ready: false }
    }

    /// Creates the Node, or takes over the one there is. Tries until it works or `shutdown`.
    pub async fn register(&mut self, shutdown: &CancellationToken) -> Result<(), AgentError> {
        loop {
            match self.try_register().await {
                Ok(()) => return Ok(()),
                // Refused for good: another try changes nothing.
                Err(error) if matches!(&error, kube::Error::Api(status) if matches!(status.code, 400 | 401 | 403 | 422)) => {
                    return Err(AgentError::Register { node: self.context.settings.node_name.clone(), source: Box::new(error) });
                }
                Err(error) => tracing::warn!(%error, "the node can't be registered yet"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn try_register(&mut self) -> Result<(), kube::Error> {
        let settings = &self.context.settings;
        let api: Api<Node> = Api::all(self.client.clone());
        let seen = self.observe().await;
        let now = self.context.clock.now();
        let existing = api.get_opt(&settings.node_name).await?;
        let registered = match existing {
            None => {
                let fresh = node(settings, status(settings, &self.context.machine, &seen, &[], now));
                api.create(&PostParams::default(), &fresh).await?
            }
            Some(existing) => {
                let wanted = node(settings, NodeStatus::default());
                let mut patch = json!({"metadata": {"labels": wanted.metadata.labels}});
                let has_range = existing.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
                if let Some(first) = settings.pod_cidrs.first().filter(|_| !has_range) {
                    patch["spec"] = json!({"podCIDR": first, "podCIDRs": settings.pod_cidrs});
                }
                api.patch(&settings.node_name, &PatchParams::default(), &Patch::Strategic(patch)).await?
            }
        };
        self.uid = registered.metadata.uid.clone();
        let before = registered.status.clone().unwrap_or_default();
        self.was_ready = is_ready(&before);
        self.write(&before, &seen, now).await?;
        self.context.events.node(&registered, EventType::Normal, "Starting", "Starting kubelet.");
        Ok(())
    }

    /// Keeps status and lease current until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut next_lease = self.context.clock.now();
        loop {
            let now = self.context.clock.now();
            if now >= next_lease {
                next_lease = self.renew_lease(now).await;
            }
            if let Err(error) = self.report(now).await {
                tracing::warn!(%error, "the node's status can't be written");
            }
            let wait = if self.was_ready { RENEW } else { LOOK };
            let until_lease = Duration::try_from(next_lease.duration_since(self.context.clock.now())).unwrap_or_default();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait.min(until_lease)) => {}
                // Who waits to detach a volume hears of it at once.
                () = self.context.volumes.in_use_changed() => {}
            }
        }
    }

    async fn renew_lease(&mut self, now: Timestamp) -> Timestamp {
        let before = self.lease.take();
        let node = &self.context.settings.node_name;
        let after = |wait: Duration| crate::pod::back_off::later(now, wait);
        match renew(&self.client, node, self.uid.as_deref(), &*self.context.clock, before).await {
            Ok(lease) => {
                self.lease = Some(lease);
                after(RENEW)
            }
            Err(error) => {
                tracing::warn!(%error, "the node's lease can't be renewed");
                after(RETRY)
            }
        }
    }

    async fn report(&mut self, now: Timestamp) -> Result<(), kube::Error> {
        let api: Api<Node> = Api::all(self.client.clone());
        let (seen, shown) = tokio::join!(self.observe(), api.get_opt(&self.context.settings.node_name));
        let Some((mut before, at)) = self.written.clone() else { return Ok(()) };
        let mut due = now.duration_since(at) >= REPORT;
        let shown = shown?.and_then(|node| node.status).unwrap_or_default();
        // Others write it too: a node that was silent for a while is marked so, and one that was deleted has nothing.
        if is_ready(&shown) != is_ready(&before) || shown.node_info.is_none() {
            (before, due) = (shown, true);
        }
        let conditions = before.conditions.as_deref().unwrap_or_default();
        let wanted = status(&self.context.settings, &self.context.machine, &seen, conditions, now);
        if due || differ(&before, &wanted) {
            self.write(&before, &seen, now).await?;
        }
        Ok(())
    }

    async fn write(&mut self, before: &NodeStatus, seen: &Observation, now: Timestamp) -> Result<(), kube::Error> {
        let conditions = before.conditions.as_deref().unwrap_or_default();
        let wanted = status(&self.context.settings, &self.context.machine, seen, conditions, now);
        let api: Api<Node> = Api::all(self.client.clone());
        let mut patch = json!({"status": wanted});
        // Addresses are merged by type: old ones would stay.
        if let Some(addresses) = patch["status"]["addresses"].as_array_mut() {
            addresses.insert(0, json!({"$patch": "replace"}));
        }
        let name = &self.context.settings.node_name;
        let answer = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        let written = match answer {
            // Someone deleted the Node: a node registers again, as upstream's does when it restarts.
            Err(error) if api_client::is_not_found(&error) => {
                let fresh = node(&self.context.settings, wanted.clone());
                api.create(&PostParams::default(), &fresh).await?;
                // A server may take no status along with a new object.
                api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?
            }
            answer => answer?,
        };
        self.uid = written.metadata.uid.clone();
        let ready = is_ready(&wanted);
        if ready != self.was_ready {
            let (reason, text) = if ready { ("NodeReady", "NodeReady") } else { ("NodeNotReady", "NodeNotReady") };
            self.context.events.node(&written, EventType::Normal, reason, format!("Node {} status is now: {text}", self.context.settings.node_name));
        }
        self.was_ready = ready;
        self.written = Some((wanted, now));
        Ok(())
    }

    async fn observe(&self) -> Observation {
        let runtime = &self.context.runtime;
        let (status, version, images) = tokio::join!(runtime.status(), runtime.version(), runtime.list_images());
        let status = status.ok();
        Observation {
            version: version.unwrap_or_default(),
            handlers: status.iter().flat_map(|s| s.runtime_handlers.iter().map(|h| h.name.clone())).collect(),
            runtime: status.and_then(|s| s.status).map(|s| s.conditions),
            images: images.unwrap_or_default(),
            available_memory: machine::available_memory(),
            file_system: machine::file_system(&self.context.settings.data_dir),
            processes: machine::processes(),
            volumes_in_use: self.context.volumes.in_use().await,
        }
    }
}

fn is_ready(status: &NodeStatus) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}
