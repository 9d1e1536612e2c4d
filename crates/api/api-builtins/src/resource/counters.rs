//! Counters that devices of a pool share, of which each takes its part (KEP 4815).
use crate::check::{At, Report, resources};
use crate::fields::Read;
use api_meta::{FieldErrors, names};

const MOST_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;
const MOST_CONSUMPTIONS: usize = 2;

/// The sets a slice publishes.
pub fn sets(errors: &mut FieldErrors, at: &At) {
    if at.list().len() > MOST_SETS {
        errors.too_many(at, at.list().len(), MOST_SETS);
    }
    for (index, set) in at.items().enumerate() {
        let name = set.field("name");
        errors.named(&name, names::dns1123_label);
        if at.list()[..index].iter().any(|other| other["name"] == set["name"]) {
            errors.duplicate(&name);
        }
        counters(errors, &set.field("counters"));
    }
}

/// What one device takes of them.
pub fn consumption(errors: &mut FieldErrors, at: &At) {
    if at.list().len() > MOST_CONSUMPTIONS {
        errors.too_many(at, at.list().len(), MOST_CONSUMPTIONS);
    }
    for (index, taken) in at.items().enumerate() {
        let set = taken.field("counterSet");
        errors.named(&set, names::dns1123_label);
        if at.list()[..index].iter().any(|other| other["counterSet"] == taken["counterSet"]) {
            errors.duplicate(&set);
        }
        counters(errors, &taken.field("counters"));
    }
}

fn counters(errors: &mut FieldErrors, at: &At) {
    let count = at.value().entries().count();
    if count == 0 {
        errors.required(at, "");
    } else if count > MOST_COUNTERS {
        errors.too_many(at, count, MOST_COUNTERS);
    }
    for (name, counter) in at.entries() {
        for reason in names::dns1123_label(name) {
            errors.invalid_as(at, name, reason);
        }
        resources::quantity(errors, &counter.field("value"));
    }
}
