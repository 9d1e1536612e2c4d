//! Field errors: what is wrong with one field of an object, worded as upstream's `field.Error`.
use serde_json::Value;
use std::fmt;

/// A path to a field, printed as upstream prints it: `spec.containers[0].name`, `metadata.labels[a/b]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(String);

impl FieldPath {
    pub fn root() -> Self {
        Self::default()
    }
    /// A path that starts at this dotted text, e.g. `"spec.template.spec"`.
    pub fn new(path: &str) -> Self {
        Self(path.to_owned())
    }
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// The kind of a field error; its reason is what `Status.details.causes[].reason` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
    fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub path: FieldPath,
    pub value: Value,
    pub detail: String,
}

pub type FieldErrors = Vec<FieldError>;

impl FieldError {
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Required, path: path.clone(), value: Value::Null, detail: detail.into() }
    }
    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Invalid, path: path.clone(), value: value.into(), detail: detail.into() }
    }
    pub fn type_invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::TypeInvalid, path: path.clone(), value: value.into(), detail: detail.into() }
    }
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self { kind: FieldErrorKind::Forbidden, path: path.clone(), value: Value::Null, detail: detail.into() }
    }
    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self { kind: FieldErrorKind::Duplicate, path: path.clone(), value: value.into(), detail: String::new() }
    }
    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self { kind: FieldErrorKind::NotFound, path: path.clone(), value: value.into(), detail: String::new() }
    }
    /// `supported values: "A", "B"`, in the order upstream lists them (sorted).
    pub fn not_supported(path: &FieldPath, value: impl Into<Value>, supported: &[&str]) -> Self {
        let mut names: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        names.sort();
        let detail = if names.is_empty() { String::new() } else { format!("supported values: {}", names.join(", ")) };
        Self { kind: FieldErrorKind::NotSupported, path: path.clone(), value: value.into(), detail }
    }
    pub fn too_long(path: &FieldPath, max: usize) -> Self {
        Self { kind: FieldErrorKind::TooLong, path: path.clone(), value: Value::Null, detail: format!("may not be more than {max} bytes") }
    }
    pub fn too_many(path: &FieldPath, actual: usize, max: usize) -> Self {
        Self { kind: FieldErrorKind::TooMany, path: path.clone(), value: actual.into(), detail: format!("must have at most {max} items") }
    }

    /// The message without the path: what a Status cause carries.
    pub fn body(&self) -> String {
        use FieldErrorKind::*;
        let title = self.kind.title();
        let mut text = match self.kind {
            Required | Forbidden | TooLong | Internal => title.to_owned(),
            _ => match &self.value {
                Value::String(s) => format!("{title}: {s:?}"),
                Value::Null => format!("{title}: null"),
                other => format!("{title}: {other}"),
            },
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_upstream_words_them() {
        let path = FieldPath::new("spec").child("containers").index(0).child("name");
        let check = |e: FieldError, want: &str| assert_eq!(e.to_string(), want);
        check(FieldError::required(&path, ""), "spec.containers[0].name: Required value");
        check(FieldError::invalid(&path, "A", "must be lower case"), "spec.containers[0].name: Invalid value: \"A\": must be lower case");
        check(
            FieldError::invalid(&FieldPath::new("spec.replicas"), -1, "must be greater than or equal to 0"),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        );
        check(FieldError::not_supported(&path, "x", &["b", "a"]), "spec.containers[0].name: Unsupported value: \"x\": supported values: \"a\", \"b\"");
    }
}
