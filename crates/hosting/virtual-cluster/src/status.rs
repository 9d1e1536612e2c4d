//! Conditions: their reasons, and when one counts as a new one.
use api_meta::ClusterName;
use controller_kit::whole_seconds;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub const READY: &str = "Ready";
pub const VALIDATION_FAILED: &str = "ValidationFailed";
pub const PROVISIONING: &str = "Provisioning";
pub const PROVISIONED: &str = "Provisioned";
pub const PROVISIONING_FAILED: &str = "ProvisioningFailed";
pub const TERMINATING: &str = "Terminating";

/// The condition `Ready`, with the time of the one before when it says the same of the state.
pub fn ready(before: &[Condition], holds: bool, reason: &str, message: &str, generation: Option<i64>, now: Timestamp) -> Condition {
    let status = if holds { "True" } else { "False" };
    let since = before.iter().find(|condition| condition.type_ == READY && condition.status == status);
    Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.map_or_else(|| whole_seconds(now), |condition| condition.last_transition_time.clone()),
    }
}

pub fn find_ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == READY)
}

/// Whether it was said already, of this generation.
pub fn says(conditions: &[Condition], holds: bool, reason: &str, message: &str, generation: Option<i64>) -> bool {
    let status = if holds { "True" } else { "False" };
    find_ready(conditions).is_some_and(|c| c.status == status && c.reason == reason && c.message == message && c.observed_generation == generation)
}

/// The host cluster, where all objects of hosting are.
pub fn host() -> ClusterName {
    ClusterName::root()
}
