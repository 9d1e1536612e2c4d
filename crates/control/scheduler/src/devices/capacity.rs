//! Capacity: how much of a device a request takes, and what of a shared one is left (KEP 5075).
use api_meta::Quantity;
use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, DeviceCapacity};
use std::collections::BTreeMap;

/// A capacity of a device, and in which portions it is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Capacity {
    pub whole: Quantity,
    portions: Option<Portions>,
}

#[derive(Clone, Debug, PartialEq)]
struct Portions {
    default: Option<Quantity>,
    values: Vec<Quantity>,
    range: Option<(Quantity, Option<Quantity>, Option<Quantity>)>,
}

pub fn read(capacity: &DeviceCapacity) -> Option<Capacity> {
    let quantity = |text: &str| Quantity::parse(text).ok();
    let portions = |policy: &CapacityRequestPolicy| Portions {
        default: policy.default.as_ref().and_then(|value| quantity(&value.0)),
        values: policy.valid_values.iter().flatten().filter_map(|value| quantity(&value.0)).collect(),
        range: policy.valid_range.as_ref().and_then(|range| {
            Some((quantity(&range.min.0)?, range.max.as_ref().and_then(|max| quantity(&max.0)), range.step.as_ref().and_then(|step| quantity(&step.0))))
        }),
    };
    Some(Capacity { whole: quantity(&capacity.value.0)?, portions: capacity.request_policy.as_ref().map(portions) })
}

impl Capacity {
    /// How much a request gets that asks for so much, or does not say; `None` where no portion is large enough.
    fn portion(&self, asked: Option<&Quantity>) -> Option<Quantity> {
        let Some(portions) = &self.portions else { return Some(*asked.unwrap_or(&self.whole)) };
        let Some(asked) = asked else { return Some(portions.default.unwrap_or(self.whole)) };
        if let Some((least, most, step)) = &portions.range {
            let given = if asked <= least { *least } else { stepped(least, asked, step.as_ref()) };
            return most.as_ref().is_none_or(|most| given <= *most).then_some(given);
        }
        if portions.values.is_empty() { Some(*asked) } else { portions.values.iter().filter(|value| *value >= asked).min().copied() }
    }
}

/// The first of `least`, `least + step`, ... that is enough.
fn stepped(least: &Quantity, asked: &Quantity, step: Option<&Quantity>) -> Quantity {
    let millis = |quantity: &Quantity| i128::from(quantity.millis());
    let Some(step) = step.filter(|step| step.millis() > 0) else { return *asked };
    let steps = (millis(asked) - millis(least) + millis(step) - 1) / millis(step);
    let given = millis(least) + steps * millis(step);
    if least.is_integer() && step.is_integer() {
        let bytes = i64::try_from(given / 1000).unwrap_or(i64::MAX);
        return Quantity::from_bytes(bytes);
    }
    Quantity::from_millis(i64::try_from(given).unwrap_or(i64::MAX))
}

/// What a request takes of each capacity; `None` where the device can't give what is asked for.
pub fn wanted(capacity: &BTreeMap<String, Capacity>, driver: &str, asked: &BTreeMap<String, Quantity>) -> Option<BTreeMap<String, Quantity>> {
    let own = format!("{driver}/");
    let short = |name: &str| name.strip_prefix(&own).unwrap_or(name).to_owned();
    let asked: BTreeMap<String, &Quantity> = asked.iter().map(|(name, amount)| (short(name), amount)).collect();
    if asked.keys().any(|name| !capacity.keys().any(|has| short(has) == *name)) {
        return None;
    }
    let portions = capacity.iter().map(|(name, capacity)| {
        let portion = capacity.portion(asked.get(&short(name)).copied())?;
        (portion <= capacity.whole).then(|| (name.clone(), portion))
    });
    portions.collect()
}

/// Whether so much more can be taken of a shared device.
pub fn suffices(capacity: &BTreeMap<String, Capacity>, used: &BTreeMap<String, Quantity>, wanted: &BTreeMap<String, Quantity>) -> bool {
    wanted.iter().all(|(name, amount)| {
        let sum = used.get(name).map_or(*amount, |used| *used + *amount);
        capacity.get(name).is_some_and(|capacity| sum <= capacity.whole)
    })
}

pub fn add(used: &mut BTreeMap<String, Quantity>, more: &BTreeMap<String, Quantity>) {
    for (name, amount) in more {
        let sum = used.get(name).map_or(*amount, |used| *used + *amount);
        used.insert(name.clone(), sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn portions_are_rounded_up_to_what_the_device_gives() {
        let capacity = |policy: serde_json::Value| read(&serde_json::from_value(json!({"value": "10Gi", "requestPolicy": policy})).unwrap()).unwrap();
        let of = |capacity: &Capacity, asked: Option<&str>| capacity.portion(asked.map(|text| Quantity::parse(text).unwrap()).as_ref()).map(|q| q.to_string());
        let range = capacity(json!({"default": "1Gi", "validRange": {"min": "1Gi", "max": "8Gi", "step": "2Gi"}}));
        assert_eq!(
            [of(&range, None), of(&range, Some("1")), of(&range, Some("2Gi")), of(&range, Some("9Gi"))].map(|v| v.unwrap_or_default()),
            ["1Gi", "1Gi", "3Gi", ""]
        );
        let values = capacity(json!({"default": "2Gi", "validValues": ["2Gi", "4Gi"]}));
        assert_eq!([of(&values, Some("3Gi")), of(&values, Some("5Gi"))], [Some("4Gi".into()), None]);
        assert_eq!(of(&capacity(serde_json::Value::Null), Some("3Gi")), Some("3Gi".into()));
    }
}
