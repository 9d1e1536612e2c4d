//! Counters that devices of a pool share: a device can be had while what it takes of them is left (KEP 4815).
use super::pools::Pool;
use super::taken::InUse;
use api_meta::Quantity;
use k8s_openapi::api::resource::v1::{Device, ResourceSliceSpec};
use std::collections::BTreeMap;

/// A counter of a set.
pub type Counter = (String, String);

pub fn published(slice: &ResourceSliceSpec) -> impl Iterator<Item = (Counter, Quantity)> + '_ {
    slice.shared_counters.iter().flatten().flat_map(|set| {
        let counters = set.counters.iter();
        counters.filter_map(|(name, counter)| Some(((set.name.clone(), name.clone()), Quantity::parse(&counter.value.0).ok()?)))
    })
}

pub fn taken_by(device: &Device) -> BTreeMap<Counter, Quantity> {
    let all = device.consumes_counters.iter().flatten().flat_map(|taken| {
        let counters = taken.counters.iter();
        counters.filter_map(|(name, counter)| Some(((taken.counter_set.clone(), name.clone()), Quantity::parse(&counter.value.0).ok()?)))
    });
    all.collect()
}

/// What is left of a pool's counters beside the devices that are in use.
pub fn left(pool: &Pool, used: &InUse) -> BTreeMap<Counter, Quantity> {
    let mut left = pool.counters.clone();
    for device in pool.devices.iter().filter(|device| !device.takes.is_empty() && used.has(&device.id)) {
        take(&mut left, &device.takes);
    }
    left
}

/// A counter nobody published has nothing.
pub fn suffices(left: &BTreeMap<Counter, Quantity>, wanted: &BTreeMap<Counter, Quantity>) -> bool {
    wanted.iter().all(|(counter, amount)| left.get(counter).is_some_and(|left| left >= amount))
}

pub fn take(left: &mut BTreeMap<Counter, Quantity>, taken: &BTreeMap<Counter, Quantity>) {
    for (counter, amount) in taken {
        if let Some(left) = left.get_mut(counter) {
            *left = *left - *amount;
        }
    }
}

pub fn give_back(left: &mut BTreeMap<Counter, Quantity>, taken: &BTreeMap<Counter, Quantity>) {
    for (counter, amount) in taken {
        if let Some(left) = left.get_mut(counter) {
            *left = *left + *amount;
        }
    }
}
