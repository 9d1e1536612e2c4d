//! Lists and sets.
use super::super::evaluate::failed;
use super::super::value::Value;
use super::{Called, NO_OVERLOAD, numbers};
use std::cmp::Ordering;

pub(super) fn call<'a>(function: &str, arguments: &[Value<'a>]) -> Option<Called<'a>> {
    let elements = arguments.first()?.elements()?;
    let other = arguments.get(1);
    Some(match function {
        "isSorted" => Ok(elements.windows(2).all(|pair| pair[0].compare(&pair[1]) != Some(Ordering::Greater)).into()),
        "sum" => sum(&elements),
        "min" => extreme(&elements, Ordering::Less, "min"),
        "max" => extreme(&elements, Ordering::Greater, "max"),
        "indexOf" => Ok(position(elements.iter().position(|element| other.is_some_and(|other| element.equals(other))))),
        "lastIndexOf" => Ok(position(elements.iter().rposition(|element| other.is_some_and(|other| element.equals(other))))),
        "sets.contains" | "sets.equivalent" | "sets.intersects" => match other.and_then(Value::elements) {
            Some(others) => Ok(sets(function, &elements, &others).into()),
            None => failed(NO_OVERLOAD),
        },
        _ => return None,
    })
}

fn position<'a>(found: Option<usize>) -> Value<'a> {
    Value::Int(found.map_or(-1, |at| at as i64))
}

fn sum<'a>(elements: &[Value<'a>]) -> Called<'a> {
    let Some((first, rest)) = elements.split_first() else { return Ok(Value::Int(0)) };
    rest.iter().try_fold(first.clone(), |sum, element| numbers::arithmetic("_+_", &[sum, element.clone()]))
}

fn extreme<'a>(elements: &[Value<'a>], wanted: Ordering, name: &str) -> Called<'a> {
    let Some((first, rest)) = elements.split_first() else { return failed(format!("{name} called on empty list")) };
    let mut best = first;
    for element in rest {
        match element.compare(best) {
            Some(order) if order == wanted => best = element,
            Some(_) => {}
            None => return failed(NO_OVERLOAD),
        }
    }
    Ok(best.clone())
}

fn sets(function: &str, a: &[Value<'_>], b: &[Value<'_>]) -> bool {
    let holds = |list: &[Value<'_>], element: &Value<'_>| list.iter().any(|other| other.equals(element));
    match function {
        "sets.contains" => b.iter().all(|element| holds(a, element)),
        "sets.intersects" => b.iter().any(|element| holds(a, element)),
        _ => b.iter().all(|element| holds(a, element)) && a.iter().all(|element| holds(b, element)),
    }
}
