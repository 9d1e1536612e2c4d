//! Stories of devices that pods claim.
use crate::story::{PODS, Step, Story, UID_OF, story};
use serde_json::{Value, json};

const DEVICE_CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/NAMESPACE/resourceclaims";
const SHARED: &str = "/apis/resource.k8s.io/v1/namespaces/NAMESPACE/resourceclaims/shared";
const USER: &str = "/api/v1/namespaces/NAMESPACE/pods/user";

/// One device of some class.
fn wanted() -> Value {
    json!({"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "some"}}]}})
}

fn user(claim: Value) -> Value {
    json!({"metadata": {"name": "user"}, "spec": {"resourceClaims": [claim],
        "containers": [{"name": "c", "image": "one", "resources": {"claims": [{"name": "device"}]}}]}})
}

pub fn a_claim_is_made_for_a_pod_and_goes_with_it() -> Story {
    let template = json!({"metadata": {"name": "kind"}, "spec": {"spec": wanted()}});
    story(
        &["resource-claim-controller", "garbage-collector-controller"],
        &[DEVICE_CLAIMS, PODS],
        vec![
            Step::Create("/apis/resource.k8s.io/v1/namespaces/NAMESPACE/resourceclaimtemplates", template),
            Step::Create(PODS, user(json!({"name": "device", "resourceClaimTemplateName": "kind"}))),
            Step::Delete(USER, "Background&gracePeriodSeconds=0"),
        ],
    )
}

pub fn a_pod_leaves_a_tainted_device_to_others() -> Story {
    let claim = json!({"metadata": {"name": "shared", "finalizers": ["resource.kubernetes.io/delete-protection"]}, "spec": wanted()});
    let device = json!({"request": "one", "driver": "NAMESPACE.example.com", "pool": "pool", "device": "device"});
    let reserved = json!({"resource": "pods", "name": "user", "uid": format!("{UID_OF}{USER}")});
    let rule = json!({"metadata": {"name": "NAMESPACE"}, "spec": {"deviceSelector": {"driver": "NAMESPACE.example.com"},
        "taint": {"key": "example.com/broken", "effect": "NoExecute"}}});
    story(
        &["device-taint-eviction-controller", "resource-claim-users-controller"],
        &[DEVICE_CLAIMS, PODS],
        vec![
            Step::Create(DEVICE_CLAIMS, claim),
            Step::Create(PODS, user(json!({"name": "device", "resourceClaimName": "shared"}))),
            // As the scheduler would.
            Step::Patch(
                "/apis/resource.k8s.io/v1/namespaces/NAMESPACE/resourceclaims/shared/status",
                json!({"status": {"allocation": {"devices": {"results": [device]}}, "reservedFor": [reserved]}}),
            ),
            Step::Create("/apis/resource.k8s.io/v1/devicetaintrules", rule),
            Step::Delete(SHARED, "Background"),
        ],
    )
}
