//! apiextensions.k8s.io: what a definition has to be.
use crate::suite::Suite;
use serde_json::{Value, json};

fn definition(schema: Value) -> Value {
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    })
}

fn suite() -> Suite {
    Suite::new("apiextensions.k8s.io/v1", "customresourcedefinitions", definition(json!({"type": "object", "properties": {"spec": {"type": "object"}}})))
}

#[test]
fn names_are_made_up_and_checked() {
    let stored = suite().stored();
    assert_eq!(stored["spec"]["names"], json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}));
    assert_eq!((&stored["spec"]["conversion"], &stored["status"]["storedVersions"]), (&json!({"strategy": "None"}), &json!(["v1"])));
    suite()
        .refuses(json!({"spec": {"group": "example"}}), &[
            "metadata.name: Invalid value: \"widgets.example.com\": must be spec.names.plural+\".\"+spec.group",
            "spec.group: Invalid value: \"example\": should be a domain with at least one dot",
        ])
        .refuses(json!({"spec": {"names": {"listKind": "Widget"}}}), &["spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same"])
        .refuses_update(json!({"spec": {"names": {"plural": "things"}}}), &["spec.names.plural: Invalid value: \"things\": field is immutable"])
        .refuses(json!({"spec": {"preserveUnknownFields": true}}), &[
            "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ]);
}

/// Refusals of a schema, below `spec.validation.openAPIV3Schema`.
fn refused(schema: Value, errors: &[&str]) {
    let wanted: Vec<String> = errors.iter().map(|error| format!("spec.validation.openAPIV3Schema{error}")).collect();
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    suite().refuses(json!({"spec": {"versions": definition(schema)["spec"]["versions"]}}), &wanted);
}

#[test]
fn schemas_have_to_be_structural() {
    refused(json!({}), &[".type: Required value: must not be empty at the root"]);
    refused(json!({"type": "array", "items": {"type": "string"}}), &[".type: Invalid value: \"array\": must be object at the root"]);
    let property = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    refused(property(json!({})), &[".properties[a].type: Required value: must not be empty for specified object fields"]);
    refused(property(json!({"type": "array"})), &[".properties[a].items: Required value: must be specified"]);
    refused(
        property(json!({"type": "object", "anyOf": [{"type": "object", "description": "x"}]})),
        &[
            ".properties[a].anyOf[0].description: Forbidden: must be empty to be structural",
            ".properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
        ],
    );
    refused(
        json!({"type": "object", "oneOf": [{"required": ["x"], "properties": {"x": {"minimum": 1}}}]}),
        &[".properties[x]: Required value: because it is defined in spec.validation.openAPIV3Schema.oneOf[0].properties[x]"],
    );
    refused(
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
        &[".properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified"],
    );
    refused(
        property(json!({"type": "object", "x-kubernetes-embedded-resource": true})),
        &[
            ".properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ],
    );
    suite().accepts(json!({"spec": {"versions": definition(property(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})))["spec"]["versions"]}}));
}

#[test]
fn lists_maps_and_defaults_have_rules_of_their_own() {
    let property = |schema: Value| json!({"type": "object", "properties": {"a": schema}});
    refused(
        property(
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
        ),
        &[
            ".properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ],
    );
    refused(
        property(json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}})),
        &[".properties[a].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set"],
    );
    refused(
        property(json!({"type": "object", "properties": {"b": {"type": "string"}}, "additionalProperties": {"type": "string"}})),
        &[".properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
    );
    refused(
        property(json!({"type": "object", "default": {"x": 1}, "properties": {"b": {"type": "integer"}}})),
        &[".properties[a].default: Invalid value: {\"x\":1}: must not have unknown fields"],
    );
    refused(
        property(json!({"type": "array", "uniqueItems": true, "items": {"type": "string"}})),
        &[".properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"],
    );
}
