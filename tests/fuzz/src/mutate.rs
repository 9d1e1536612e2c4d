//! Mutations: of values, which stay values, and of bytes, which may stay nothing.
use crate::{Random, generate};
use api_schema::Schema;
use serde_json::{Value, json};

/// Changes an object in a few places: wrong types, missing and unknown fields, extremes, repetitions.
pub fn mutate(random: &mut Random, object: &mut Value, schema: &Schema, times: usize) {
    for _ in 0..times {
        descend(random, object, Some(schema), "", 0);
    }
}

fn descend(random: &mut Random, value: &mut Value, schema: Option<&Schema>, field: &str, depth: usize) {
    let inner = match value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if inner == 0 || (depth > 0 && random.percent(20)) {
        return change(random, value, schema, field);
    }
    let at = random.below(inner);
    match value {
        Value::Array(items) => descend(random, &mut items[at], schema.and_then(Schema::item), field, depth + 1),
        Value::Object(fields) => {
            let key = fields.keys().nth(at).cloned().unwrap_or_default();
            if depth > 0 && random.percent(10) {
                fields.remove(&key);
            } else if let Some(inner) = fields.get_mut(&key) {
                descend(random, inner, schema.and_then(|schema| schema.field(&key)), &key, depth + 1);
            }
        }
        _ => {}
    }
}

fn change(random: &mut Random, value: &mut Value, schema: Option<&Schema>, field: &str) {
    match (random.below(10), &mut *value) {
        (0..4, _) if schema.is_some() => *value = generate::value(random, schema.unwrap_or(Schema::anything()), field),
        (0..6, Value::Array(items)) if !items.is_empty() => {
            let again = items[random.below(items.len())].clone();
            items.push(again);
        }
        (0..6, Value::Object(fields)) => {
            fields.insert((*random.pick(&["unknown", "a", "", "x/y", "$patch", "é"])).to_owned(), strange(random));
        }
        (4..6, Value::String(text)) => {
            let more = random.pick(&["-", "\u{e9}", "A", "/", ".", " ", "\0", "%", "$(", "\n"]);
            let at = text.char_indices().nth(random.below(text.chars().count() + 1)).map_or(text.len(), |(at, _)| at);
            text.insert_str(at, more);
        }
        (4..6, Value::Number(number)) => *value = number.as_i64().map_or(json!(-1), |number| json!(number.wrapping_neg().wrapping_sub(1))),
        _ => *value = strange(random),
    }
}

/// A value that is out of place nearly anywhere.
fn strange(random: &mut Random) -> Value {
    match random.below(18) {
        0 | 1 => Value::Null,
        2 => true.into(),
        3 => (-1).into(),
        4 => i64::MAX.into(),
        5 => i64::MIN.into(),
        6 => u64::MAX.into(),
        7 => json!(1.5),
        8 => json!(1e300),
        9 => "".into(),
        10 => "x".repeat(random.below(400)).into(),
        11 => "\u{1F600}\u{0}\u{202e}".into(),
        12 => json!([]),
        13 => json!({}),
        14 => json!([null, 1, "a", {"b": []}]),
        15 => json!({"a": {"b": {"c": [[]]}}}),
        16 => (0..random.below(60)).fold(json!(1), |inner, _| json!([inner])),
        _ => 2_147_483_648_i64.into(),
    }
}

/// Changes bytes in a few places.
pub fn mutate_bytes(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    const PIECES: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b"\"",
        b"\\",
        b"null",
        b",",
        b":",
        b"\xff",
        b"\0",
        b"\\u0000",
        b"\\ud800",
        b"1e999",
        b"-",
        b"18446744073709551616",
        b"!",
        b"&a ",
        b"*a",
        b"\n",
        b"  ",
        b"(",
        b")",
        b"=",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80\x00",
        b"\xe2\x80\xa8",
        b"999999999999999999999",
    ];
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let length = random.below(16.min(bytes.len() - at + 1));
        match random.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.bits() as u8,
            2 => drop(bytes.drain(at..at + length)),
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[at..at + length].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 if !other.is_empty() => {
                let from = random.below(other.len());
                let to = (from + 1 + random.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            6 => {
                let piece = *random.pick(PIECES);
                let many = if random.percent(5) { 500 } else { 1 };
                bytes.splice(at..at, piece.repeat(many));
            }
            7 => {
                let piece = random.bits().to_le_bytes();
                bytes.splice(at..at, piece);
            }
            _ => {
                let piece = *random.pick(PIECES);
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
}
