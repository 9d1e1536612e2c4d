//! Functions: what each function and operator makes of its arguments. The type of an argument is checked here, since dynamic ones are not before.
mod collections;
mod conversions;
mod formats;
mod kubernetes;
mod network;
mod numbers;
mod printing;
mod strings;
mod times;

use super::evaluate::{EvaluationError, failed};
use super::value::{Key, Value};
use std::cmp::Ordering;
use std::rc::Rc;

pub(super) use printing::duration_text;
pub(super) use times::parse_duration as duration;

type Called<'a> = Result<Value<'a>, EvaluationError>;

const NO_OVERLOAD: &str = "no such overload";
/// No list or text an expression makes is larger: what upstream's costs don't count is bounded here.
const LARGEST: usize = 4 << 20;

pub(super) fn call<'a>(function: &str, arguments: &[Value<'a>]) -> Called<'a> {
    let found = match function {
        "_==_" => arguments[0].equals(&arguments[1]).into(),
        "_!=_" => (!arguments[0].equals(&arguments[1])).into(),
        "_<_" | "_<=_" | "_>_" | "_>=_" => compare(function, &arguments[0], &arguments[1])?,
        "_+_" | "_-_" | "_*_" | "_/_" | "_%_" | "-_" => return numbers::arithmetic(function, arguments),
        "!_" => match arguments[0] {
            Value::Bool(flag) => (!flag).into(),
            _ => return failed(NO_OVERLOAD),
        },
        "@in" => contains(&arguments[0], &arguments[1])?.into(),
        "_[_]" => return index(&arguments[0], &arguments[1]),
        "_[?_]" => return optional_index(&arguments[0], &arguments[1]),
        "size" => match arguments[0].size() {
            Some(size) => Value::Int(size as i64),
            None => return failed(NO_OVERLOAD),
        },
        "dyn" => arguments[0].clone(),
        "type" => Value::Type(arguments[0].type_name().to_owned()),
        "optional.of" => Value::Optional(Some(Rc::new(arguments[0].clone()))),
        "optional.none" => Value::Optional(None),
        "optional.ofNonZeroValue" => Value::Optional(if is_zero(&arguments[0]) { None } else { Some(Rc::new(arguments[0].clone())) }),
        "hasValue" => match &arguments[0] {
            Value::Optional(inner) => inner.is_some().into(),
            _ => return failed(NO_OVERLOAD),
        },
        "value" => match &arguments[0] {
            Value::Optional(Some(inner)) => (**inner).clone(),
            Value::Optional(None) => return failed("optional.none() dereference"),
            _ => return failed(NO_OVERLOAD),
        },
        _ => {
            let found = conversions::call(function, arguments)
                .or_else(|| strings::call(function, arguments))
                .or_else(|| collections::call(function, arguments))
                .or_else(|| times::call(function, arguments))
                .or_else(|| network::call(function, arguments))
                .or_else(|| kubernetes::call(function, arguments))
                .or_else(|| formats::call(function, arguments));
            return found.unwrap_or_else(|| failed(NO_OVERLOAD));
        }
    };
    Ok(found)
}

fn compare<'a>(function: &str, left: &Value<'a>, right: &Value<'a>) -> Called<'a> {
    let numbers = left.numbers(right);
    let order = match numbers {
        // Nothing is more or less than what is no number.
        Some(None) => return Ok(false.into()),
        Some(order) => order,
        None => left.compare(right),
    };
    let Some(order) = order else { return failed(NO_OVERLOAD) };
    Ok(match function {
        "_<_" => order == Ordering::Less,
        "_<=_" => order != Ordering::Greater,
        "_>_" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }
    .into())
}

fn contains(element: &Value<'_>, of: &Value<'_>) -> Result<bool, EvaluationError> {
    if let Some(elements) = of.elements() {
        return Ok(elements.iter().any(|other| other.equals(element)));
    }
    match (of, element.to_key()) {
        (Value::Map(_) | Value::MapOr(_) | Value::JsonObject(..) | Value::Struct(_), Some(key)) => Ok(of.entry(&key).is_some()),
        (Value::Map(_) | Value::MapOr(_) | Value::JsonObject(..), None) => Ok(false),
        _ => failed(NO_OVERLOAD),
    }
}

fn index<'a>(of: &Value<'a>, at: &Value<'a>) -> Called<'a> {
    match of {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => return optional_index(inner, at),
        Value::List(_) | Value::JsonList(..) => {
            let Some(Key::Int(position)) = at.to_key() else { return failed(NO_OVERLOAD) };
            let element = usize::try_from(position).ok().and_then(|position| of.element(position));
            return element.map_or_else(|| failed(format!("index out of bounds: {position}")), Ok);
        }
        Value::Map(_) | Value::MapOr(_) | Value::JsonObject(..) | Value::Struct(_) => {}
        _ => return failed(NO_OVERLOAD),
    }
    let Some(key) = at.to_key() else { return failed(NO_OVERLOAD) };
    of.looked_up(&key).map_or_else(|| failed(format!("no such key: {}", shown(&key))), Ok)
}

fn optional_index<'a>(of: &Value<'a>, at: &Value<'a>) -> Called<'a> {
    let of = match of {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => inner,
        other => other,
    };
    let Some(key) = at.to_key() else { return failed(NO_OVERLOAD) };
    let found = match (of, &key) {
        (Value::List(_) | Value::JsonList(..), Key::Int(position)) => usize::try_from(*position).ok().and_then(|position| of.element(position)),
        (Value::Map(_) | Value::MapOr(_) | Value::JsonObject(..) | Value::Struct(_), key) => of.looked_up(key),
        _ => return failed(NO_OVERLOAD),
    };
    Ok(Value::Optional(found.map(Rc::new)))
}

fn shown(key: &Key<'_>) -> String {
    match key {
        Key::Bool(flag) => flag.to_string(),
        Key::Int(int) => int.to_string(),
        Key::String(text) => text.to_string(),
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Int(int) => *int == 0,
        Value::Uint(uint) => *uint == 0,
        Value::Double(double) => *double == 0.0,
        Value::Duration(duration) => duration.is_zero(),
        other => other.size() == Some(0),
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

/// A list, unless it is larger than any may be.
fn list(elements: Vec<Value<'_>>) -> Called<'_> {
    if elements.len() > LARGEST / 16 { failed("list exceeds the largest size") } else { Ok(Value::List(Rc::new(elements))) }
}

/// A text, unless it is larger than any may be.
fn text<'a>(text: String) -> Called<'a> {
    if text.len() > LARGEST { failed("string exceeds the largest size") } else { Ok(Value::string(text)) }
}
