//! OpenAPI v2 (Swagger 2.0): one document of everything.
use super::definitions::{self, DELETE_OPTIONS, Form, PATCH, STATUS, gvk, reference};
use super::operations::{Operation, Path, paths, tag};
use super::{ObjectWriter, Served, parameters};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The document of all resources, as JSON. `release` is the server's version, e.g. `v1.37.0`.
pub fn document(served: &[Served], release: &str) -> Vec<u8> {
    let served: Vec<&Served> = served.iter().collect();
    let mut needed: BTreeSet<String> = [DELETE_OPTIONS, PATCH, STATUS, definitions::WATCH_EVENT, definitions::OBJECT_META].map(str::to_owned).into();
    needed.extend(served.iter().map(|s| s.definition()));
    let mut writer = ObjectWriter::new();
    writer.member("swagger", &"2.0".into());
    writer.member("info", &json!({ "title": "Kubernetes", "version": release }));
    writer.object("paths", |writer| {
        for resource in &served {
            let tag = tag(resource);
            for path in paths(resource) {
                needed.extend(path.operations.iter().flat_map(|o| o.body.iter().chain(&o.gives)).cloned());
                writer.member(&path.path, &item(&path, &tag));
            }
        }
    });
    writer.object("definitions", |writer| definitions::write(&served, needed, Form::V2, |name, schema| writer.member(name, schema)));
    writer.object("parameters", |writer| {
        parameters::QUERY.iter().for_each(|(name, ..)| writer.member(name, &parameters::v2(name, "query")));
    });
    writer.member(
        "securityDefinitions",
        &json!({ "BearerToken": { "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header" } }),
    );
    writer.member("security", &json!([{ "BearerToken": [] }]));
    writer.finish()
}

/// The media types of an operation's body.
pub(super) fn consumes(operation: &Operation) -> &'static [&'static str] {
    const PATCHES: &[&str] =
        &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];
    match (operation.action, operation.strategic) {
        ("patch", true) => PATCHES,
        ("patch", false) => &PATCHES[..3],
        _ => &["*/*"],
    }
}

pub(super) fn phrase(code: u16) -> &'static str {
    match code {
        201 => "Created",
        202 => "Accepted",
        _ => "OK",
    }
}

fn item(path: &Path, tag: &str) -> Value {
    let mut item: Map<String, Value> = path.operations.iter().map(|o| (o.method.to_owned(), operation(o, tag))).collect();
    let places = path.places.iter().map(|name| parameters::v2(name, "path"));
    item.insert("parameters".into(), places.chain([shared("pretty")]).collect());
    Value::Object(item)
}

fn shared(name: &str) -> Value {
    json!({ "$ref": format!("#/parameters/{name}") })
}

fn operation(operation: &Operation, tag: &str) -> Value {
    let gives = match &operation.gives {
        Some(name) => reference(name, Form::V2),
        None => json!({ "type": "string" }),
    };
    let mut responses = Map::new();
    for code in operation.codes {
        responses.insert(code.to_string(), json!({ "description": phrase(*code), "schema": gives }));
    }
    responses.insert("401".into(), json!({ "description": "Unauthorized" }));
    let body = operation.body.as_ref().map(|body| {
        let mut parameter = json!({ "name": "body", "in": "body", "schema": reference(body, Form::V2) });
        if operation.method != "delete" {
            parameter["required"] = true.into();
        }
        parameter
    });
    let (group, version, kind) = &operation.kind;
    json!({
        "tags": [tag],
        "description": operation.description,
        "operationId": operation.id,
        "schemes": ["https"],
        "consumes": consumes(operation),
        "produces": [if operation.gives.is_some() { "application/json" } else { "text/plain" }],
        "parameters": body.into_iter().chain(operation.query.iter().map(|name| shared(name))).collect::<Vec<_>>(),
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk(group, version, kind),
    })
}
