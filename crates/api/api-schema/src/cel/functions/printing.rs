//! Values as text: `string(x)` and `format`.
use super::super::evaluate::{EvaluationError, failed};
use super::super::value::Value;
use jiff::SignedDuration;

/// Seconds with as many decimals as there are, and an `s`.
pub(in super::super) fn duration_text(duration: SignedDuration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let fraction = format!("{:09}", nanos.unsigned_abs());
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{dot}{fraction}s", seconds.unsigned_abs())
}

/// Scalars, as Go prints them; `None` for what has no text.
pub(super) fn plain(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Null => "null".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Uint(uint) => uint.to_string(),
        Value::Double(double) => double_text(*double),
        Value::String(text) => text.to_string(),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(duration) => duration_text(*duration),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(cidr) => cidr.to_string(),
        Value::Type(name) => name.clone(),
        Value::Quantity(quantity) => quantity.to_string(),
        _ => return None,
    })
}

/// Go's `%g`: an exponent for the very large and the very small.
fn double_text(double: f64) -> String {
    if double.is_nan() {
        return "NaN".into();
    }
    if double.is_infinite() {
        return if double > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let exponent = if double == 0.0 { 0 } else { double.abs().log10().floor() as i32 };
    if (-5..21).contains(&exponent) {
        return double.to_string();
    }
    let text = format!("{double:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `"%s and %d".format([a, b])`.
pub(super) fn format(pattern: &str, arguments: &[Value<'_>]) -> Result<String, EvaluationError> {
    const MOST_DECIMALS: usize = 100;
    let (mut out, mut characters, mut next) = (String::new(), pattern.chars().peekable(), 0);
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if characters.peek() == Some(&'%') {
            characters.next();
            out.push('%');
            continue;
        }
        let mut decimals = None;
        if characters.peek() == Some(&'.') {
            characters.next();
            let mut digits = String::new();
            while let Some(digit) = characters.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            decimals = digits.parse::<usize>().ok();
            if decimals.is_none_or(|decimals| decimals > MOST_DECIMALS) {
                return failed("error while formatting string: precision is out of range");
            }
        }
        let Some(verb) = characters.next() else { return failed("error while formatting string: unexpected end of string") };
        let Some(argument) = arguments.get(next) else { return failed(format!("error while formatting string: index {next} out of range")) };
        next += 1;
        out.push_str(&clause(verb, decimals, argument)?);
        if out.len() > super::LARGEST {
            return failed("string exceeds the largest size");
        }
    }
    Ok(out)
}

fn clause(verb: char, decimals: Option<usize>, value: &Value<'_>) -> Result<String, EvaluationError> {
    let unfit = |takes: &str| failed(format!("error during formatting: {takes}, was given {}", value.type_name()));
    Ok(match (verb, value) {
        ('s', value) => whole(value),
        ('d', Value::Int(_) | Value::Uint(_)) => plain(value).unwrap_or_default(),
        ('d', Value::Double(double)) if !double.is_finite() => double_text(*double),
        ('d', _) => return unfit("decimal clause can only be used on integers"),
        ('f', Value::Double(double)) => format!("{double:.*}", decimals.unwrap_or(6)),
        ('f', Value::Int(int)) => format!("{:.*}", decimals.unwrap_or(6), *int as f64),
        ('f', _) => return unfit("fixed-point clause can only be used on doubles"),
        ('e', Value::Double(double)) => {
            let text = format!("{double:.*e}", decimals.unwrap_or(6));
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        ('e', _) => return unfit("scientific clause can only be used on doubles"),
        ('b', Value::Int(int)) => signed(*int, |magnitude| format!("{magnitude:b}")),
        ('b', Value::Uint(uint)) => format!("{uint:b}"),
        ('b', Value::Bool(flag)) => u8::from(*flag).to_string(),
        ('b', _) => return unfit("binary clause can only be used on integers and bools"),
        ('o', Value::Int(int)) => signed(*int, |magnitude| format!("{magnitude:o}")),
        ('o', Value::Uint(uint)) => format!("{uint:o}"),
        ('o', _) => return unfit("octal clause can only be used on integers"),
        ('x' | 'X', value) => {
            let hex = match value {
                Value::Int(int) => signed(*int, |magnitude| format!("{magnitude:x}")),
                Value::Uint(uint) => format!("{uint:x}"),
                Value::String(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => return unfit("only integers, byte buffers, and strings can be formatted as hex"),
            };
            if verb == 'X' { hex.to_uppercase() } else { hex }
        }
        (other, _) => return failed(format!("error while formatting string: could not parse formatting clause: unrecognized formatting clause \"{other}\"")),
    })
}

fn signed(int: i64, shown: impl Fn(u64) -> String) -> String {
    format!("{}{}", if int < 0 { "-" } else { "" }, shown(int.unsigned_abs()))
}

fn whole(value: &Value<'_>) -> String {
    if let Some(text) = plain(value) {
        return text;
    }
    if let Value::Bytes(bytes) = value {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    if let Some(elements) = value.elements() {
        return format!("[{}]", elements.iter().map(whole).collect::<Vec<_>>().join(", "));
    }
    if let Some(entries) = value.entries() {
        let entries: Vec<String> = entries.into_iter().map(|(key, value)| format!("{}: {}", super::shown(&key), whole(&value))).collect();
        return format!("{{{}}}", entries.join(", "));
    }
    value.type_name().to_owned()
}
