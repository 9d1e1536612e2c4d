//! Value: what an expression works with. Objects stay the JSON they are, and are looked into as far as they are used.
use super::types::{escape, unescape};
use crate::{Schema, Type as Kind};
use api_meta::Quantity;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

/// How deep values may nest, so that walking through one is safe.
const DEEPEST: usize = 400;
/// How much may become JSON.
const HEAVIEST: u64 = 1_000_000;

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Cow<'a, str>),
    Bytes(Rc<[u8]>),
    Timestamp(Timestamp),
    Duration(SignedDuration),
    List(Rc<Vec<Value<'a>>>),
    Map(Rc<BTreeMap<Key<'a>, Value<'a>>>),
    /// A map that has something for every key: looked up, a key it lacks gives the second.
    MapOr(Rc<(BTreeMap<Key<'a>, Value<'a>>, Value<'a>)>),
    /// A list of JSON, with the schema of its elements.
    JsonList(&'a [Json], Option<&'a Schema>),
    /// An object of JSON. With a schema it has that schema's fields and no others.
    JsonObject(&'a Map<String, Json>, Option<&'a Schema>, Root),
    /// What `Name{...}` makes.
    Struct(Rc<(String, BTreeMap<String, Value<'a>>)>),
    Optional(Option<Rc<Value<'a>>>),
    /// The name of a type.
    Type(String),
    Quantity(Rc<Quantity>),
    Url(Rc<super::url::Url>),
    Ip(IpAddr),
    Cidr(IpNet),
    Semver(Rc<super::semver::Semver>),
    Format(&'static str),
    Authorizer(Rc<super::authorizer::Check<'a>>),
    Decision(Rc<super::authorizer::Decision>),
}

/// Whether an object is a resource's root, of which metadata shows the names alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    Yes,
    No,
    /// The metadata of a root.
    Metadata,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    Bool(bool),
    Int(i128),
    String(Cow<'a, str>),
}

impl<'a> Value<'a> {
    /// Untyped JSON.
    pub fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(flag) => Self::Bool(*flag),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Self::Int(int),
                (None, Some(uint)) => Self::Uint(uint),
                _ => Self::Double(number.as_f64().unwrap_or_default()),
            },
            Json::String(text) => Self::String(Cow::Borrowed(text)),
            Json::Array(items) => Self::JsonList(items, None),
            Json::Object(fields) => Self::JsonObject(fields, None, Root::No),
        }
    }

    /// JSON that its schema gives types to.
    pub fn typed(json: &'a Json, schema: &'a Schema, root: Root) -> Self {
        match (json, schema.kind) {
            (Json::Number(number), Kind::Number) => Self::Double(number.as_f64().unwrap_or_default()),
            (Json::String(text), Kind::String) => match schema.format.as_deref() {
                Some("byte") => base64(text).map_or_else(|| Self::String(text.into()), |bytes| Self::Bytes(bytes.into())),
                Some("duration") => super::functions::duration(text).map_or_else(|| Self::String(text.into()), Self::Duration),
                Some("date-time") => text.parse().map_or_else(|_| Self::String(text.into()), Self::Timestamp),
                Some("date") => format!("{text}T00:00:00Z").parse().map_or_else(|_| Self::String(text.into()), Self::Timestamp),
                _ => Self::String(Cow::Borrowed(text)),
            },
            (Json::Array(items), Kind::Array) => Self::JsonList(items, schema.item()),
            (Json::Object(fields), Kind::Object) => Self::JsonObject(fields, Some(schema), root),
            _ => Self::of_json(json),
        }
    }

    pub fn string(text: impl Into<String>) -> Self {
        Self::String(Cow::Owned(text.into()))
    }

    /// CEL's name for the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::List(_) | Self::JsonList(..) => "list",
            Self::Map(_) | Self::MapOr(_) | Self::JsonObject(..) => "map",
            Self::Struct(object) => &object.0,
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Elements, bytes or characters; `None` for what has no size.
    pub fn size(&self) -> Option<usize> {
        match self {
            Self::String(text) => Some(text.chars().count()),
            Self::Bytes(bytes) => Some(bytes.len()),
            Self::List(items) => Some(items.len()),
            Self::JsonList(items, _) => Some(items.len()),
            Self::Map(entries) => Some(entries.len()),
            Self::MapOr(map) => Some(map.0.len()),
            Self::JsonObject(fields, ..) => Some(fields.len()),
            _ => None,
        }
    }

    /// A list's elements; `None` when it is none.
    pub fn elements(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Self::List(items) => Some(items.to_vec()),
            Self::JsonList(items, schema) => Some(items.iter().map(|item| element(item, *schema)).collect()),
            _ => None,
        }
    }

    pub fn element(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::List(items) => items.get(index).cloned(),
            Self::JsonList(items, schema) => items.get(index).map(|item| element(item, *schema)),
            _ => None,
        }
    }

    /// A map's entries, in the order of their keys; `None` when it is none.
    pub fn entries(&self) -> Option<Vec<(Key<'a>, Value<'a>)>> {
        match self {
            Self::Map(entries) => Some(entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
            Self::MapOr(map) => Some(map.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
            Self::JsonObject(fields, schema, _) => {
                let written =
                    |name: &'a str| if schema.is_some_and(|s| s.additional.is_none()) { escape(name).map(Cow::Owned) } else { Some(Cow::Borrowed(name)) };
                Some(fields.iter().filter_map(|(name, _)| Some((Key::String(written(name)?), self.raw_field(name)?))).collect())
            }
            _ => None,
        }
    }

    /// The value under a key; `None` when there is none.
    pub fn entry(&self, key: &Key<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Self::Map(entries), key) => entries.get(key).cloned(),
            (Self::MapOr(map), key) => map.0.get(key).cloned(),
            (Self::JsonObject(_, schema, _), Key::String(name)) if schema.is_some_and(|s| s.additional.is_none()) => self.raw_field(&unescape(name)?),
            (Self::JsonObject(..), Key::String(name)) => self.raw_field(name),
            (Self::Struct(object), Key::String(name)) => object.1.get(&**name).cloned(),
            _ => None,
        }
    }

    /// What looking a key up gives: its value, or what the map has for all others.
    pub fn looked_up(&self, key: &Key<'_>) -> Option<Value<'a>> {
        match self {
            Self::MapOr(map) => Some(map.0.get(key).unwrap_or(&map.1).clone()),
            other => other.entry(key),
        }
    }

    fn raw_field(&self, name: &str) -> Option<Value<'a>> {
        let Self::JsonObject(fields, schema, root) = self else { return None };
        let json = fields.get(name)?;
        let Some(schema) = *schema else { return Some(Self::of_json(json)) };
        if *root == Root::Metadata && !matches!(name, "name" | "generateName") {
            return None;
        }
        if *root == Root::Yes {
            match (name, json) {
                ("apiVersion" | "kind", _) => return Some(Self::of_json(json)),
                ("metadata", Json::Object(fields)) if schema.definition.is_none() => {
                    return Some(Self::JsonObject(fields, None, Root::Metadata));
                }
                _ => {}
            }
        }
        // A null where null is not allowed counts as absent, since defaulting drops it.
        let field = schema.field(name)?;
        Some(Self::typed(json, field, if field.embedded_resource { Root::Yes } else { Root::No }))
    }

    /// CEL's equality: numbers by value, everything else by type and content. `set` and `map` lists disregard order.
    pub fn equals(&self, other: &Value<'_>) -> bool {
        if let Some(order) = self.numbers(other) {
            return order == Some(Ordering::Equal);
        }
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::String(a), Value::String(b)) => a == b,
            (Self::Bytes(a), Value::Bytes(b)) => a == b,
            (Self::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Self::Duration(a), Value::Duration(b)) => a == b,
            (Self::Type(a), Value::Type(b)) => a == b,
            (Self::Quantity(a), Value::Quantity(b)) => a == b,
            (Self::Url(a), Value::Url(b)) => a == b,
            (Self::Ip(a), Value::Ip(b)) => a == b,
            (Self::Cidr(a), Value::Cidr(b)) => a == b,
            (Self::Semver(a), Value::Semver(b)) => a.cmp(b) == Ordering::Equal,
            (Self::Format(a), Value::Format(b)) => a == b,
            (Self::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Self::Struct(a), Value::Struct(b)) => a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().all(|(k, v)| b.1.get(k).is_some_and(|w| v.equals(w))),
            _ => match (self.elements(), other.elements()) {
                (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.equals(b)),
                _ => match (self.entries(), other.entries()) {
                    (Some(a), Some(b)) => a.len() == b.len() && a.iter().all(|(key, value)| other.entry(key).is_some_and(|w| value.equals(&w))),
                    _ => false,
                },
            },
        }
    }

    /// The order of two numbers, whatever their types; outer `None`: not both are numbers.
    pub fn numbers(&self, other: &Value<'_>) -> Option<Option<Ordering>> {
        let whole = |value: &Value<'_>| match value {
            Value::Int(int) => Some(i128::from(*int)),
            Value::Uint(uint) => Some(i128::from(*uint)),
            _ => None,
        };
        match (whole(self), whole(other)) {
            (Some(a), Some(b)) => return Some(Some(a.cmp(&b))),
            (None, Some(b)) => {
                if let Self::Double(a) = self {
                    return Some(a.partial_cmp(&(b as f64)));
                }
            }
            (Some(a), None) => {
                if let Value::Double(b) = other {
                    return Some((a as f64).partial_cmp(b));
                }
            }
            (None, None) => {}
        }
        match (self, other) {
            (Self::Double(a), Value::Double(b)) => Some(a.partial_cmp(b)),
            _ => None,
        }
    }

    /// The order of two values that have one.
    pub fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        if let Some(order) = self.numbers(other) {
            return order;
        }
        match (self, other) {
            (Self::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// The value as a map's key.
    pub fn to_key(&self) -> Option<Key<'a>> {
        match self {
            Self::Bool(flag) => Some(Key::Bool(*flag)),
            Self::Int(int) => Some(Key::Int(i128::from(*int))),
            Self::Uint(uint) => Some(Key::Int(i128::from(*uint))),
            Self::Double(double) if double.fract() == 0.0 && double.abs() < 9e18 => Some(Key::Int(*double as i128)),
            Self::String(text) => Some(Key::String(text.clone())),
            _ => None,
        }
    }

    /// How many values there are in it, itself included, as a walk through it would meet them (what is shared counts
    /// again); `None` when that is more than `most`, or when they nest deeper than anything may.
    pub fn weight(&self, most: u64) -> Option<u64> {
        let mut left = most;
        self.walk(&mut left, DEEPEST).then(|| most - left)
    }

    fn walk(&self, left: &mut u64, depth: usize) -> bool {
        fn json(value: &Json, left: &mut u64) -> bool {
            *left = left.saturating_sub(1);
            *left > 0
                && match value {
                    Json::Array(items) => items.iter().all(|item| json(item, left)),
                    Json::Object(fields) => fields.values().all(|field| json(field, left)),
                    _ => true,
                }
        }
        *left = left.saturating_sub(1);
        *left > 0
            && depth > 0
            && match self {
                Self::List(items) => items.iter().all(|item| item.walk(left, depth - 1)),
                Self::Map(entries) => entries.values().all(|value| value.walk(left, depth - 1)),
                Self::MapOr(map) => map.0.values().all(|value| value.walk(left, depth - 1)),
                Self::Struct(object) => object.1.values().all(|value| value.walk(left, depth - 1)),
                Self::Optional(Some(inner)) => inner.walk(left, depth - 1),
                Self::JsonList(items, _) => items.iter().all(|item| json(item, left)),
                Self::JsonObject(fields, ..) => fields.values().all(|field| json(field, left)),
                _ => true,
            }
    }

    /// As JSON; `None` for what JSON has no form of, or what would be huge.
    pub fn to_json(&self) -> Option<Json> {
        self.weight(HEAVIEST)?;
        self.encoded()
    }

    fn encoded(&self) -> Option<Json> {
        Some(match self {
            Self::Null => Json::Null,
            Self::Bool(flag) => (*flag).into(),
            Self::Int(int) => (*int).into(),
            Self::Uint(uint) => (*uint).into(),
            Self::Double(double) => Json::from(*double),
            Self::String(text) => text.to_string().into(),
            Self::Bytes(bytes) => {
                use ::base64::Engine;
                ::base64::engine::general_purpose::STANDARD.encode(bytes).into()
            }
            Self::Timestamp(at) => at.to_string().into(),
            Self::Duration(duration) => super::functions::duration_text(*duration).into(),
            Self::Struct(object) => Json::Object(object.1.iter().map(|(name, value)| Some((name.clone(), value.encoded()?))).collect::<Option<_>>()?),
            Self::Optional(inner) => return inner.as_ref()?.encoded(),
            Self::JsonObject(fields, ..) => Json::Object((*fields).clone()),
            Self::JsonList(items, _) => Json::Array(items.to_vec()),
            Self::Quantity(quantity) => quantity.to_string().into(),
            _ => {
                if let Some(elements) = self.elements() {
                    return elements.iter().map(Value::encoded).collect::<Option<Vec<_>>>().map(Json::Array);
                }
                let text = |key: &Key| match key {
                    Key::Bool(flag) => flag.to_string(),
                    Key::Int(int) => int.to_string(),
                    Key::String(text) => text.to_string(),
                };
                let entries = self.entries()?;
                return entries.iter().map(|(key, value)| Some((text(key), value.encoded()?))).collect::<Option<_>>().map(Json::Object);
            }
        })
    }
}

impl<'a> From<Key<'a>> for Value<'a> {
    fn from(key: Key<'a>) -> Self {
        match key {
            Key::Bool(flag) => Self::Bool(flag),
            Key::Int(int) => i64::try_from(int).map_or_else(|_| Self::Uint(int as u64), Self::Int),
            Key::String(text) => Self::String(text),
        }
    }
}

fn element<'a>(item: &'a Json, schema: Option<&'a Schema>) -> Value<'a> {
    match schema {
        Some(schema) => Value::typed(item, schema, if schema.embedded_resource { Root::Yes } else { Root::No }),
        None => Value::of_json(item),
    }
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.decode(text).ok()
}
