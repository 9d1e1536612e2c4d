//! Conversions between the basic types.
use super::super::evaluate::failed;
use super::super::value::Value;
use super::{Called, printing, times};

pub(super) fn call<'a>(function: &str, arguments: &[Value<'a>]) -> Option<Called<'a>> {
    let value = arguments.first()?;
    Some(match function {
        "int" => int(value),
        "uint" => uint(value),
        "double" => double(value),
        "string" => string(value),
        "bytes" => match value {
            Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
            Value::Bytes(_) => Ok(value.clone()),
            _ => unfit(value, "bytes"),
        },
        "bool" => match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::String(text) => match &**text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true.into()),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false.into()),
                other => failed(format!("strconv.ParseBool: parsing {other:?}: invalid syntax")),
            },
            _ => unfit(value, "bool"),
        },
        "timestamp" => match value {
            Value::Timestamp(_) => Ok(value.clone()),
            Value::Int(seconds) => jiff::Timestamp::from_second(*seconds).map_or_else(|_| failed("timestamp overflow"), |at| Ok(Value::Timestamp(at))),
            Value::String(text) => text.parse().map_or_else(
                |_| failed(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?}")),
                |at| Ok(Value::Timestamp(at)),
            ),
            _ => unfit(value, "google.protobuf.Timestamp"),
        },
        "duration" => match value {
            Value::Duration(_) => Ok(value.clone()),
            Value::Int(nanos) => Ok(Value::Duration(jiff::SignedDuration::from_nanos(*nanos))),
            Value::String(text) => times::parse_duration(text).map_or_else(|| failed(format!("time: invalid duration {text:?}")), |d| Ok(Value::Duration(d))),
            _ => unfit(value, "google.protobuf.Duration"),
        },
        _ => return None,
    })
}

fn unfit<'a>(value: &Value<'_>, to: &str) -> Called<'a> {
    failed(format!("type conversion error from '{}' to '{to}'", value.type_name()))
}

fn int<'a>(value: &Value<'a>) -> Called<'a> {
    match value {
        Value::Int(_) => Ok(value.clone()),
        Value::Uint(uint) => i64::try_from(*uint).map_or_else(|_| failed("integer overflow"), |int| Ok(Value::Int(int))),
        Value::Double(double) if double.is_finite() && double.abs() < 9_223_372_036_854_775_807.0 => Ok(Value::Int(*double as i64)),
        Value::Double(_) => failed("integer overflow"),
        Value::String(text) => text.parse().map_or_else(|_| failed(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")), |int| Ok(Value::Int(int))),
        Value::Timestamp(at) => Ok(Value::Int(at.as_second())),
        Value::Duration(duration) => i64::try_from(duration.as_nanos()).map_or_else(|_| failed("integer overflow"), |int| Ok(Value::Int(int))),
        _ => unfit(value, "int"),
    }
}

fn uint<'a>(value: &Value<'a>) -> Called<'a> {
    match value {
        Value::Uint(_) => Ok(value.clone()),
        Value::Int(int) => u64::try_from(*int).map_or_else(|_| failed("unsigned integer overflow"), |uint| Ok(Value::Uint(uint))),
        Value::Double(double) if (0.0..18_446_744_073_709_551_615.0).contains(double) => Ok(Value::Uint(*double as u64)),
        Value::Double(_) => failed("unsigned integer overflow"),
        Value::String(text) => {
            text.parse().map_or_else(|_| failed(format!("strconv.ParseUint: parsing {text:?}: invalid syntax")), |uint| Ok(Value::Uint(uint)))
        }
        _ => unfit(value, "uint"),
    }
}

fn double<'a>(value: &Value<'a>) -> Called<'a> {
    match value {
        Value::Double(_) => Ok(value.clone()),
        Value::Int(int) => Ok(Value::Double(*int as f64)),
        Value::Uint(uint) => Ok(Value::Double(*uint as f64)),
        Value::String(text) => {
            text.parse().map_or_else(|_| failed(format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")), |double| Ok(Value::Double(double)))
        }
        _ => unfit(value, "double"),
    }
}

fn string<'a>(value: &Value<'a>) -> Called<'a> {
    match value {
        Value::String(_) => Ok(value.clone()),
        Value::Bytes(bytes) => {
            std::str::from_utf8(bytes).map_or_else(|_| failed("invalid UTF-8 in bytes, cannot convert to string"), |text| Ok(Value::string(text)))
        }
        other => printing::plain(other).map_or_else(|| unfit(value, "string"), |text| Ok(Value::string(text))),
    }
}
