//! The scheduler: one file per filter and score; it places the pods of all clusters on the shared nodes.

mod amounts;
mod binding;
mod claim_users;
mod core;
mod devices;
mod filters;
mod fit_error;
mod metrics;
mod needs;
mod node_info;
mod plugin;
mod pod_info;
mod preemption;
mod queue;
mod run;
mod schedule;
mod scores;
mod settings;
mod snapshot;
mod spread_tally;
mod tallies;
#[cfg(test)]
mod tallies_tests;
mod term;
mod term_tally;
#[cfg(test)]
mod testing;
mod volumes;

pub use devices::{DeviceSelectors, Devices};
pub use fit_error::FitError;
pub use needs::Needs;
pub use node_info::NodeInfo;
pub use plugin::{Plugin, Plugins};
pub use pod_info::PodInfo;
pub use preemption::{Preemption, preempt};
pub use run::run;
pub use schedule::{Placement, schedule};
pub use settings::SchedulerSettings;
pub use snapshot::Snapshot;
pub use volumes::Volumes;
