//! Reading and defaulting the fields of decoded objects: absent, null and (where Go can't tell) zero are one.
use api_resource::Field;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// A selectable field of this path that counts as `absent` when it isn't there.
pub const fn selectable(path: &'static str, absent: &'static str) -> Field {
    Field { path: Cow::Borrowed(path), value_paths: &[], absent }
}

/// A field whose value lives elsewhere: at the first of these paths that has one.
pub const fn selectable_at(label: &'static str, value_paths: &'static [&'static str], absent: &'static str) -> Field {
    Field { path: Cow::Borrowed(label), value_paths, absent }
}

/// Reading, so that an absent field reads as its zero value, as in Go.
pub trait Read {
    /// The string, "" when absent.
    fn text(&self) -> &str;
    /// The list, empty when absent.
    fn list(&self) -> &[Value];
    /// The entries of a map in key order, none when absent.
    fn entries(&self) -> impl Iterator<Item = (&String, &Value)>;
    /// The number, if present.
    fn int(&self) -> Option<i64>;
    /// The boolean, false when absent.
    fn flag(&self) -> bool;
    /// Whether there is anything but null.
    fn is_set(&self) -> bool;
    /// Whether it is absent, null, "", 0, false, or a list or map without entries.
    fn is_zero(&self) -> bool;
    /// The strings of a list.
    fn texts(&self) -> impl Iterator<Item = &str>;
}

impl Read for Value {
    fn text(&self) -> &str {
        self.as_str().unwrap_or_default()
    }
    fn list(&self) -> &[Value] {
        self.as_array().map_or(&[], Vec::as_slice)
    }
    fn entries(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.as_object().into_iter().flatten()
    }
    fn int(&self) -> Option<i64> {
        self.as_i64()
    }
    fn flag(&self) -> bool {
        self.as_bool().unwrap_or_default()
    }
    fn is_set(&self) -> bool {
        !self.is_null()
    }
    fn is_zero(&self) -> bool {
        match self {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Number(value) => value.as_f64() == Some(0.0),
            Value::String(value) => value.is_empty(),
            Value::Array(value) => value.is_empty(),
            Value::Object(value) => value.is_empty(),
        }
    }
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.list().iter().filter_map(Value::as_str)
    }
}

/// Filling in. Values of another type than an object are left alone: the schema check has refused them.
pub trait Fill {
    /// Sets a field that is absent (Go: a nil pointer).
    fn absent(&mut self, key: &str, value: impl Into<Value>);
    /// Sets a field that is absent or has its zero value (Go: a plain string or number).
    fn zero(&mut self, key: &str, value: impl Into<Value>);
    /// The object under this key, made when absent.
    fn open(&mut self, key: &str) -> &mut Value;
    /// What is under this key, if there is anything.
    fn child(&mut self, key: &str) -> Option<&mut Value>;
    /// The elements of the list under this key.
    fn each(&mut self, key: &str) -> std::slice::IterMut<'_, Value>;
    /// Sets a field whatever it was.
    fn put(&mut self, key: &str, value: impl Into<Value>);
    /// Removes a field.
    fn remove(&mut self, key: &str) -> Option<Value>;
}

impl Fill for Value {
    fn absent(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(object) = self.as_object_mut()
            && object.get(key).is_none_or(Value::is_null)
        {
            object.insert(key.to_owned(), value.into());
        }
    }
    fn zero(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(object) = self.as_object_mut()
            && object.get(key).is_none_or(|present| present.is_zero())
        {
            object.insert(key.to_owned(), value.into());
        }
    }
    fn open(&mut self, key: &str) -> &mut Value {
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        let child = &mut self[key];
        if child.is_null() {
            *child = Value::Object(Map::new());
        }
        child
    }
    fn child(&mut self, key: &str) -> Option<&mut Value> {
        self.get_mut(key).filter(|value| !value.is_null())
    }
    fn each(&mut self, key: &str) -> std::slice::IterMut<'_, Value> {
        self.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [][..], Vec::as_mut_slice).iter_mut()
    }
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        if let Some(object) = self.as_object_mut() {
            object.insert(key.to_owned(), value.into());
        }
    }
    fn remove(&mut self, key: &str) -> Option<Value> {
        self.as_object_mut()?.remove(key)
    }
}
