//! Columns: additionalPrinterColumns as columns of a Table.
use crate::definition::PrinterColumn;
use crate::json_path::JsonPath;
use api_resource::{Cell, CellMaker, Column, Row, TableColumn, human_duration};
use jiff::Timestamp;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// The name, then the columns declared; the age where none are.
pub(crate) fn columns(printed: &[PrinterColumn]) -> Vec<TableColumn> {
    let mut name = TableColumn::from(Column::NAME);
    name.description = Cow::Borrowed(NAME);
    let age = || PrinterColumn {
        name: "Age".into(),
        kind: "date".into(),
        format: String::new(),
        description: CREATED.into(),
        priority: 0,
        json_path: ".metadata.creationTimestamp".into(),
    };
    let declared: Vec<PrinterColumn> = if printed.is_empty() { vec![age()] } else { printed.to_vec() };
    std::iter::once(name).chain(declared.into_iter().filter_map(column)).collect()
}

fn column(declared: PrinterColumn) -> Option<TableColumn> {
    // Validation lets no path by that can't be read.
    let path = JsonPath::parse(&declared.json_path).ok()?;
    Some(TableColumn {
        cell: Cell::Made(Arc::new(PathCell { path, kind: declared.kind.clone() })),
        name: Cow::Owned(declared.name),
        kind: Cow::Owned(declared.kind),
        format: Cow::Owned(declared.format),
        description: Cow::Owned(declared.description),
        priority: declared.priority,
    })
}

#[derive(Debug)]
struct PathCell {
    path: JsonPath,
    kind: String,
}

impl CellMaker for PathCell {
    fn cell(&self, row: &Row) -> Value {
        let Some(found) = self.path.find(row.object).into_iter().next() else { return Value::Null };
        match (&*self.kind, found) {
            ("string", Value::String(text)) => text.as_str().into(),
            ("string", Value::Null) => "null".into(),
            ("string", other) => other.to_string().into(),
            ("integer", Value::Number(number)) => number.as_i64().map_or_else(|| number.as_f64().map_or(Value::Null, |n| Value::from(n as i64)), Into::into),
            ("number", Value::Number(number)) => Value::Number(number.clone()),
            ("boolean", Value::Bool(on)) => (*on).into(),
            ("date", Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(since) => human_duration(row.now.as_second() - since.as_second()).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn cells_hold_what_upstreams_table_convertor_puts_there() {
        let object = json!({
            "metadata": {"name": "w", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"size": 3, "half": 0.5, "on": true, "text": "t", "list": [1, "a"], "when": "soon", "none": null},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Live", "status": "False"}]},
        });
        let row = Row { object: &object, now: "2026-01-01T00:10:00Z".parse().unwrap() };
        for (kind, path, want) in [
            ("string", ".spec.text", json!("t")),
            ("string", ".spec.size", json!("3")),
            ("string", ".spec.list", json!("[1,\"a\"]")),
            ("string", ".spec.absent", Value::Null),
            ("integer", ".spec.size", json!(3)),
            ("integer", ".spec.half", json!(0)),
            ("integer", ".spec.text", Value::Null),
            ("number", ".spec.half", json!(0.5)),
            ("boolean", ".spec.on", json!(true)),
            ("date", ".metadata.creationTimestamp", json!("10m")),
            ("date", ".spec.when", json!("<invalid>")),
            ("string", r#".status.conditions[?(@.type=="Ready")].status"#, json!("True")),
        ] {
            let cell = PathCell { path: JsonPath::parse(path).unwrap(), kind: kind.into() };
            assert_eq!(cell.cell(&row), want, "{kind} {path}");
        }
    }
}
