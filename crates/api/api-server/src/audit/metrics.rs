//! What of auditing is counted, by upstream's names.
use super::Level;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::sync::LazyLock;
use telemetry::metrics::register;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Plugin {
    plugin: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfLevel {
    level: String,
}

#[derive(Default)]
struct Counters {
    events: Counter,
    errors: Family<Plugin, Counter>,
    levels: Family<OfLevel, Counter>,
    rejected: Counter,
}

static COUNTERS: LazyLock<Counters> = LazyLock::new(|| {
    let counters = Counters::default();
    register("apiserver_audit_event", "Counter of audit events generated and sent to the audit backend.", counters.events.clone());
    let help = "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.";
    register("apiserver_audit_error", help, counters.errors.clone());
    register("apiserver_audit_level", "Counter of policy levels for audit events (1 per request).", counters.levels.clone());
    let help = "Counter of apiserver requests rejected due to an error in audit logging backend.";
    register("apiserver_audit_requests_rejected", help, counters.rejected.clone());
    counters
});

pub fn told() {
    COUNTERS.events.inc();
}

/// A request is recorded at this level.
pub fn at(level: Level) {
    COUNTERS.levels.get_or_create(&OfLevel { level: format!("{level:?}") }).inc();
}

/// Events that did not get where they should have.
pub fn lost(plugin: &'static str, events: usize, why: &str) {
    COUNTERS.errors.get_or_create(&Plugin { plugin }).inc_by(events as u64);
    tracing::error!(plugin, events, why, "audit events were lost");
}

pub fn rejected() {
    COUNTERS.rejected.inc();
}

#[cfg(test)]
pub fn lost_by(plugin: &'static str) -> u64 {
    COUNTERS.errors.get_or_create(&Plugin { plugin }).get()
}
