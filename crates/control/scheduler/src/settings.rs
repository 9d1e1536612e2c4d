//! Settings of the scheduler.
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct SchedulerSettings {
    /// Pods with this schedulerName are its own.
    pub name: &'static str,
    /// How many per cent of the nodes to find fit before choosing; 0 lets the number of nodes decide.
    pub percentage_of_nodes_to_score: usize,
    pub initial_backoff: Duration,
    pub max_backoff: Duration,
    /// After this long an unschedulable pod is tried again even if nothing seems to have changed.
    pub unschedulable_limit: Duration,
    /// How many bindings may be under way at once.
    pub bindings: usize,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            name: "default-scheduler",
            percentage_of_nodes_to_score: 0,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(10),
            unschedulable_limit: Duration::from_secs(300),
            bindings: 128,
        }
    }
}
