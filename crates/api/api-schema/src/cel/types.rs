//! Type: what the checker knows of an expression, and how schemas are types.
use crate::{Schema, SchemaRef};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything; checked when it is evaluated.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    Object(ObjectType),
    /// A type with functions but no fields, by its name.
    Opaque(&'static str),
    /// A type as a value.
    Type,
    /// A type parameter of a function.
    Parameter(char),
}

/// An object whose fields are known.
#[derive(Clone, Debug)]
pub enum ObjectType {
    /// Of a structural schema. `root`: it has apiVersion, kind and metadata besides.
    Schema {
        name: Arc<str>,
        schema: SchemaRef,
        root: bool,
    },
    Fields {
        name: Arc<str>,
        fields: Arc<BTreeMap<String, Type>>,
    },
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl ObjectType {
    pub fn of_fields(name: &str, fields: impl IntoIterator<Item = (String, Type)>) -> Self {
        Self::Fields { name: name.into(), fields: Arc::new(fields.into_iter().collect()) }
    }
    pub fn name(&self) -> &str {
        match self {
            Self::Schema { name, .. } | Self::Fields { name, .. } => name,
        }
    }
    /// The type of a field, by its name as expressions write it.
    pub fn field(&self, field: &str) -> Option<Type> {
        match self {
            Self::Fields { fields, .. } => fields.get(field).cloned(),
            Self::Schema { name, schema, root } => {
                let raw = unescape(field)?;
                if *root && let Some(known) = root_field(&raw, schema) {
                    return Some(known);
                }
                let schema = schema.properties.get(raw.as_str())?;
                of_schema(schema, &format!("{name}.{field}"), schema.embedded_resource)
            }
        }
    }
}

/// Upstream puts these into every root, and of metadata shows the names alone.
fn root_field(field: &str, schema: &Schema) -> Option<Type> {
    match field {
        "apiVersion" | "kind" => Some(Type::String),
        "metadata" if schema.definition.is_none() => {
            let fields = ["name", "generateName"].map(|field| (field.to_owned(), Type::String));
            Some(Type::Object(ObjectType::of_fields("metadata", fields)))
        }
        _ => None,
    }
}

/// The type of what a schema describes; `None` for what expressions can't see (untyped parts).
pub fn of_schema(schema: &SchemaRef, name: &str, root: bool) -> Option<Type> {
    use crate::Type as Kind;
    Some(match schema.kind {
        Kind::IntOrString => Type::Dyn,
        Kind::Any => return None,
        Kind::Boolean => Type::Bool,
        Kind::Integer => Type::Int,
        Kind::Number => Type::Double,
        Kind::String => match schema.format.as_deref() {
            Some("byte") => Type::Bytes,
            Some("duration") => Type::Duration,
            Some("date" | "date-time") => Type::Timestamp,
            _ => Type::String,
        },
        Kind::Array => {
            let items = schema.items.as_ref()?;
            Type::List(Arc::new(of_schema(items, &format!("{name}.@idx"), items.embedded_resource)?))
        }
        Kind::Object => match &schema.additional {
            Some(values) => Type::Map(Arc::new(Type::String), Arc::new(of_schema(values, &format!("{name}.@elem"), values.embedded_resource)?)),
            None if schema.properties.is_empty() && !root && schema.preserve_unknown => return None,
            None => Type::Object(ObjectType::Schema { name: name.into(), schema: schema.clone(), root: root || schema.embedded_resource }),
        },
    })
}

const KEYWORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// A property's name as an expression writes it; `None` when it can't.
pub fn escape(name: &str) -> Option<String> {
    if KEYWORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut characters = name.chars();
    if !characters.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic()) {
        return None;
    }
    if !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '/')) {
        return None;
    }
    Some(name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

/// The property an expression means; `None` when no property is written so.
pub fn unescape(written: &str) -> Option<String> {
    if !written.contains("__") {
        return if KEYWORDS.contains(&written) { None } else { Some(written.to_owned()) };
    }
    if let Some(keyword) = written.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && KEYWORDS.contains(&keyword)
    {
        return Some(keyword.to_owned());
    }
    let (mut name, mut rest) = (String::new(), written);
    while let Some(at) = rest.find("__") {
        name.push_str(&rest[..at]);
        let (plain, length) = [("__underscores__", "__"), ("__dot__", "."), ("__dash__", "-"), ("__slash__", "/")]
            .iter()
            .find(|(escaped, _)| rest[at..].starts_with(escaped))
            .map(|(escaped, plain)| (*plain, escaped.len()))?;
        name.push_str(plain);
        rest = &rest[at + length..];
    }
    name.push_str(rest);
    Some(name)
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(element) => write!(f, "list({element})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Optional(inner) => write!(f, "optional_type({inner})"),
            Self::Object(object) => f.write_str(object.name()),
            Self::Opaque(name) => f.write_str(name),
            Self::Type => f.write_str("type"),
            Self::Parameter(name) => write!(f, "{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_names_are_escaped_and_back() {
        for (name, written) in [("a", "a"), ("namespace", "__namespace__"), ("a.b-c/d", "a__dot__b__dash__c__slash__d"), ("x__y", "x__underscores__y")] {
            assert_eq!(escape(name).as_deref(), Some(written));
            assert_eq!(unescape(written).as_deref(), Some(name));
        }
        assert_eq!((escape("1a"), escape("a$"), unescape("namespace"), unescape("a__b")), (None, None, None, None));
    }
}
