//! API priority and fairness: which requests go first when there are more than the server serves at a time (KEP-1040).
//!
//! FlowSchemas sort requests into flows of priority levels; a level has so many seats, and fair queues of those that wait for one.
mod classify;
mod configuration;
mod fairness;
mod queues;
mod seats;
mod work;

pub use classify::Flow;
pub use configuration::{Configuration, ConfigurationKind};
pub use fairness::{Fairness, Figures, Refusal, Seat};
pub use work::Cost;
