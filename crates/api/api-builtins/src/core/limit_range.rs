//! LimitRange: bounds and defaults for single objects of a namespace.
use crate::cells::CREATED_AT;
use crate::fields::{Fill, Read};
use crate::quantities;
use api_resource::{Column, Names, Resource, text};
use serde_json::Value;

pub struct LimitRanges;

impl Resource for LimitRanges {
    const NAMES: Names = Names::with("", "v1", "LimitRange", "limitranges", "limitrange", const { &[text("limits")] }, &[]);
    const COLUMNS: &'static [Column] = &[Column::NAME, CREATED_AT];
    const OWN_COLUMNS: bool = true;
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    fn default(object: &mut Value) {
        for item in object.open("spec").each("limits") {
            for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
                quantities::canonical_map(item, list);
            }
            if item["type"] == "Container" {
                fill_from(item, "default", "max");
                fill_from(item, "defaultRequest", "default");
                fill_from(item, "defaultRequest", "min");
            }
        }
    }
}

/// What one list leaves out is as another says.
fn fill_from(item: &mut Value, list: &str, other: &str) {
    let others: Vec<_> = item[other].entries().map(|(name, amount)| (name.clone(), amount.clone())).collect();
    for (name, amount) in others {
        item.open(list).absent(&name, amount);
    }
}
