//! The device requests of ResourceClaims and their templates.
use crate::fields::Fill;
use serde_json::Value;

/// Defaults a ResourceClaimSpec.
pub fn default(spec: &mut Value) {
    let Some(devices) = spec.child("devices") else { return };
    for request in devices.each("requests") {
        if let Some(exactly) = request.child("exactly") {
            one(exactly);
        }
        request.each("firstAvailable").for_each(one);
    }
}

fn one(request: &mut Value) {
    request.zero("allocationMode", "ExactCount");
    if request["allocationMode"] == "ExactCount" {
        request.zero("count", 1);
    }
    request.each("tolerations").for_each(|toleration| toleration.zero("operator", "Equal"));
}
