//! Story: what users do, one thing after the other, and what is compared in the end.
use api_client::kube;
use clock::{Clock, SystemClock};
use controller_kit::{CancellationToken, Kit, Roster};
use controllers::ControllersSettings;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// In a body, followed by a path: the uid of what is there.
pub const UID_OF: &str = "uid of ";

/// One thing a user does. Paths and bodies may say `NAMESPACE`, which is another at each telling.
pub enum Step {
    Create(&'static str, Value),
    /// A JSON merge patch, also of a subresource.
    Patch(&'static str, Value),
    Delete(&'static str, &'static str),
}

/// Each step is taken when all that came of the one before is done.
pub struct Story {
    /// The controllers it is about: each of them writes something in it.
    pub of: &'static [&'static str],
    pub steps: Vec<Step>,
    /// Collections that are compared, with a query if need be.
    pub looks_at: &'static [&'static str],
    /// Fields that differ from one telling to the next.
    pub but: &'static [&'static str],
    pub settings: ControllersSettings,
    pub clock: Arc<dyn Clock>,
    pub others: Option<Others>,
    /// After how many writes lives end. One is the hardest: nothing that is known outlives any write. In longer ones, some
    /// of what was decided together is done, and the rest must be decided again.
    pub lives: &'static [usize],
}

/// Controllers beside those that every server runs.
pub struct Others {
    /// Puts there what must be there before they begin.
    pub prepare: fn(kube::Client) -> BoxFuture<'static, ()>,
    pub rosters: Arc<dyn Fn(Kit, CancellationToken) -> BoxFuture<'static, Vec<Roster>> + Send + Sync>,
}

impl Story {
    /// All that run in it, the server's own first.
    pub async fn rosters(&self, kit: &Kit, shutdown: &CancellationToken) -> Vec<Roster> {
        let mut all = vec![controllers::roster(&self.settings, kit, shutdown.clone())];
        if let Some(others) = &self.others {
            all.extend((others.rosters)(kit.clone(), shutdown.clone()).await);
        }
        all
    }
}

pub fn story(of: &'static [&'static str], looks_at: &'static [&'static str], steps: Vec<Step>) -> Story {
    let mut settings = ControllersSettings::new("PEM");
    // Nobody renews the leases of nodes here.
    settings.node_monitor_grace_period = Duration::from_secs(86_400);
    Story { of, steps, looks_at, but: &[], settings, clock: Arc::new(SystemClock), others: None, lives: &[1, 3] }
}

pub const NODES: &str = "/api/v1/nodes";
pub const PODS: &str = "/api/v1/namespaces/NAMESPACE/pods";
pub const SERVICES: &str = "/api/v1/namespaces/NAMESPACE/services";
pub const CLAIMS: &str = "/api/v1/namespaces/NAMESPACE/persistentvolumeclaims";
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/NAMESPACE/configmaps";
pub const ACCOUNTS: &str = "/api/v1/namespaces/NAMESPACE/serviceaccounts";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/NAMESPACE/deployments";
pub const REPLICA_SETS: &str = "/apis/apps/v1/namespaces/NAMESPACE/replicasets";
pub const REVISIONS: &str = "/apis/apps/v1/namespaces/NAMESPACE/controllerrevisions";
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/NAMESPACE/endpointslices";
pub const ENDPOINTS: &str = "/api/v1/namespaces/NAMESPACE/endpoints";

/// `value` with more fields in its `part`.
pub fn with(mut value: Value, part: &str, fields: Value) -> Value {
    let place = value[part].as_object_mut().unwrap();
    place.extend(fields.as_object().unwrap().clone());
    value
}

pub fn template(app: &str, labels: Value) -> Value {
    let template = json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": "one"}]}});
    with(template.clone(), "metadata", json!({"labels": with(template["metadata"].clone(), "labels", labels)["labels"]}))
}

pub fn workload(app: &str, fields: Value) -> Value {
    let value = json!({"metadata": {"name": app}, "spec": {"selector": {"matchLabels": {"app": app}}, "template": template(app, json!({}))}});
    with(value, "spec", fields)
}

pub fn image(name: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}})
}

/// A node of the telling that is ready, or not.
pub fn node(name: &str, ready: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"of": "NAMESPACE"}}, "status": {"conditions": [{"type": "Ready", "status": ready}],
        "allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"}}})
}
