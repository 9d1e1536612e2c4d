//! Rules of custom resources (`x-kubernetes-validations`): looked at when a definition is written, asked about every object.
use crate::custom_resources::{DEFINITIONS, WIDGETS, define, widget, widgets};
use crate::support::{SOON, quiet};
use serde_json::{Value, json};
use testkit::wait_until;

fn with_rules(place: &str, rules: Value) -> Value {
    let mut definition = widgets();
    let schema = definition.pointer_mut(&format!("/spec/versions/0/schema/openAPIV3Schema{place}")).unwrap();
    schema["x-kubernetes-validations"] = rules;
    definition
}

const TAGS: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/tags";

/// With so many tags at most, of so many characters.
fn bounded(definition: &Value, items: u64, length: u64) -> Value {
    let mut definition = definition.clone();
    let tags = definition.pointer_mut(TAGS).unwrap();
    tags["maxItems"] = items.into();
    tags["items"]["maxLength"] = length.into();
    definition
}

fn causes(status: &Value) -> Vec<(String, String)> {
    let text = |cause: &Value, key: &str| cause[key].as_str().unwrap_or_default().to_owned();
    status["details"]["causes"].as_array().into_iter().flatten().map(|cause| (text(cause, "field"), text(cause, "message"))).collect()
}

#[test]
fn objects_are_held_to_the_rules_of_their_schema() {
    let (_server, api) = quiet();
    let rules = json!([
        {"rule": "self.size <= 10", "message": "too big"},
        {"rule": "!has(self.tags) || self.tags.all(t, t.startsWith('x'))", "messageExpression": "'tags: ' + self.tags.join(' ')", "fieldPath": ".tags"},
        {"rule": "self.size >= oldSelf.size", "message": "must not shrink", "reason": "FieldValueForbidden"},
    ]);
    // A message made of a list's texts needs to know how long they can be.
    define(&api, &bounded(&with_rules("/properties/spec", rules), 10, 64));
    api.post(WIDGETS, &widget("a", json!({"size": 5}))).ok();
    let refused = api.post(WIDGETS, &widget("b", json!({"size": 11, "tags": ["y", "z"]})));
    assert_eq!(refused.refusal().0, 422);
    assert_eq!(
        causes(&refused.json()),
        [("spec".to_owned(), "Invalid value: \"object\": too big".to_owned()), ("spec.tags".to_owned(), "Invalid value: \"object\": tags: y z".to_owned())]
    );
    let (code, reason, message) = api.patch("merge", &format!("{WIDGETS}/a"), &json!({"spec": {"size": 4}})).refusal();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(message, "Widget.example.com \"a\" is invalid: spec: Forbidden: must not shrink");
    assert_eq!(api.get(&format!("{WIDGETS}/a")).ok()["spec"]["size"], 5);
    // Where types and sizes are wrong already, rules are not asked.
    let refused = api.post(WIDGETS, &widget("c", json!({"tags": ["y"]}))).json();
    assert_eq!(
        causes(&refused)[1],
        (
            "<nil>".into(),
            "Invalid value: \"null\": some validation rules were not checked because the object was invalid; correct the existing errors to complete validation"
                .into()
        )
    );
}

#[test]
fn what_was_wrong_before_the_rule_came_only_warns() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    api.post(WIDGETS, &widget("old", json!({"size": 50, "replicas": 1}))).ok();
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let rule = json!([{"rule": "self <= 10", "message": "too big"}]);
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/x-kubernetes-validations";
    api.patch("json", &path, &json!([{"op": "add", "path": place, "value": rule}])).ok();
    let new = widget("new", json!({"size": 50}));
    wait_until("the rule holds", SOON, || api.post(&format!("{WIDGETS}?dryRun=All"), &new).code == 422);
    let touched = api.patch("merge", &format!("{WIDGETS}/old"), &json!({"spec": {"replicas": 2}}));
    assert_eq!(touched.code, 200);
    assert!(touched.warnings().iter().any(|warning| warning.contains("too big")), "{:?}", touched.warnings());
    assert_eq!(api.patch("merge", &format!("{WIDGETS}/old"), &json!({"spec": {"size": 51}})).refusal().0, 422);
}

#[test]
fn rules_that_make_no_sense_are_refused_with_their_definition() {
    let (_server, api) = quiet();
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    for (rule, field, part) in [
        (json!({"rule": "self.sise > 1"}), "rule", "compilation failed: ERROR: <input>:1:5: undefined field 'sise'"),
        (json!({"rule": "self.size"}), "rule", "cel expression must evaluate to a bool"),
        (json!({"rule": "self.size >"}), "rule", "compilation failed: ERROR: <input>:1:12: Syntax error:"),
        (json!({"rule": " "}), "rule", "rule is not specified"),
        (json!({"rule": "true", "fieldPath": ".nope"}), "fieldPath", "fieldPath must be a valid path"),
        (json!({"rule": "true", "messageExpression": "1"}), "messageExpression", "messageExpression must evaluate to a string"),
    ] {
        let refused = api.post(DEFINITIONS, &with_rules("/properties/spec", json!([rule])));
        assert_eq!(refused.code, 422, "{rule}");
        let causes = causes(&refused.json());
        assert!(causes.iter().any(|(path, message)| *path == format!("{at}.{field}") && message.contains(part)), "{rule}: {causes:?}");
    }
    assert_eq!(api.get(&format!("{DEFINITIONS}/widgets.example.com")).code, 404);
}

#[test]
fn a_definition_whose_rules_could_cost_too_much_is_refused_until_it_is_bounded() {
    let (_server, api) = quiet();
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule";
    // Every text in a list without bounds is looked through, as far as one request can hold them.
    let rules = json!([{"rule": "!has(self.tags) || self.tags.all(t, t.contains('x'))"}]);
    let unbounded = with_rules("/properties/spec", rules);
    let refused = api.post(DEFINITIONS, &unbounded);
    assert_eq!(refused.refusal().0, 422);
    let advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    let want = [
        (at, format!("Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}")),
        (at, "Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema".to_owned()),
        (
            "spec.validation.openAPIV3Schema",
            format!(
                "Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {advice}"
            ),
        ),
    ];
    assert_eq!(causes(&refused.json()), want.map(|(field, message)| (field.to_owned(), message)));
    // Bounds that leave it a little too expensive are told by how much.
    let refused = api.post(DEFINITIONS, &bounded(&unbounded, 10_000, 4096));
    assert_eq!(causes(&refused.json())[0], (at.to_owned(), format!("Forbidden: estimated rule cost exceeds budget by factor of 1.6x {advice}")));
    define(&api, &bounded(&unbounded, 100, 256));
    api.post(WIDGETS, &widget("a", json!({"size": 1, "tags": ["x"]}))).ok();
    // The bounds can't be taken away again.
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let loosened = api.patch("json", &path, &json!([{"op": "remove", "path": format!("{TAGS}/maxItems")}]));
    assert_eq!(loosened.refusal().0, 422);
    assert_eq!(api.get(&path).ok().pointer(&format!("{TAGS}/maxItems")), Some(&json!(100)));
}
