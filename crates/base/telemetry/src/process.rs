//! The metrics every Prometheus client tells of its process, read from /proc when asked for.
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fs;

#[derive(Debug)]
pub struct ProcessCollector;

/// Units of time in /proc, on every Linux there is.
const TICKS: f64 = 100.0;
const PAGE: u64 = 4096;

struct Process {
    cpu_seconds: f64,
    start_time: f64,
    resident: u64,
    virtual_memory: u64,
    open_files: u64,
    most_files: u64,
}

impl Process {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let most_files = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
        let virtual_memory: u64 = fields.get(23 - 3)?.parse().ok()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            start_time: boot + field(22)? / TICKS,
            resident: pages * PAGE,
            virtual_memory,
            open_files: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            most_files,
        })
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(process) = Process::read() else { return Ok(()) };
        let cpu = ConstCounter::new(process.cpu_seconds);
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", "Total user and system CPU time spent in seconds", None, cpu.metric_type())?)?;
        for (name, help, value) in [
            ("process_max_fds", "Maximum number of open file descriptors", process.most_files as f64),
            ("process_open_fds", "Number of open file descriptors", process.open_files as f64),
            ("process_resident_memory_bytes", "Resident memory size in bytes", process.resident as f64),
            ("process_start_time_seconds", "Start time of the process since unix epoch in seconds", process.start_time),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes", process.virtual_memory as f64),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
