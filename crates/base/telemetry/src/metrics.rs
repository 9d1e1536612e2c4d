//! Metrics: the registry of this process, by upstream's names, in the text form Prometheus reads.
use parking_lot::Mutex;
use prometheus_client::registry::{Metric, Registry};
use std::sync::LazyLock;

static PROCESS: LazyLock<Mutex<Registry>> = LazyLock::new(|| {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(crate::process::ProcessCollector));
    Mutex::new(registry)
});

/// Adds a metric to those of the process. A counter's name is given without `_total`.
pub fn register(name: &str, help: &str, metric: impl Metric) {
    PROCESS.lock().register(name, help, metric);
}

/// The metrics of the process itself and of its parts.
pub fn process() -> String {
    text(&PROCESS.lock())
}

/// Exponential buckets in seconds, upstream's for work queues: 10 ns, times ten, ten of them.
pub fn queue_buckets() -> impl Iterator<Item = f64> {
    prometheus_client::metrics::histogram::exponential_buckets(1e-8, 10.0, 10)
}

/// A registry in the text format 0.0.4, whose counters are typed by their whole name, and which has no end mark.
pub fn text(registry: &Registry) -> String {
    let mut open_metrics = String::new();
    prometheus_client::encoding::text::encode(&mut open_metrics, registry).expect("writing to a string can't fail");
    classic(&open_metrics)
}

/// OpenMetrics' text as the older format has it.
fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 1024);
    let mut help = "";
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            // Only the type that follows says what the metric is called here.
            help = line;
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some(text) = help.strip_prefix("# HELP ").and_then(|help| help.strip_prefix(name)) {
                out.push_str(&format!("# HELP {name}{suffix}{}\n", text.strip_suffix('.').filter(|text| text.ends_with('.')).unwrap_or(text)));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {}\n", if kind == "unknown" { "untyped" } else { kind }));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    #[test]
    fn counters_are_typed_by_their_whole_name() {
        let mut registry = Registry::default();
        let (counter, gauge) = (Counter::<u64>::default(), Gauge::<i64>::default());
        registry.register("requests", "Requests", counter.clone());
        registry.register("depth", "Depth", gauge);
        counter.inc();
        let want = "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total 1\n# HELP depth Depth.\n# TYPE depth gauge\ndepth 0\n";
        assert_eq!(text(&registry), want);
    }

    #[test]
    fn a_process_tells_of_itself() {
        let text = process();
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total", "process_start_time_seconds"] {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name} in {text}"));
            assert!(line.split(' ').nth(1).unwrap().parse::<f64>().unwrap() >= 0.0);
        }
    }
}
