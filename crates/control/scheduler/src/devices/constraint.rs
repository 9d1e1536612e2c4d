//! Constraints between a claim's devices: an attribute they have in common, or that no two share.
use super::pools::Device;
use k8s_openapi::api::resource::v1::{DeviceAttribute, DeviceConstraint};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttributeValue {
    Bool(bool),
    Int(i64),
    Text(String),
    Version(String),
}

/// The values of an attribute: one, or those of a list.
pub fn attribute_values(attribute: &DeviceAttribute) -> BTreeSet<AttributeValue> {
    let flags = attribute.bool.iter().chain(attribute.bools.iter().flatten()).map(|flag| AttributeValue::Bool(*flag));
    let numbers = attribute.int.iter().chain(attribute.ints.iter().flatten()).map(|number| AttributeValue::Int(*number));
    let texts = attribute.string.iter().chain(attribute.strings.iter().flatten()).map(|text| AttributeValue::Text(text.clone()));
    let versions = attribute.version.iter().chain(attribute.versions.iter().flatten()).map(|text| AttributeValue::Version(text.clone()));
    flags.chain(numbers).chain(texts).chain(versions).collect()
}

#[derive(Clone, Debug)]
pub struct Constraint {
    /// Names of requests, or of alternatives (`request/alternative`); all where it is empty.
    requests: Vec<String>,
    attribute: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Same,
    Distinct,
}

impl Constraint {
    pub fn new(constraint: &DeviceConstraint) -> Option<Self> {
        let (attribute, kind) = match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(attribute), None) => (attribute, Kind::Same),
            (None, Some(attribute)) => (attribute, Kind::Distinct),
            _ => return None,
        };
        Some(Self { requests: constraint.requests.clone().unwrap_or_default(), attribute: attribute.clone(), kind })
    }

    /// Whether it speaks of devices for this request, by its own name or that of the chosen alternative.
    pub fn concerns(&self, request: &str) -> bool {
        let outer = request.split('/').next().unwrap_or(request);
        self.requests.is_empty() || self.requests.iter().any(|name| name == request || name == outer)
    }

    /// Whether it still holds with one more device.
    pub fn holds<'a>(&self, chosen: impl Iterator<Item = &'a Device>, more: &Device) -> bool {
        let values = |device: &'a Device| device.attributes.get(&self.attribute);
        // A device that does not have the attribute has nothing in common with any.
        let Some(new) = more.attributes.get(&self.attribute) else { return false };
        let mut others = chosen.filter_map(values);
        match self.kind {
            Kind::Distinct => others.all(|other| other.is_disjoint(new)),
            Kind::Same => {
                let common = others.fold(new.clone(), |common, other| common.intersection(other).cloned().collect());
                !common.is_empty()
            }
        }
    }
}
