//! At: a value together with the way to it, which is spelled out only when there is something to report.
use api_meta::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;
use std::ops::Deref;

/// A place in an object. Reads as the value found there, null when there is none.
pub struct At<'a> {
    value: &'a Value,
    parent: Option<&'a At<'a>>,
    segment: Segment<'a>,
}

enum Segment<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    /// The whole object.
    pub fn root(value: &'a Value) -> Self {
        Self { value, parent: None, segment: Segment::Field("") }
    }
    /// A value that stands at this dotted path of an object.
    pub fn new(value: &'a Value, path: &'a str) -> Self {
        Self { value, parent: None, segment: Segment::Field(path) }
    }
    /// The place under a field, or under several: `field("spec.template")`.
    pub fn field<'b>(&'b self, path: &'b str) -> At<'b> {
        let value = path.split('.').fold(self.value, |value, key| &value[key]);
        At { value, parent: Some(self), segment: Segment::Field(path) }
    }
    /// The place under a key of a map.
    pub fn key<'b>(&'b self, key: &'b str) -> At<'b> {
        At { value: &self.value[key], parent: Some(self), segment: Segment::Key(key) }
    }
    /// The place of an element, also one beyond the end.
    pub fn index(&self, index: usize) -> At<'_> {
        At { value: &self.value[index], parent: Some(self), segment: Segment::Index(index) }
    }
    /// The elements of a list.
    pub fn items(&self) -> impl Iterator<Item = At<'_>> {
        let count = self.value.as_array().map_or(0, Vec::len);
        (0..count).map(|index| self.index(index))
    }
    /// The entries of a map, in key order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, At<'_>)> {
        self.value.as_object().into_iter().flatten().map(|(key, _)| (key.as_str(), self.key(key)))
    }
    pub fn value(&self) -> &'a Value {
        self.value
    }
    pub fn path(&self) -> FieldPath {
        let before = self.parent.map(At::path).unwrap_or_default();
        match self.segment {
            Segment::Field("") => before,
            Segment::Field(path) => before.child(path),
            Segment::Index(index) => before.index(index),
            Segment::Key(key) => before.key(key),
        }
    }
}

impl Deref for At<'_> {
    type Target = Value;
    fn deref(&self) -> &Value {
        self.value
    }
}

/// Collecting errors about places.
pub trait Report {
    /// The value there is wrong.
    fn invalid(&mut self, at: &At, detail: impl Into<String>);
    /// The same, naming another value than the one there.
    fn invalid_as(&mut self, at: &At, value: impl Into<Value>, detail: impl Into<String>);
    fn required(&mut self, at: &At, detail: &str);
    fn forbidden(&mut self, at: &At, detail: impl Into<String>);
    fn duplicate(&mut self, at: &At);
    fn duplicate_as(&mut self, at: &At, value: impl Into<Value>);
    fn not_found(&mut self, at: &At);
    fn not_supported(&mut self, at: &At, supported: &[&str]);
    fn too_long(&mut self, at: &At, maximum: usize);
    fn too_many(&mut self, at: &At, count: usize, maximum: usize);
    /// One error for each reason a text is wrong.
    fn reasons(&mut self, at: &At, reasons: Vec<String>);

    /// The text must be one of these; absent is `Required`.
    fn one_of(&mut self, at: &At, supported: &[&str]) {
        match at.as_str() {
            None | Some("") => self.required(at, ""),
            Some(text) if supported.contains(&text) => {}
            Some(_) => self.not_supported(at, supported),
        }
    }
    /// The text must be one of these if there is one.
    fn one_of_if_set(&mut self, at: &At, supported: &[&str]) {
        if !at.is_null() {
            self.one_of(at, supported);
        }
    }
    /// The text must be there, and without reasons against it.
    fn named(&mut self, at: &At, rule: fn(&str) -> Vec<String>) {
        match at.as_str() {
            None | Some("") => self.required(at, ""),
            Some(text) => self.reasons(at, rule(text)),
        }
    }
    /// The text must be without reasons against it, if there is one.
    fn named_if_set(&mut self, at: &At, rule: fn(&str) -> Vec<String>) {
        if at.as_str().is_some_and(|text| !text.is_empty()) {
            self.named(at, rule);
        }
    }
    /// What was set can't be changed.
    fn immutable(&mut self, at: &At, old: &Value) {
        if at.value() != old {
            self.invalid(at, "field is immutable");
        }
    }
    /// The text must be there.
    fn present(&mut self, at: &At) {
        if at.as_str().is_none_or(str::is_empty) {
            self.required(at, "");
        }
    }
}

impl Report for FieldErrors {
    fn invalid(&mut self, at: &At, detail: impl Into<String>) {
        self.push(FieldError::invalid(&at.path(), at.value.clone(), detail));
    }
    fn invalid_as(&mut self, at: &At, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(&at.path(), value, detail));
    }
    fn required(&mut self, at: &At, detail: &str) {
        self.push(FieldError::required(&at.path(), detail));
    }
    fn forbidden(&mut self, at: &At, detail: impl Into<String>) {
        self.push(FieldError::forbidden(&at.path(), detail));
    }
    fn duplicate(&mut self, at: &At) {
        self.push(FieldError::duplicate(&at.path(), at.value.clone()));
    }
    fn duplicate_as(&mut self, at: &At, value: impl Into<Value>) {
        self.push(FieldError::duplicate(&at.path(), value));
    }
    fn not_found(&mut self, at: &At) {
        self.push(FieldError::not_found(&at.path(), if at.is_null() { "".into() } else { at.value.clone() }));
    }
    fn not_supported(&mut self, at: &At, supported: &[&str]) {
        self.push(FieldError::not_supported(&at.path(), if at.is_null() { "".into() } else { at.value.clone() }, supported));
    }
    fn too_long(&mut self, at: &At, maximum: usize) {
        self.push(FieldError::too_long(&at.path(), maximum));
    }
    fn too_many(&mut self, at: &At, count: usize, maximum: usize) {
        self.push(FieldError::too_many(&at.path(), count, maximum));
    }
    fn reasons(&mut self, at: &At, reasons: Vec<String>) {
        for reason in reasons {
            self.invalid(at, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_spell_the_way() {
        let object = json!({"spec": {"containers": [{"name": "A"}], "nodeSelector": {"a/b": 1}}});
        let root = At::root(&object);
        let spec = root.field("spec");
        let containers = spec.field("containers");
        let first = containers.index(0);
        assert_eq!(first.field("name").path().as_str(), "spec.containers[0].name");
        assert_eq!(first.field("name").as_str(), Some("A"));
        let selector = root.field("spec.nodeSelector");
        assert_eq!(selector.entries().map(|(_, at)| at.path().to_string()).collect::<Vec<_>>(), ["spec.nodeSelector[a/b]"]);
    }
}
