//! Metrics of work queues, by the names upstream's client-go gives them.
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::LazyLock;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueueName {
    name: &'static str,
}

struct Families {
    adds: Family<QueueName, Counter>,
    depth: Family<QueueName, Gauge>,
    retries: Family<QueueName, Counter>,
    waits: Family<QueueName, Histogram, fn() -> Histogram>,
    works: Family<QueueName, Histogram, fn() -> Histogram>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    let histogram: fn() -> Histogram = || Histogram::new(telemetry::metrics::queue_buckets());
    let families = Families {
        adds: Family::default(),
        depth: Family::default(),
        retries: Family::default(),
        waits: Family::new_with_constructor(histogram),
        works: Family::new_with_constructor(histogram),
    };
    telemetry::metrics::register("workqueue_adds", "Total number of adds handled by workqueue", families.adds.clone());
    telemetry::metrics::register("workqueue_depth", "Current depth of workqueue", families.depth.clone());
    telemetry::metrics::register("workqueue_retries", "Total number of retries handled by workqueue", families.retries.clone());
    let help = "How long in seconds an item stays in workqueue before being requested";
    telemetry::metrics::register("workqueue_queue_duration_seconds", help, families.waits.clone());
    let help = "How long in seconds processing an item from workqueue takes";
    telemetry::metrics::register("workqueue_work_duration_seconds", help, families.works.clone());
    families
});

/// What one queue counts.
pub struct QueueMetrics {
    pub adds: Counter,
    pub depth: Gauge,
    pub retries: Counter,
    /// Seconds between a key's being added and being taken.
    pub waits: Histogram,
    /// Seconds of work on a key.
    pub works: Histogram,
}

impl QueueMetrics {
    pub fn of(name: &'static str) -> Self {
        let (families, name) = (&*FAMILIES, QueueName { name });
        Self {
            adds: families.adds.get_or_create_owned(&name),
            depth: families.depth.get_or_create_owned(&name),
            retries: families.retries.get_or_create_owned(&name),
            waits: families.waits.get_or_create_owned(&name),
            works: families.works.get_or_create_owned(&name),
        }
    }
}
