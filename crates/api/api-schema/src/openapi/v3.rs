//! OpenAPI v3: an index, and a document for each group and version.
use super::definitions::{self, DELETE_OPTIONS, Form, PATCH, STATUS, gvk, reference};
use super::operations::{Operation, Path, paths, tag};
use super::{ObjectWriter, Served, hash, parameters};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// `/openapi/v3`: where each group and version's document is, with a hash that changes when it does.
pub fn index(served: &[Served]) -> Vec<u8> {
    let mut roots: BTreeMap<String, Vec<&Served>> = BTreeMap::new();
    for resource in served {
        roots.entry(resource.root()).or_default().push(resource);
    }
    let mut writer = ObjectWriter::new();
    writer.object("paths", |writer| {
        for (root, served) in roots {
            writer.member(&root, &json!({ "serverRelativeURL": format!("/openapi/v3/{root}?hash={}", hash(served)) }));
        }
    });
    writer.finish()
}

/// The document of a group and version, as JSON; `None` if nothing of it is served.
/// `release` is the server's version, e.g. `v1.37.0`.
pub fn document(served: &[Served], group: &str, version: &str, release: &str) -> Option<Vec<u8>> {
    let served: Vec<&Served> = served.iter().filter(|s| s.group == group && s.version == version).collect();
    if served.is_empty() {
        return None;
    }
    let mut needed: BTreeSet<String> = [DELETE_OPTIONS, PATCH, STATUS, definitions::WATCH_EVENT, definitions::OBJECT_META].map(str::to_owned).into();
    needed.extend(served.iter().map(|s| s.definition()));
    let mut writer = ObjectWriter::new();
    writer.member("openapi", &"3.0.0".into());
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
    writer.object("components", |writer| {
        writer.object("schemas", |writer| definitions::write(&served, needed, Form::V3, |name, schema| writer.member(name, schema)));
        writer.member(
            "securitySchemes",
            &json!({ "BearerToken": { "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header" } }),
        );
    });
    Some(writer.finish())
}

fn item(path: &Path, tag: &str) -> Value {
    let mut item: Map<String, Value> = path.operations.iter().map(|o| (o.method.to_owned(), operation(o, tag))).collect();
    let places = path.places.iter().map(|name| parameters::v3(name, "path"));
    item.insert("parameters".into(), places.chain([parameters::v3("pretty", "query")]).collect());
    Value::Object(item)
}

fn operation(operation: &Operation, tag: &str) -> Value {
    let schema = |name: &str| json!({ "schema": reference(name, Form::V3) });
    let content = match &operation.gives {
        None => json!({ "text/plain": { "schema": { "type": "string" } } }),
        Some(name) if operation.action == "list" => json!({ "application/json": schema(name), "application/json;stream=watch": schema(name) }),
        Some(name) => json!({ "application/json": schema(name) }),
    };
    let mut responses = Map::new();
    for code in operation.codes {
        responses.insert(code.to_string(), json!({ "description": super::v2::phrase(*code), "content": content }));
    }
    responses.insert("401".into(), json!({ "description": "Unauthorized" }));
    let (group, version, kind) = &operation.kind;
    let mut object = json!({
        "tags": [tag],
        "description": operation.description,
        "operationId": operation.id,
        "parameters": operation.query.iter().map(|name| parameters::v3(name, "query")).collect::<Vec<_>>(),
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk(group, version, kind),
    });
    if let Some(body) = &operation.body {
        let kinds = super::v2::consumes(operation);
        let content: Map<String, Value> = kinds.iter().map(|kind| ((*kind).to_owned(), schema(body))).collect();
        object["requestBody"] = json!({ "content": content });
        if operation.method != "delete" {
            object["requestBody"]["required"] = true.into();
        }
    }
    object
}
