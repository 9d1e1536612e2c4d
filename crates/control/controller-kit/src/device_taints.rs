//! Taints of devices: those that rules lay on them, and who bears them (KEP 5055).
use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceTaintRule, DeviceToleration};
use std::sync::Arc;

/// The taints that rules lay on a device. A rule without a selector means none.
pub fn of_rules<'a>(rules: &'a [Arc<DeviceTaintRule>], driver: &'a str, pool: &'a str, device: &'a str) -> impl Iterator<Item = DeviceTaint> + 'a {
    let selects = move |rule: &&Arc<DeviceTaintRule>| {
        let Some(selector) = &rule.spec.device_selector else { return false };
        let fits = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        fits(&selector.driver, driver) && fits(&selector.pool, pool) && fits(&selector.device, device)
    };
    rules.iter().filter(selects).map(|rule| rule.spec.taint.clone())
}

/// Whether a request puts up with all taints that keep others away.
pub fn are_tolerated(taints: &[DeviceTaint], tolerations: &[DeviceToleration]) -> bool {
    taints.iter().filter(|taint| taint.effect != "None").all(|taint| tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

pub fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let empty_or = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == has);
    empty_or(&toleration.effect, &taint.effect)
        && empty_or(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            None | Some("" | "Equal") => toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default(),
            _ => false,
        }
}
