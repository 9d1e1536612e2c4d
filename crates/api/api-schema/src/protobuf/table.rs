//! The table of field numbers, read once when the first protobuf body comes or goes.
use std::collections::HashMap;
use std::sync::LazyLock;

/// A message: what its fields are numbered, called, and hold.
#[derive(Debug)]
pub(super) struct Message {
    pub fields: Vec<Field>,
    pub form: Form,
}

impl Message {
    pub fn field(&self, tag: u64) -> Option<&Field> {
        self.fields.iter().find(|field| field.tag == tag)
    }
}

#[derive(Debug)]
pub(super) struct Field {
    pub tag: u64,
    /// Its JSON name; empty for a message whose fields are its parent's.
    pub name: String,
    pub kind: FieldKind,
    pub shape: Shape,
    /// Whether zero says something; otherwise it stands for absence, because Go writes every plain field.
    pub zero_counts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    Text,
    Integer,
    Boolean,
    Bytes,
    Double,
    /// The place of the message in the table.
    Message(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Map,
}

/// How a message is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Object,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// A list of its texts.
    Texts,
    /// Whatever JSON it carries as bytes.
    Raw,
    /// One schema, or a list of them.
    SchemaOrList,
    /// One schema, or whether anything is allowed.
    SchemaOrBool,
    /// One schema, or names of properties.
    SchemaOrTexts,
}

#[derive(Default)]
pub(super) struct Table {
    messages: Vec<Message>,
    /// In lower case: upstream's Go names and the table's differ in case.
    by_name: HashMap<String, usize>,
}

pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| Table::parse(include_str!("../../data/kubernetes-protobuf-fields.txt")));

impl Table {
    pub fn get(&self, id: usize) -> &Message {
        &self.messages[id]
    }
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }
    /// The message of a kind that bodies may hold.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<usize> {
        match (api_version, kind) {
            (_, "DeleteOptions") => return self.find("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"),
            ("v1", "Status") | ("meta.k8s.io/v1", "PartialObjectMetadata") => return self.find(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")),
            _ => {}
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let package = match group {
            "" => "api.core".to_owned(),
            "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
            "apiregistration.k8s.io" => "kube-aggregator.pkg.apis.apiregistration".to_owned(),
            // Any other group's name with dots in it is somebody's own, whatever it begins with.
            group if !group.contains('.') || group.ends_with(".k8s.io") => {
                let short = group.strip_suffix(".k8s.io").unwrap_or(group);
                format!("api.{}", short.split('.').next().unwrap_or_default())
            }
            _ => return None,
        };
        self.find(&format!("io.k8s.{package}.{version}.{kind}"))
    }

    fn parse(text: &'static str) -> Self {
        let lines: Vec<(&str, &str)> = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap_or((line, ""))).collect();
        let by_name: HashMap<String, usize> = lines.iter().enumerate().map(|(id, (name, _))| (name.to_lowercase(), id)).collect();
        // What a field refers to that the table lacks holds nothing.
        let nothing = lines.len();
        let of = |name: &str| by_name.get(&name.to_lowercase()).copied().unwrap_or(nothing);
        let mut messages: Vec<Message> = lines
            .iter()
            .map(|(name, fields)| Message {
                fields: fields.split(' ').filter(|field| !field.is_empty()).map(|field| parse_field(name, field, of)).collect(),
                form: form(name),
            })
            .collect();
        messages.push(Message { fields: Vec::new(), form: Form::Object });
        Self { by_name, messages }
    }
}

fn parse_field(message: &str, text: &str, of: impl Fn(&str) -> usize) -> Field {
    let (tag, rest) = text.split_once(':').unwrap_or_default();
    let (name, code) = rest.split_once(':').unwrap_or_default();
    let (shape, code) = match code.split_at_checked(1) {
        Some(("*", rest)) => (Shape::List, rest),
        Some(("%", rest)) => (Shape::Map, rest),
        _ => (Shape::One, code),
    };
    let kind = match code.split_once(':') {
        Some((_, message)) => FieldKind::Message(of(message)),
        None => match code {
            "s" | "S" => FieldKind::Text,
            "i" | "I" => FieldKind::Integer,
            "b" | "B" => FieldKind::Boolean,
            "y" => FieldKind::Bytes,
            _ => FieldKind::Double,
        },
    };
    let name = if message.ends_with(".JsonSchemaProps") { keyword(name) } else { name.to_owned() };
    Field { tag: tag.parse().expect("a tag of the table is a number"), name, kind, shape, zero_counts: code.starts_with(|c: char| c.is_ascii_uppercase()) }
}

/// A field of JSONSchemaProps as JSON Schema calls it: `$ref`, `x-kubernetes-list-type`.
fn keyword(name: &str) -> String {
    match name {
        "ref" | "schema" => format!("${name}"),
        _ if name.starts_with("xKubernetes") => {
            name.chars().flat_map(|c| if c.is_ascii_uppercase() { vec!['-', c.to_ascii_lowercase()] } else { vec![c] }).collect()
        }
        _ => name.to_owned(),
    }
}

fn form(name: &str) -> Form {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Form::Quantity,
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" => Form::Time,
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Form::MicroTime,
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Form::IntOrString,
        "io.k8s.apimachinery.pkg.runtime.RawExtension" | "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => Form::Raw,
        _ => match name.rsplit('.').next().unwrap_or_default() {
            "AttestationValue" | "ExtraValue" => Form::Texts,
            "Json" => Form::Raw,
            "JsonSchemaPropsOrArray" => Form::SchemaOrList,
            "JsonSchemaPropsOrBool" => Form::SchemaOrBool,
            "JsonSchemaPropsOrStringArray" => Form::SchemaOrTexts,
            _ => Form::Object,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_a_field_refers_to_is_there() {
        let nothing = TABLE.messages.len() - 1;
        for (name, id) in &TABLE.by_name {
            for field in &TABLE.get(*id).fields {
                assert_ne!(field.kind, FieldKind::Message(nothing), "{name} {}", field.name);
            }
        }
        assert!(TABLE.of_kind("v1", "Pod").is_some() && TABLE.of_kind("apps.example.com/v1", "Deployment").is_none());
    }
}
