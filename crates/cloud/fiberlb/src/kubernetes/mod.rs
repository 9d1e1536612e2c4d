//! Kubernetes' side: what gives LoadBalancer Services and Ingresses their addresses, and tells so.
mod ingress;
mod ledger;
mod node_ports;
mod service;

use crate::ControllerSettings;
use controller_kit::{CancellationToken, Kit};
use ingress::IngressController;
use serde_json::{Value, json};
use service::ServiceController;
use std::sync::Arc;

/// The class of LoadBalancer Services that is ours by name; those that name none are ours too.
pub const LOAD_BALANCER_CLASS: &str = "plasmacloud.io/fiberlb";

/// Runs the controllers for all clusters until `shutdown`. Must be called inside a tokio runtime.
pub async fn run(settings: ControllerSettings, kit: Kit, shutdown: CancellationToken) {
    let (kit, settings) = (kit.managed_by("fiberlb"), Arc::new(settings));
    let services = tokio::spawn(ServiceController::runner(&kit, settings.clone()).run(shutdown.clone()));
    let ingresses = tokio::spawn(IngressController::runner(&kit, settings).run(shutdown));
    for task in [services, ingresses] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a controller of load balancers panicked");
        }
    }
}

/// The IngressClass that every cluster has.
pub fn ingress_class() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": { "name": crate::ingress_plan::CLASS, "annotations": { "ingressclass.kubernetes.io/is-default-class": "true" } },
        "spec": { "controller": crate::ingress_plan::CONTROLLER },
    })
}
