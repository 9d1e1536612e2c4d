//! Extent: how large, and how small, what a schema describes can be.
//!
//! Source: apiserver's `pkg/cel/common/schemas.go`.
use crate::cel::types::escape;
use crate::{Schema, Type};
use std::collections::BTreeMap;

/// The largest request the API server takes.
const LARGEST_REQUEST: u64 = 3 << 20;
/// A text or list that fills a request, without its quotes or brackets.
const FILLING: u64 = LARGEST_REQUEST - 2;

/// What counts of a schema when costs are estimated.
#[derive(Clone, Debug, Default)]
pub(in crate::cel) struct Extent {
    /// How many characters or elements there can be.
    pub most: u64,
    /// How many bytes it takes in JSON at least.
    least: u64,
    fields: BTreeMap<String, Extent>,
    element: Option<Box<Extent>>,
    /// What the keys are like; they are texts that count as empty.
    key: Option<Box<Extent>>,
}

/// From a value to one inside it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'n> {
    Field(&'n str),
    Element,
    Key,
    Index,
}

impl Extent {
    /// `None` for what expressions can't see.
    pub fn of(schema: &Schema, root: bool) -> Option<Self> {
        let limits = schema.constraints.as_deref();
        let longest = limits.and_then(|limits| limits.max_length);
        let text = |most: u64, least: u64| Some(Self { most, least, ..Self::default() });
        match schema.kind {
            Type::Any => None,
            // Limits are counted in characters, of up to four bytes.
            Type::IntOrString => text(longest.map_or(FILLING, |longest| longest.saturating_mul(4)), 1),
            Type::Boolean => text(0, 4),
            Type::Integer | Type::Number => text(0, 1),
            Type::String => match schema.format.as_deref() {
                Some("byte") => text(longest.unwrap_or(FILLING), 2),
                Some("duration") => text(32, 3),
                Some("date") => text(12, 12),
                Some("date-time") => text(32, 21),
                _ => {
                    let choices = limits.map(|limits| limits.enumeration.as_slice()).unwrap_or_default();
                    let chosen = || choices.iter().filter_map(|choice| choice.as_str()).map(|choice| choice.len() as u64).max().unwrap_or(0);
                    let most = match longest {
                        Some(longest) => longest.saturating_mul(4),
                        None if choices.is_empty() => FILLING,
                        None => chosen(),
                    };
                    text(most, 2)
                }
            },
            Type::Array => {
                let items = schema.items.as_deref()?;
                let element = Self::of(items, items.embedded_resource)?;
                let most = limits.and_then(|limits| limits.max_items).unwrap_or(FILLING / (element.least + 1));
                Some(Self { most, least: 2, element: Some(Box::new(element)), ..Self::default() })
            }
            Type::Object => match schema.additional.as_deref() {
                Some(values) => {
                    let element = Self::of(values, values.embedded_resource)?;
                    let most = limits.and_then(|limits| limits.max_properties).unwrap_or(FILLING / (element.least + 6));
                    let key = Self { least: 2, ..Self::default() };
                    Some(Self { most, least: 2, element: Some(Box::new(element)), key: Some(Box::new(key)), ..Self::default() })
                }
                None => Some(Self::object(schema, root || schema.embedded_resource)),
            },
        }
    }

    fn object(schema: &Schema, root: bool) -> Self {
        let text = || Self { most: FILLING, least: 2, ..Self::default() };
        let (mut fields, mut least) = (BTreeMap::new(), 2);
        if root {
            let names = BTreeMap::from(["name", "generateName"].map(|name| (name.to_owned(), text())));
            fields.insert("metadata".to_owned(), Self { least: 2, fields: names, ..Self::default() });
            fields.extend(["apiVersion", "kind"].map(|name| (name.to_owned(), text())));
        }
        for (name, property) in &schema.properties {
            let found = match fields.get(&**name) {
                Some(known) => Some(known.clone()),
                None => Self::of(property, property.embedded_resource),
            };
            let Some(found) = found else { continue };
            // What has a default need not be sent.
            if property.default.is_none() && schema.required.iter().any(|required| required == name) {
                least += name.len() as u64 + found.least + 4;
            }
            if let Some(written) = escape(name) {
                fields.insert(written, found);
            }
        }
        Self { least, fields, ..Self::default() }
    }

    pub(super) fn step(&self, step: Step<'_>) -> Option<&Self> {
        match step {
            Step::Field(name) => self.fields.get(name),
            Step::Element => self.element.as_deref(),
            Step::Key => self.key.as_deref(),
            Step::Index => None,
        }
    }

    /// How many of these one request can hold.
    pub fn most_in_a_request(&self) -> u64 {
        LARGEST_REQUEST / (self.least + 1)
    }
}

/// How many times what is inside can be there for each time this is; `None`: any number of times.
pub(in crate::cel) fn multiplicity(schema: &Schema) -> Option<u64> {
    let limits = schema.constraints.as_deref();
    match schema.kind {
        Type::Object if schema.additional.is_some() => limits.and_then(|limits| limits.max_properties),
        Type::Array => limits.and_then(|limits| limits.max_items),
        _ => Some(1),
    }
}
