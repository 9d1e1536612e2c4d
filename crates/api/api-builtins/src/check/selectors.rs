//! LabelSelectors and node selectors: whether they are well-formed, and whether they match.
use super::at::{At, Report};
use super::metadata::{label_key, labels};
use crate::fields::Read;
use api_meta::label_selector::{LabelSelector, Operator, Requirement};
use api_meta::{FieldErrors, Labels, names};
use serde_json::Value;

/// A LabelSelector.
pub fn label_selector(errors: &mut FieldErrors, at: &At) {
    labels(errors, &at.field("matchLabels"));
    let expressions = at.field("matchExpressions");
    for expression in expressions.items() {
        let (operator, values) = (expression.field("operator"), expression.field("values"));
        match operator.text() {
            "In" | "NotIn" if values.list().is_empty() => errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'"),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.list().is_empty() => {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&operator, "not a valid selector operator"),
        }
        let key = expression.field("key");
        label_key(errors, &key, key.text());
        for value in values.items() {
            errors.reasons(&value, names::label_value(value.text()));
        }
    }
}

/// What a LabelSelector means; `None` if it is malformed.
pub fn parse(selector: &Value) -> Option<LabelSelector> {
    let mut requirements: Vec<Requirement> = map_requirements(&selector["matchLabels"]);
    for expression in selector["matchExpressions"].list() {
        let operator = match expression["operator"].text() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        requirements.push(Requirement { key: expression["key"].text().into(), operator, values: expression["values"].texts().map(Into::into).collect() });
    }
    Some(LabelSelector::from_requirements(requirements))
}

/// What a map of labels means as a selector.
pub fn parse_map(map: &Value) -> LabelSelector {
    LabelSelector::from_requirements(map_requirements(map))
}

fn map_requirements(map: &Value) -> Vec<Requirement> {
    map.entries().map(|(key, value)| Requirement { key: key.clone(), operator: Operator::In, values: vec![value.text().into()] }).collect()
}

/// The labels of a decoded object.
pub struct LabelsOf<'a>(pub &'a Value);

impl Labels for LabelsOf<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.0[key].as_str()
    }
}

/// A NodeSelector: at least one term, any of which may match.
pub fn node_selector(errors: &mut FieldErrors, at: &At) {
    let terms = at.field("nodeSelectorTerms");
    if terms.list().is_empty() {
        errors.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(errors, &term, true);
    }
}

/// One term of it. Values are left unchecked where upstream always did: in preferences.
pub fn node_selector_term(errors: &mut FieldErrors, at: &At, check_values: bool) {
    let expressions = at.field("matchExpressions");
    for requirement in expressions.items() {
        let (operator, values) = (requirement.field("operator"), requirement.field("values"));
        match operator.text() {
            "In" | "NotIn" if values.list().is_empty() => errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'"),
            "Exists" | "DoesNotExist" if !values.list().is_empty() => {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Gt" | "Lt" if values.list().len() != 1 => errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'"),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.invalid(&operator, "not a valid selector operator"),
        }
        let key = requirement.field("key");
        label_key(errors, &key, key.text());
        if check_values {
            for value in values.items() {
                errors.reasons(&value, names::label_value(value.text()));
            }
        }
    }
    let fields = at.field("matchFields");
    for requirement in fields.items() {
        let (operator, values, key) = (requirement.field("operator"), requirement.field("values"), requirement.field("key"));
        match operator.text() {
            "In" | "NotIn" if values.list().len() != 1 => {
                errors.required(&values, "must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
            }
            "In" | "NotIn" => {}
            _ => errors.invalid(&operator, "not a valid selector operator"),
        }
        if key.text() == "metadata.name" {
            for value in values.items() {
                errors.reasons(&value, names::dns1123_subdomain(value.text()));
            }
        } else {
            errors.invalid(&key, "not a valid field selector key");
        }
    }
}
