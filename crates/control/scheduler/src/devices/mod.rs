//! Devices: what a pod's resource claims say about where it can run (KEP 4381, structured parameters).
//!
//! Drivers publish devices in ResourceSlices; a claim asks for some. The search for a node's devices is pure
//! ([`search`]); what was decided counts as taken at once ([`Taken`]) and is written when the pod is bound.
mod allocation;
mod asked;
mod capacity;
mod claims;
mod constraint;
mod counters;
mod pools;
mod reservation;
mod search;
mod taken;
#[cfg(test)]
mod tests;
mod writer;

pub use allocation::Decided;
pub use claims::{Devices, Stores, has_claims, look, waits_for_claims};
pub use pools::Pools;
pub use reservation::Reservation;
pub use taken::Taken;
pub use writer::{ClaimWriter, Deallocation};

use serde_json::Value;
use std::sync::Arc;

/// Answers whether an expression takes a device as its ResourceSlice has it, of the driver of that name.
pub trait DeviceSelectors: Send + Sync + 'static {
    /// # Errors
    /// Why there is no answer.
    fn matches(&self, expression: &str, driver: &str, device: &Value) -> Result<bool, String>;
}

/// A device's name: no two have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    pub driver: Arc<str>,
    pub pool: Arc<str>,
    pub device: Arc<str>,
}

impl DeviceId {
    pub fn new(driver: &str, pool: &str, device: &str) -> Self {
        Self { driver: driver.into(), pool: pool.into(), device: device.into() }
    }
}
