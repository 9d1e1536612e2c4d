//! Quantities, versions and authorization checks.
use super::super::authorizer::Check;
use super::super::evaluate::failed;
use super::super::semver::Semver;
use super::super::value::Value;
use super::{Called, NO_OVERLOAD};
use api_meta::Quantity;
use std::cmp::Ordering;
use std::rc::Rc;

pub(super) fn call<'a>(function: &str, arguments: &[Value<'a>]) -> Option<Called<'a>> {
    let (first, second) = (arguments.first()?, arguments.get(1));
    Some(match (function, first, second) {
        ("quantity", Value::String(text), _) => Quantity::parse(text).map_or_else(failed, |quantity| Ok(Value::Quantity(Rc::new(quantity)))),
        ("isQuantity", Value::String(text), _) => Ok(Quantity::parse(text).is_ok().into()),
        ("isInteger", Value::Quantity(quantity), _) => Ok(quantity.is_integer().into()),
        ("asInteger", Value::Quantity(quantity), _) if quantity.is_integer() => Ok(Value::Int(quantity.units())),
        ("asInteger", Value::Quantity(_), _) => failed("cannot convert value to integer"),
        ("asApproximateFloat", Value::Quantity(quantity), _) => Ok(Value::Double(approximately(quantity))),
        ("sign", Value::Quantity(quantity), _) => Ok(Value::Int(if quantity.is_zero() {
            0
        } else if quantity.is_negative() {
            -1
        } else {
            1
        })),
        ("isGreaterThan", Value::Quantity(a), Some(Value::Quantity(b))) => Ok((a > b).into()),
        ("isLessThan", Value::Quantity(a), Some(Value::Quantity(b))) => Ok((a < b).into()),
        ("compareTo", Value::Quantity(a), Some(Value::Quantity(b))) => Ok(order(a.cmp(b))),
        ("add", Value::Quantity(a), Some(Value::Quantity(b))) => Ok(Value::Quantity(Rc::new(**a + **b))),
        ("add", Value::Quantity(a), Some(Value::Int(b))) => Ok(Value::Quantity(Rc::new(**a + Quantity::from_units(*b)))),
        ("sub", Value::Quantity(a), Some(Value::Quantity(b))) => Ok(Value::Quantity(Rc::new(**a - **b))),
        ("sub", Value::Quantity(a), Some(Value::Int(b))) => Ok(Value::Quantity(Rc::new(**a - Quantity::from_units(*b)))),
        ("semver", Value::String(text), normalize) => {
            Semver::parse(text, matches!(normalize, Some(Value::Bool(true)))).map_or_else(failed, |version| Ok(Value::Semver(Rc::new(version))))
        }
        ("isSemver", Value::String(text), normalize) => Ok(Semver::parse(text, matches!(normalize, Some(Value::Bool(true)))).is_ok().into()),
        ("major", Value::Semver(version), _) => Ok(Value::Int(version.numbers[0] as i64)),
        ("minor", Value::Semver(version), _) => Ok(Value::Int(version.numbers[1] as i64)),
        ("patch", Value::Semver(version), _) => Ok(Value::Int(version.numbers[2] as i64)),
        ("isGreaterThan", Value::Semver(a), Some(Value::Semver(b))) => Ok((a.cmp(b) == Ordering::Greater).into()),
        ("isLessThan", Value::Semver(a), Some(Value::Semver(b))) => Ok((a.cmp(b) == Ordering::Less).into()),
        ("compareTo", Value::Semver(a), Some(Value::Semver(b))) => Ok(order(a.cmp(b))),
        (_, Value::Authorizer(check), _) => authorization(function, check, arguments)?,
        ("allowed", Value::Decision(decision), _) => Ok(decision.allowed.into()),
        ("reason", Value::Decision(decision), _) => Ok(Value::string(decision.reason.as_str())),
        ("errored", Value::Decision(decision), _) => Ok(decision.error.is_some().into()),
        ("error", Value::Decision(decision), _) => Ok(Value::string(decision.error.clone().unwrap_or_default())),
        _ => return None,
    })
}

fn order<'a>(order: Ordering) -> Value<'a> {
    Value::Int(order as i64)
}

fn approximately(quantity: &Quantity) -> f64 {
    if quantity.is_integer() { quantity.units() as f64 } else { quantity.millis() as f64 / 1000.0 }
}

fn authorization<'a>(function: &str, check: &Rc<Check<'a>>, arguments: &[Value<'a>]) -> Option<Called<'a>> {
    let text = |index: usize| arguments.get(index).and_then(Value::as_text);
    let Some(argument) = text(1) else { return Some(failed(NO_OVERLOAD)) };
    let mut question = check.question.clone();
    let argument = argument.to_owned();
    match function {
        "path" if argument.is_empty() => return Some(failed("path must not be empty")),
        "path" => question.path = Some(argument),
        "group" => question.group = argument,
        "resource" if argument.is_empty() => return Some(failed("resource must not be empty")),
        "resource" => question.resource = argument,
        "subresource" => question.subresource = argument,
        "namespace" => question.namespace = argument,
        "name" => question.name = argument,
        // Authorizers here don't look at selectors, which upstream allows them.
        "fieldSelector" | "labelSelector" => {}
        "serviceAccount" => {
            let Some(name) = text(2) else { return Some(failed(NO_OVERLOAD)) };
            if let Some(why) = api_meta::names::dns1123_label(&argument).first() {
                return Some(failed(format!("Invalid service account namespace: {why}")));
            }
            if let Some(why) = api_meta::names::dns1123_subdomain(name).first() {
                return Some(failed(format!("Invalid service account name: {why}")));
            }
            question.service_account = Some((argument, name.to_owned()));
        }
        "check" => {
            question.verb = argument;
            return Some(Ok(Value::Decision(Rc::new(check.asked.check(&question)))));
        }
        _ => return None,
    }
    Some(Ok(Value::Authorizer(Rc::new(Check { asked: check.asked, question }))))
}
