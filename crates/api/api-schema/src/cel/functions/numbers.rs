//! Arithmetic, with overflow as an error.
use super::super::evaluate::failed;
use super::super::value::Value;
use super::{Called, LARGEST, NO_OVERLOAD, list, text};

const OVERFLOW: &str = "integer overflow";
const UNSIGNED_OVERFLOW: &str = "unsigned integer overflow";

pub(super) fn arithmetic<'a>(function: &str, arguments: &[Value<'a>]) -> Called<'a> {
    if function == "-_" {
        return match &arguments[0] {
            Value::Int(int) => int.checked_neg().map_or_else(|| failed(OVERFLOW), |int| Ok(Value::Int(int))),
            Value::Double(double) => Ok(Value::Double(-double)),
            _ => failed(NO_OVERLOAD),
        };
    }
    match (&arguments[0], &arguments[1]) {
        (Value::Int(a), Value::Int(b)) => ints(function, *a, *b),
        (Value::Uint(a), Value::Uint(b)) => uints(function, *a, *b),
        (Value::Double(a), Value::Double(b)) => match function {
            "_+_" => Ok(Value::Double(a + b)),
            "_-_" => Ok(Value::Double(a - b)),
            "_*_" => Ok(Value::Double(a * b)),
            "_/_" => Ok(Value::Double(a / b)),
            _ => failed(NO_OVERLOAD),
        },
        (Value::String(a), Value::String(b)) if function == "_+_" => text(format!("{a}{b}")),
        (Value::Bytes(a), Value::Bytes(b)) if function == "_+_" => {
            if a.len() + b.len() > LARGEST {
                return failed("bytes exceed the largest size");
            }
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        (a, b) if function == "_+_" && a.elements().is_some() => match (a.elements(), b.elements()) {
            (Some(mut a), Some(b)) => {
                a.extend(b);
                list(a)
            }
            _ => failed(NO_OVERLOAD),
        },
        (a, b) => super::times::arithmetic(function, a, b),
    }
}

fn ints<'a>(function: &str, a: i64, b: i64) -> Called<'a> {
    let found = match function {
        "_+_" => a.checked_add(b),
        "_-_" => a.checked_sub(b),
        "_*_" => a.checked_mul(b),
        "_/_" if b == 0 => return failed("division by zero"),
        "_/_" => a.checked_div(b),
        "_%_" if b == 0 => return failed("modulus by zero"),
        _ => a.checked_rem(b),
    };
    found.map_or_else(|| failed(OVERFLOW), |int| Ok(Value::Int(int)))
}

fn uints<'a>(function: &str, a: u64, b: u64) -> Called<'a> {
    let found = match function {
        "_+_" => a.checked_add(b),
        "_-_" => a.checked_sub(b),
        "_*_" => a.checked_mul(b),
        "_/_" if b == 0 => return failed("division by zero"),
        "_/_" => a.checked_div(b),
        "_%_" if b == 0 => return failed("modulus by zero"),
        _ => a.checked_rem(b),
    };
    found.map_or_else(|| failed(UNSIGNED_OVERFLOW), |uint| Ok(Value::Uint(uint)))
}
