//! Tables and metadata-only forms: the same objects, as `kubectl get` and metadata informers ask for them.
use crate::negotiate::Form;
use api_resource::{AnyResource, Row, TableColumn};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What a Table's rows carry besides cells (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    Metadata,
    Object,
}

impl IncludeObject {
    pub fn parse(text: Option<&str>) -> Result<Self, api_meta::Status> {
        match text {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(api_meta::Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// Renders objects of one kind in a form other than their own.
pub struct Renderer {
    pub form: Form,
    pub include: IncludeObject,
    columns: Vec<TableColumn>,
}

impl Renderer {
    pub fn new(kind: &dyn AnyResource, form: Form, include: IncludeObject) -> Self {
        Self { form, include, columns: if form == Form::Table { kind.columns() } else { Vec::new() } }
    }

    /// One object: itself, its metadata, or a Table of one row.
    pub fn object(&self, object: Value, now: Timestamp, with_columns: bool) -> Value {
        match self.form {
            Form::Object => object,
            Form::Metadata => partial(object),
            Form::Table => {
                let version = object["metadata"]["resourceVersion"].clone();
                self.table(vec![object], json!({ "resourceVersion": version }), now, with_columns)
            }
        }
    }

    /// A list's body up to its first item.
    pub fn head(&self, kind: &dyn AnyResource, metadata: &Value) -> String {
        let (names, meta) = (kind.names(), "meta.k8s.io/v1".to_owned());
        let (list, api_version, items) = match self.form {
            Form::Table => ("Table".to_owned(), meta, format!("\"columnDefinitions\":{},\"rows\"", Value::Array(self.definitions()))),
            Form::Metadata => ("PartialObjectMetadataList".to_owned(), meta, "\"items\"".to_owned()),
            Form::Object => (names.list_kind(), names.api_version(), "\"items\"".to_owned()),
        };
        format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},{items}:[", json!(list), json!(api_version))
    }

    /// One item of a list.
    pub fn item(&self, object: Value, now: Timestamp) -> Value {
        match self.form {
            Form::Object => object,
            Form::Metadata => partial(object),
            Form::Table => self.row(object, now),
        }
    }

    fn definitions(&self) -> Vec<Value> {
        self.columns.iter().map(definition).collect()
    }

    fn table(&self, items: Vec<Value>, metadata: Value, now: Timestamp, with_columns: bool) -> Value {
        let rows: Vec<Value> = items.into_iter().map(|object| self.row(object, now)).collect();
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            // Only the first event of a watch carries the columns.
            "columnDefinitions": if with_columns { Value::Array(self.definitions()) } else { Value::Null },
            "rows": rows,
        })
    }

    fn row(&self, object: Value, now: Timestamp) -> Value {
        let cells: Vec<Value> = self.columns.iter().map(|column| column.value(&Row { object: &object, now })).collect();
        let mut row = Map::from_iter([("cells".to_owned(), Value::Array(cells))]);
        match self.include {
            IncludeObject::None => {
                row.insert("object".into(), Value::Null);
            }
            IncludeObject::Metadata => {
                row.insert("object".into(), partial(object));
            }
            IncludeObject::Object => {
                row.insert("object".into(), object);
            }
        }
        Value::Object(row)
    }
}

fn definition(column: &TableColumn) -> Value {
    json!({ "name": column.name, "type": column.kind, "format": column.format, "description": column.description, "priority": column.priority })
}

fn partial(mut object: Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"].take() })
}
