//! Metrics of the load balancer, among those of the process.
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::sync::LazyLock;
use std::time::Duration;

/// What an answer was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Code {
    pub code: u16,
}

pub struct Metrics {
    requests: Family<Code, Counter>,
    durations: Histogram,
    /// Client connections that are open.
    pub connections: Gauge,
    /// Members that health checks found ill.
    pub ill: Gauge,
}

pub static METRICS: LazyLock<Metrics> = LazyLock::new(|| {
    let metrics = Metrics {
        requests: Family::default(),
        durations: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
        connections: Gauge::default(),
        ill: Gauge::default(),
    };
    telemetry::metrics::register("fiberlb_http_requests", "HTTP requests answered, by code", metrics.requests.clone());
    telemetry::metrics::register("fiberlb_http_request_duration_seconds", "From a request's head to its answer's head", metrics.durations.clone());
    telemetry::metrics::register("fiberlb_connections", "Client connections that are open", metrics.connections.clone());
    telemetry::metrics::register("fiberlb_members_ill", "Pool members that health checks found ill", metrics.ill.clone());
    metrics
});

impl Metrics {
    pub fn answered(&self, code: u16, took: Duration) {
        self.requests.get_or_create(&Code { code }).inc();
        self.durations.observe(took.as_secs_f64());
    }
}

/// Counts a connection for as long as it is kept.
pub struct OpenConnection;

impl OpenConnection {
    pub fn new() -> Self {
        METRICS.connections.inc();
        Self
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        METRICS.connections.dec();
    }
}
