//! LimitRange: bounds and defaults for single objects of a namespace.
use crate::cells::CREATED_AT;
use crate::check::{At, Report, resources};
use crate::fields::{Fill, Read};
use crate::quantities;
use api_meta::{FieldErrors, Quantity, names};
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
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let limits = root.field("spec.limits");
        for (index, item) in limits.items().enumerate() {
            let kind = item.field("type");
            errors.reasons(&kind, names::qualified_name(kind.text()));
            if !kind.text().contains('/') && !matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim") {
                errors.invalid(&kind, "must be a standard limit type or fully qualified");
            }
            if limits.list()[..index].iter().any(|other| other["type"] == item["type"]) {
                errors.duplicate(&kind);
            }
            limit_item(&mut errors, &item);
        }
        errors
    }
}

/// What one list leaves out is as another says.
fn fill_from(item: &mut Value, list: &str, other: &str) {
    let others: Vec<_> = item[other].entries().map(|(name, amount)| (name.clone(), amount.clone())).collect();
    for (name, amount) in others {
        item.open(list).absent(&name, amount);
    }
}

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn limit_item(errors: &mut FieldErrors, item: &At) {
    for list in &LISTS {
        let list = item.field(list);
        for (name, amount) in list.entries() {
            for reason in names::qualified_name(name) {
                errors.invalid_as(&amount, name, reason);
            }
            resources::amount_of(errors, &amount, name);
        }
    }
    if item["type"] == "Pod" {
        for list in ["default", "defaultRequest"] {
            if !item[list].is_zero() {
                errors.forbidden(&item.field(list), "may not be specified when `type` is 'Pod'");
            }
        }
    }
    if item["type"] == "PersistentVolumeClaim" && item["min"]["storage"].is_null() && item["max"]["storage"].is_null() {
        errors.required(&item.field("limits"), "either minimum or maximum storage value is required, but neither was provided");
    }
    let names: std::collections::BTreeSet<&String> = LISTS.iter().flat_map(|list| item[*list].entries()).map(|(name, _)| name).collect();
    for name in names {
        bounds(errors, item, name);
    }
}

/// min <= defaultRequest <= default <= max, and a ratio that those allow.
fn bounds(errors: &mut FieldErrors, item: &At, name: &str) {
    let amount = |list: &str| quantities::read(&item[list][name]);
    let (most, least, limit, request, ratio) = (amount("max"), amount("min"), amount("default"), amount("defaultRequest"), amount("maxLimitRequestRatio"));
    let mut ordered = |list: &str, low: Option<Quantity>, low_name: &str, high: Option<Quantity>, high_name: &str, shown: Option<Quantity>| {
        if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
            && low > high
        {
            let list = item.field(list);
            errors.invalid_as(&list.key(name), shown.to_string(), format!("{low_name} value {low} is greater than {high_name} value {high}"));
        }
    };
    ordered("min", least, "min", most, "max", least);
    ordered("defaultRequest", least, "min", request, "default request", request);
    ordered("defaultRequest", request, "default request", most, "max", request);
    ordered("defaultRequest", request, "default request", limit, "default limit", request);
    ordered("default", least, "min", limit, "default", least);
    ordered("default", limit, "default", most, "max", most);
    if let Some(ratio) = ratio {
        let list = item.field("maxLimitRequestRatio");
        let at = list.key(name);
        if ratio < Quantity::from_units(1) {
            errors.invalid(&at, format!("ratio {ratio} is less than 1"));
        }
        if let (Some(least), Some(most)) = (least, most)
            && !least.is_zero()
        {
            let possible = most.millis() as f64 / least.millis() as f64;
            if ratio.millis() as f64 / 1000.0 > possible {
                errors.invalid(&at, format!("ratio {ratio} is greater than max/min = {possible:.6}"));
            }
        }
    }
    if let (Some(limit), Some(request)) = (limit, request)
        && limit != request
        && !resources::may_overcommit(name)
    {
        let list = item.field("defaultRequest");
        errors.invalid(&list.key(name), format!("default value {limit} must equal to defaultRequest value {request} in {name}"));
    }
}
