//! Timestamps and durations.
use super::super::evaluate::failed;
use super::super::value::Value;
use super::{Called, NO_OVERLOAD};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

pub(super) fn call<'a>(function: &str, arguments: &[Value<'a>]) -> Option<Called<'a>> {
    if !function.starts_with("get") {
        return None;
    }
    match arguments.first()? {
        Value::Timestamp(at) => {
            let zone = match arguments.get(1).and_then(Value::as_text) {
                Some(name) => match zone(name) {
                    Some(zone) => zone,
                    None => return Some(failed(format!("unknown time zone {name}"))),
                },
                None => TimeZone::UTC,
            };
            part(function, &at.to_zoned(zone)).map(|number| Ok(Value::Int(number)))
        }
        Value::Duration(duration) => {
            let number = match function {
                "getHours" => duration.as_hours(),
                "getMinutes" => duration.as_mins(),
                "getSeconds" => duration.as_secs(),
                "getMilliseconds" => i64::from(duration.subsec_millis()),
                _ => return None,
            };
            Some(Ok(Value::Int(number)))
        }
        _ => None,
    }
}

fn part(function: &str, at: &Zoned) -> Option<i64> {
    Some(match function {
        "getFullYear" => at.year().into(),
        "getMonth" => i64::from(at.month()) - 1,
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDate" => at.day().into(),
        "getDayOfWeek" => at.weekday().to_sunday_zero_offset().into(),
        "getHours" => at.hour().into(),
        "getMinutes" => at.minute().into(),
        "getSeconds" => at.second().into(),
        "getMilliseconds" => at.millisecond().into(),
        _ => return None,
    })
}

/// A name, or an offset like `-08:00`.
fn zone(name: &str) -> Option<TimeZone> {
    let (sign, rest) = match name.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, name.strip_prefix('+').unwrap_or(name)),
    };
    match rest.split_once(':') {
        Some((hours, minutes)) => {
            let (hours, minutes): (i32, i32) = (hours.parse::<u8>().ok()?.into(), minutes.parse::<u8>().ok()?.into());
            Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().map(TimeZone::fixed)
        }
        None => TimeZone::get(name).ok(),
    }
}

pub(super) fn arithmetic<'a>(function: &str, a: &Value<'a>, b: &Value<'a>) -> Called<'a> {
    let time = |at: Result<Timestamp, jiff::Error>| at.map_or_else(|_| failed("timestamp overflow"), |at| Ok(Value::Timestamp(at)));
    let duration = |found: Option<SignedDuration>| found.map_or_else(|| failed("duration overflow"), |found| Ok(Value::Duration(found)));
    match (function, a, b) {
        ("_+_", Value::Timestamp(at), Value::Duration(by)) | ("_+_", Value::Duration(by), Value::Timestamp(at)) => time(at.checked_add(*by)),
        ("_-_", Value::Timestamp(at), Value::Duration(by)) => time(at.checked_sub(*by)),
        ("_-_", Value::Timestamp(a), Value::Timestamp(b)) => Ok(Value::Duration(a.duration_since(*b))),
        ("_+_", Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        ("_-_", Value::Duration(a), Value::Duration(b)) => duration(a.checked_sub(*b)),
        _ => failed(NO_OVERLOAD),
    }
}

/// Go's `time.ParseDuration`: `1h30m`, `-1.5s`, `100ms`.
pub(in super::super) fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0 && *end <= 30)?;
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.get(..fraction.len().min(15))?.parse().ok()? };
        let scale = 10i128.pow(fraction.len().min(15) as u32);
        nanos = nanos.checked_add(whole.checked_mul(unit)?)?.checked_add(part * unit / scale)?;
        rest = after;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}
