//! Amounts: resources as plain integers, quick to add and compare.
use controller_kit::pod_resources::Resources;
use std::sync::Arc;

/// CPU in thousandths, memory and ephemeral storage in bytes, all others in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// By name, in name order.
    pub others: Vec<(Arc<str>, i64)>,
}

impl Amounts {
    pub fn new(resources: &Resources) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in resources {
            match name.as_str() {
                "cpu" => amounts.cpu = quantity.millis(),
                "memory" => amounts.memory = quantity.units(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.units(),
                "pods" => {}
                other => amounts.others.push((other.into(), quantity.units())),
            }
        }
        amounts
    }

    pub fn is_zero(&self) -> bool {
        self.cpu == 0 && self.memory == 0 && self.ephemeral_storage == 0 && self.others.is_empty()
    }

    pub fn other(&self, name: &str) -> i64 {
        self.others.iter().find(|(other, _)| **other == *name).map(|(_, amount)| *amount).unwrap_or_default()
    }

    pub fn add(&mut self, more: &Self, sign: i64) {
        self.cpu += sign * more.cpu;
        self.memory += sign * more.memory;
        self.ephemeral_storage += sign * more.ephemeral_storage;
        for (name, amount) in &more.others {
            match self.others.iter_mut().find(|(other, _)| other == name) {
                Some((_, sum)) => *sum += sign * amount,
                None => self.others.push((name.clone(), sign * amount)),
            }
        }
    }
}
