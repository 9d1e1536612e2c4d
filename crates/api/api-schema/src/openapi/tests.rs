//! The documents as clients read them.
use super::*;
use crate::{Schema, builtin};
use serde_json::json;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn built_in(group: &str, version: &str, kind: &str, plural: &str, namespaced: bool) -> Served {
    let subresource = |name: &str, speaks: (&str, &str, &str)| ServedSubresource {
        name: name.into(),
        verbs: ["get", "patch", "update"].map(str::to_owned).into(),
        speaks: (speaks.0.into(), speaks.1.into(), speaks.2.into()),
    };
    let subresources =
        if kind == "Deployment" { vec![subresource("status", ("", "", "")), subresource("scale", ("autoscaling", "v1", "Scale"))] } else { Vec::new() };
    Served {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        plural: plural.into(),
        namespaced,
        verbs: VERBS.iter().map(|v| (*v).to_owned()).collect(),
        subresources,
        schema: builtin::for_kind(group, version, kind).unwrap(),
        document: None,
        fingerprint: None,
    }
}

fn custom() -> Served {
    let document = json!({"type":"object","description":"A shirt.","properties":{"spec":{"type":"object","description":"What it is like.","properties":{
        "size":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]},"colour":{"type":"string","nullable":true}}}}});
    let schema = SchemaRef::new(Schema::from_open_api(&document).unwrap());
    Served { document: Some(Arc::new(document)), schema, ..built_in("", "v1", "ConfigMap", "configmaps", true) }
}

fn shirt() -> Served {
    Served { group: "stable.example.com".into(), kind: "Shirt".into(), plural: "shirts".into(), ..custom() }
}

fn all() -> Vec<Served> {
    vec![
        built_in("", "v1", "Namespace", "namespaces", false),
        built_in("apps", "v1", "Deployment", "deployments", true),
        built_in("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", false),
        shirt(),
    ]
}

fn v3(group: &str) -> Value {
    serde_json::from_slice(&v3_document(&all(), group, "v1", "v1.37.0").unwrap()).unwrap()
}

/// Follows a field from a definition, as `kubectl explain` does.
fn explain<'a>(document: &'a Value, definition: &str, path: &str) -> &'a Value {
    let resolve = |node: &'a Value| {
        let reference = node["$ref"].as_str().or_else(|| node["allOf"][0]["$ref"].as_str());
        reference.map_or(node, |r| &document["components"]["schemas"][r.trim_start_matches("#/components/schemas/")])
    };
    path.split('.').fold(&document["components"]["schemas"][definition], |node, name| {
        let node = resolve(node);
        let node = if node["items"].is_object() { resolve(&node["items"]) } else { node };
        &node["properties"][name]
    })
}

#[test]
fn every_reference_of_a_document_resolves() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|v| references(v, found));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let mut documents: Vec<Value> = ["", "apps", "storage.k8s.io", "stable.example.com"].map(v3).into();
    documents.push(serde_json::from_slice(&v2_document(&all(), "v1.37.0")).unwrap());
    for document in documents {
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

#[test]
fn kubectl_explain_finds_fields_and_their_descriptions() {
    let document = v3("apps");
    let deployment = "io.k8s.api.apps.v1.Deployment";
    assert_eq!(document["components"]["schemas"][deployment]["x-kubernetes-group-version-kind"], json!([{"group":"apps","version":"v1","kind":"Deployment"}]));
    let strategy = explain(&document, deployment, "spec.strategy");
    assert_eq!(strategy["allOf"], json!([{"$ref":"#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}]));
    assert!(strategy["description"].as_str().unwrap().contains("replace existing pods"));
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
    let surge = explain(&document, deployment, "spec.strategy.rollingUpdate.maxSurge");
    assert_eq!(surge["allOf"][0]["$ref"], "#/components/schemas/io.k8s.apimachinery.pkg.util.intstr.IntOrString");
    let port = explain(&document, deployment, "spec.template.spec.containers.ports.containerPort");
    assert_eq!((&port["type"], &port["format"]), (&json!("integer"), &json!("int32")));
    assert_eq!(document["components"]["schemas"]["io.k8s.apimachinery.pkg.api.resource.Quantity"]["oneOf"], json!([{"type":"string"},{"type":"number"}]));

    let document = v3("stable.example.com");
    assert_eq!(explain(&document, "com.example.stable.v1.Shirt", "spec")["description"], "What it is like.");
    assert_eq!(explain(&document, "com.example.stable.v1.ShirtList", "items.spec.colour")["type"], "string");
    assert_eq!(explain(&document, "com.example.stable.v1.Shirt", "metadata.labels")["type"], "object");
}

#[test]
fn patch_tells_that_fields_are_validated() {
    let (core, apps) = (v3(""), v3("apps"));
    let operations = [(&core, "/api/v1/namespaces/{name}", "Namespace"), (&apps, "/apis/apps/v1/namespaces/{namespace}/deployments/{name}", "Deployment")];
    for (document, path, kind) in operations {
        let patch = &document["paths"][path]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], kind);
        let names: Vec<&str> = patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    }
}

#[test]
fn operations_have_upstreams_names() {
    let names = |group: &str| -> Vec<String> {
        let document = v3(group);
        let items = document["paths"].as_object().unwrap().values();
        let operations = items.flat_map(|i| i.as_object().unwrap().values()).filter_map(|o| o["operationId"].as_str().map(str::to_owned));
        operations.collect()
    };
    insta::assert_json_snapshot!([names("apps"), names("storage.k8s.io"), names("stable.example.com")]);
}

#[test]
fn a_small_kinds_paths_look_as_upstreams() {
    let document = v3("storage.k8s.io");
    insta::assert_json_snapshot!(json!({
        "paths": document["paths"],
        "definition": document["components"]["schemas"]["io.k8s.api.storage.v1.VolumeAttributesClass"],
    }));
}

#[test]
fn the_old_document_has_everything_at_once() {
    let document: Value = serde_json::from_slice(&v2_document(&all(), "v1.37.0")).unwrap();
    let spec = &document["definitions"]["com.example.stable.v1.Shirt"]["properties"]["spec"]["properties"];
    assert_eq!(*spec, json!({"size":{"x-kubernetes-int-or-string":true},"colour":{"type":"string"}}));
    let container = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(container["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(document["definitions"]["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"], "string");
    let create = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"];
    assert_eq!(create["parameters"][0]["schema"]["$ref"], "#/definitions/io.k8s.api.apps.v1.Deployment");
}

#[test]
fn hashes_change_only_with_what_they_stand_for() {
    let index = |served: &[Served]| serde_json::from_slice::<Value>(&v3_index(served)).unwrap();
    let (before, again) = (index(&all()), index(&all()));
    assert_eq!(before, again);
    let keys: Vec<&String> = before["paths"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["api/v1", "apis/apps/v1", "apis/stable.example.com/v1", "apis/storage.k8s.io/v1"]);
    let url = before["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash=") && url.len() == 30 + 64, "{url}");

    let mut changed = all();
    changed[3].document = Some(Arc::new(json!({"type":"object"})));
    let after = index(&changed);
    assert_eq!(before["paths"]["apis/apps/v1"], after["paths"]["apis/apps/v1"]);
    assert_ne!(before["paths"]["apis/stable.example.com/v1"], after["paths"]["apis/stable.example.com/v1"]);
    assert_eq!(v3_document(&all(), "nobody", "v1", "v1.37.0"), None);
}
