//! Stories of Services.
use crate::story::{ACCOUNTS, CONFIG_MAPS, DEPLOYMENTS, ENDPOINTS, PODS, SERVICES, SLICES, Step, Story, story, workload};
use clock::{Clock, ManualClock, SystemClock};
use serde_json::{Value, json};
use std::sync::Arc;

pub fn a_service_follows_its_pods() -> Story {
    story(
        &["endpointslice-controller", "endpoints-controller", "serviceaccount-controller", "root-ca-certificate-publisher-controller"],
        &[PODS, SLICES, ENDPOINTS, ACCOUNTS, CONFIG_MAPS],
        vec![
            Step::Create(SERVICES, json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})),
            Step::Create(DEPLOYMENTS, workload("web", json!({"replicas": 2}))),
            Step::Patch("/apis/apps/v1/namespaces/NAMESPACE/deployments/web", json!({"spec": {"replicas": 1}})),
            Step::Delete("/api/v1/namespaces/NAMESPACE/services/web", "Background"),
        ],
    )
}

pub fn endpoints_by_hand_are_mirrored() -> Story {
    let endpoints = |address: &str| json!({"metadata": {"name": "by-hand"}, "subsets": [{"addresses": [{"ip": address}], "ports": [{"port": 80}]}]});
    story(
        &["endpointslice-mirroring-controller"],
        &[ENDPOINTS, SLICES],
        vec![
            Step::Create(SERVICES, json!({"metadata": {"name": "by-hand"}, "spec": {"ports": [{"port": 80}]}})),
            Step::Create(ENDPOINTS, endpoints("192.0.2.1")),
            Step::Patch("/api/v1/namespaces/NAMESPACE/endpoints/by-hand", json!({"subsets": endpoints("192.0.2.2")["subsets"]})),
            Step::Delete("/api/v1/namespaces/NAMESPACE/services/by-hand", "Background"),
        ],
    )
}

pub fn ranges_and_addresses_are_put_right() -> Story {
    const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
    const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
    let held_for = |service: &str, labels: Value| {
        let parent = json!({"group": "", "resource": "services", "namespace": "NAMESPACE", "name": service});
        json!({"metadata": {"name": "10.97.0.7", "labels": labels}, "spec": {"parentRef": parent}})
    };
    let ours = json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
    let told = story(
        &["service-cidr-controller", "ipallocator-repair-controller", "ipallocator-repair-controller-addresses"],
        &[RANGES, ADDRESSES, SERVICES],
        vec![
            Step::Create(RANGES, json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/24"]}})),
            Step::Create(SERVICES, json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.97.0.5", "ports": [{"port": 80}]}})),
            Step::Delete("/apis/networking.k8s.io/v1/ipaddresses/10.97.0.5", "Background"),
            Step::Create(ADDRESSES, held_for("web", ours.clone())),
            Step::Create(ADDRESSES, held_for("nobody", ours)),
            Step::Patch("/apis/networking.k8s.io/v1/ipaddresses/10.97.0.5", json!({"metadata": {"labels": {"ipaddress.kubernetes.io/ip-family": "IPv6"}}})),
            Step::Delete("/apis/networking.k8s.io/v1/servicecidrs/more", "Background"),
            Step::Delete("/api/v1/namespaces/NAMESPACE/services/web", "Background"),
        ],
    );
    // A minute after all that is made, so that nobody waits for a Service to come.
    let later = SystemClock.now() + jiff::SignedDuration::from_mins(30);
    Story { clock: Arc::new(ManualClock::at(later)), ..told }
}
