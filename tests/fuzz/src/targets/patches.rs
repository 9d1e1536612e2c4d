//! Patches of all types, each input a document and what is done to it: `{"document": .., "patch": ..}`.
use api_patch::Writer;
use api_schema::{SchemaRef, builtin};
use jiff::Timestamp;
use serde_json::Value;

fn parts(bytes: &[u8]) -> Option<(Value, Value)> {
    let mut both: Value = serde_json::from_slice(bytes).ok()?;
    let both = both.as_object_mut()?;
    Some((both.remove("document")?, both.remove("patch")?))
}

fn pods() -> SchemaRef {
    builtin::for_kind("", "v1", "Pod").expect("there are pods")
}

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"a":"b"},"finalizers":["x/a"]},"spec":{"containers":[{"name":"a","image":"i","ports":[{"containerPort":80}]},{"name":"b","args":["1","2"]}],"tolerations":[{"key":"k"}],"volumes":[{"name":"v","emptyDir":{}}]}}"#;

fn examples(patches: &[&str]) -> Vec<Vec<u8>> {
    patches.iter().map(|patch| format!(r#"{{"document":{POD},"patch":{patch}}}"#).into_bytes()).collect()
}

pub fn json(bytes: &[u8]) {
    let Some((document, patch)) = parts(bytes) else { return };
    let plain = api_patch::json_patch(document.clone(), patch.clone());
    let admitted = api_patch::json_patch_of_admission(document, patch);
    if let (Ok(plain), Ok(admitted)) = (plain, admitted) {
        assert_eq!(plain, admitted);
    }
}

pub fn json_examples() -> Vec<Vec<u8>> {
    examples(&[
        r#"[{"op":"add","path":"/metadata/labels/c~1d","value":"e"},{"op":"test","path":"/spec/containers/0/name","value":"a"}]"#,
        r#"[{"op":"remove","path":"/spec/containers/1"},{"op":"add","path":"/spec/containers/-","value":{"name":"c"}}]"#,
        r#"[{"op":"copy","from":"/spec","path":"/spec/x"},{"op":"move","from":"/metadata/labels","path":"/metadata/annotations"},{"op":"replace","path":"","value":{}}]"#,
    ])
}

pub fn merge(bytes: &[u8]) {
    let Some((document, patch)) = parts(bytes) else { return };
    if let Ok(once) = api_patch::merge_patch(document, patch.clone()) {
        assert_eq!(api_patch::merge_patch(once.clone(), patch).expect("it did before"), once, "a merge patch done twice");
    }
}

pub fn merge_examples() -> Vec<Vec<u8>> {
    examples(&[r#"{"metadata":{"labels":{"a":null,"c":"d"}},"spec":{"containers":[{"name":"z"}]}}"#, r#"{"spec":null}"#, r#"{"a":{"b":{"c":null}}}"#])
}

pub fn strategic(bytes: &[u8]) {
    let Some((document, patch)) = parts(bytes) else { return };
    if let Ok(object) = api_patch::strategic_merge(document, patch, &pods()) {
        assert!(object.is_object());
    }
}

pub fn strategic_examples() -> Vec<Vec<u8>> {
    examples(&[
        r#"{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"a","image":"j"},{"name":"c"}]}}"#,
        r#"{"spec":{"containers":[{"name":"a","$patch":"delete"},{"name":"b","ports":[{"containerPort":80,"$patch":"replace"}]}]}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["x/a"],"$setElementOrder/finalizers":["x/b"],"finalizers":["x/b"]}}"#,
        r#"{"spec":{"volumes":[{"$retainKeys":["name","hostPath"],"name":"v","hostPath":{"path":"/"}}],"tolerations":null,"$patch":"replace"}}"#,
    ])
}

pub fn apply(bytes: &[u8]) {
    let Some((document, config)) = parts(bytes) else { return };
    let schema = pods();
    let writer = |manager, second| Writer { manager, subresource: "", reset: &["status"], now: Timestamp::from_second(second).expect("a small number") };
    // Objects and configurations come decoded.
    let decoded = |mut value: Value| {
        api_schema::prune(&mut value, &schema);
        api_schema::decode_types(&mut value, &schema, "Pod", "v1").ok().map(|()| value).filter(|value| value["metadata"].is_object())
    };
    let (Some(mut live), Some(config)) = (decoded(document), decoded(config)) else { return };
    let mut config = config;
    config["apiVersion"] = "v1".into();
    config["kind"] = "Pod".into();
    api_patch::track_update(None, &mut live, &schema, &writer("creator", 0));
    let Ok(once) = api_patch::apply(Some(&live), &config, &schema, &writer("applier", 1), true) else { return };
    let again = api_patch::apply(Some(&once), &config, &schema, &writer("applier", 2), false).expect("what was applied can be applied");
    assert_eq!(once, again, "an apply done twice");
}

pub fn apply_examples() -> Vec<Vec<u8>> {
    examples(&[
        POD,
        r#"{"metadata":{"labels":{"c":"d"},"finalizers":["x/b"]},"spec":{"containers":[{"name":"a","image":"j"},{"name":"c","ports":[{"containerPort":1,"protocol":"UDP"}]}]}}"#,
        r#"{"metadata":{"name":"p"},"spec":{"nodeSelector":{"a":"b"},"tolerations":[],"securityContext":{}}}"#,
    ])
}
