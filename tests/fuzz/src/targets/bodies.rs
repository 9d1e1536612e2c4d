//! Bodies: objects as JSON, YAML and protobuf, and the schemas of custom ones.
use crate::{kind_of, manifests, numbered};
use api_schema::{Schema, SchemaRef, builtin};
use serde_json::Value;

/// The schema of the kind that an object says it is; a Pod's for other things.
fn schema_of(object: &Value) -> SchemaRef {
    let (group, version, kind) = kind_of(object);
    builtin::for_kind(group, version, kind).or_else(|| builtin::for_kind("", "v1", "Pod")).expect("there are pods")
}

/// What is decoded can be encoded and decoded again, and defaulting and pruning it once is enough.
fn decoded(text: &[u8], schema: &Schema) {
    let Ok(decoded) = api_schema::decode(text, schema) else { return };
    let again = api_schema::decode(decoded.value.to_string().as_bytes(), schema).expect("what was written can be read");
    assert_eq!(again.value, decoded.value);
    let mut object = decoded.value;
    assert!(api_schema::prune(&mut object, schema).is_empty(), "decoding prunes");
    if api_schema::decode_types(&mut object, schema, "Kind", "v1").is_err() {
        return;
    }
    let once = object.clone();
    assert!(api_schema::decode_types(&mut object, schema, "Kind", "v1").is_ok(), "what was decoded decodes");
    assert_eq!(object, once);
    api_schema::apply_defaults(&mut object, schema);
    let once = object.clone();
    api_schema::apply_defaults(&mut object, schema);
    assert_eq!(object, once);
}

pub fn json(bytes: &[u8]) {
    let Ok(object) = serde_json::from_slice::<Value>(bytes) else {
        decoded(bytes, Schema::anything());
        return;
    };
    let schema = schema_of(&object);
    decoded(bytes, &schema);
    if let Ok(Value::Object(fields)) = serde_json::from_slice(bytes) {
        let encoded = api_meta::object::encode(&fields);
        if let Ok(object) = api_meta::Object::parse(encoded.clone()) {
            // It may have got metadata, where it had none.
            let Value::Object(again) = object.to_value() else { panic!("an object is an object") };
            assert_eq!(api_meta::object::encode(&again), encoded);
            api_meta::object::stamp(&encoded, u64::MAX);
        }
        let builtin = api_builtins::BUILTINS.iter().find(|resource| {
            let names = resource.names();
            (names.group.as_ref(), names.version.as_ref(), names.kind.as_ref()) == kind_of(&object_of(&fields))
        });
        if let Some(resource) = builtin {
            let (mut object, context) = (Value::Object(fields), groups());
            if api_schema::decode_types(&mut object, &schema, "Kind", "v1").is_ok() {
                api_schema::prune(&mut object, &schema);
                resource.default(&mut object);
                let once = object.clone();
                resource.default(&mut object);
                assert_eq!(object, once, "defaulting twice gives what once gives");
                let write = api_resource::WriteContext { now: jiff::Timestamp::UNIX_EPOCH, username: "jane", user_uid: "", groups: &context };
                resource.prepare_create(&mut object, &write);
                resource.validate(&object, None);
                resource.warnings(&object, None);
            }
        }
    }
}

fn object_of(fields: &serde_json::Map<String, Value>) -> Value {
    Value::Object(fields.iter().filter(|(key, _)| matches!(key.as_str(), "apiVersion" | "kind")).map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn groups() -> [String; 1] {
    ["system:authenticated".to_owned()]
}

pub fn json_examples() -> Vec<Vec<u8>> {
    manifests().iter().map(|manifest| numbered(manifest, 1).to_string().into_bytes()).collect()
}

pub fn yaml(bytes: &[u8]) {
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    if let Ok(text) = api_server::decoders::body("application/yaml", &bytes) {
        decoded(&text, Schema::anything());
    }
    // Both read the same.
    if let Ok(object) = api_server::decoders::apply_patch(&bytes) {
        assert!(object.is_object());
    }
}

pub fn yaml_examples() -> Vec<Vec<u8>> {
    let manifests = include_str!("../../corpus/manifests.yaml").split("\n---\n").map(|text| text.as_bytes().to_vec());
    let more = [
        "a: &x [1, 2]\nb: *x\n",
        "? a\n: |\n  text\n  more\n",
        "{a: 0x1F, b: 1e3, c: ~, d: 2026-01-01, e: .inf}",
        "- 'it''s'\n- \"\\u00e9\"\n- !!str 1\n",
        "<<: {a: b}\n",
    ];
    manifests.chain(more.map(|text| text.as_bytes().to_vec())).collect()
}

pub fn protobuf(bytes: &[u8]) {
    let Ok(object) = api_schema::protobuf::read(bytes) else { return };
    assert!(object.is_object());
    decoded(object.to_string().as_bytes(), &schema_of(&object));
}

/// A field of protobuf that holds bytes.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut length = content.len();
    let mut out = vec![tag << 3 | 2];
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

pub fn protobuf_examples() -> Vec<Vec<u8>> {
    let of = |version: &str, kind: &str, raw: &[Vec<u8>]| {
        let type_meta = [field(1, version.as_bytes()), field(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), field(1, &type_meta), field(2, &raw.concat())].concat()
    };
    let metadata = || {
        let label = [field(1, b"app"), field(2, b"web")].concat();
        field(1, &[field(1, b"web"), field(3, b"default"), field(11, &label), field(12, &label), field(14, b"example.com/f")].concat())
    };
    let container = [
        field(1, b"c"),
        field(2, b"image"),
        field(6, &[field(1, b"http"), vec![0x18, 80], field(4, b"TCP")].concat()),
        field(8, &field(2, &[field(1, b"cpu"), field(2, &field(1, b"100m"))].concat())),
    ]
    .concat();
    let pod_spec = [field(2, &container), field(3, b"Always"), vec![0x20, 30]].concat();
    let template = field(3, &[metadata(), field(2, &pod_spec)].concat());
    let port = field(1, &[field(1, b"http"), field(2, b"TCP"), vec![0x18, 80], field(4, &[vec![0x08, 1], field(3, b"web")].concat())].concat());
    vec![
        of("v1", "Pod", &[metadata(), field(2, &pod_spec)]),
        of("v1", "Service", &[metadata(), field(2, &port)]),
        of(
            "apps/v1",
            "Deployment",
            &[metadata(), field(2, &[vec![0x08, 3], field(2, &field(1, &[field(1, b"app"), field(2, b"web")].concat())), template].concat())],
        ),
        of("v1", "ConfigMap", &[metadata(), field(2, &[field(1, b"k"), field(2, b"v")].concat()), field(3, &[field(1, b"b"), field(2, b"\x01\xff")].concat())]),
        of(
            "coordination.k8s.io/v1",
            "Lease",
            &[metadata(), field(2, &[field(1, b"me"), vec![0x10, 15], field(3, &[vec![0x08, 0x80, 0x94, 0xeb, 0xdc, 0x03, 0x10, 5]].concat())].concat())],
        ),
        of("apps/v1", "ControllerRevision", &[metadata(), field(2, &field(1, b"{\"a\":[1]}")), vec![0x18, 3]]),
    ]
}

pub fn schema(bytes: &[u8]) {
    let Ok(written) = serde_json::from_slice::<Value>(bytes) else { return };
    let Ok(schema) = Schema::of_custom_resource(&written) else { return };
    for example in [&b"{\"spec\":{\"size\":1,\"parts\":[{\"name\":\"a\"}]},\"x\":[null]}"[..], b"[]", bytes] {
        decoded(example, &schema);
        if let Ok(object) = serde_json::from_slice(example) {
            api_schema::validate(&object, &schema, &api_meta::FieldPath::root());
        }
    }
    api_schema::cel::CompiledRules::compile(&written, &SchemaRef::new(schema), &api_meta::FieldPath::root());
}

pub fn schema_examples() -> Vec<Vec<u8>> {
    let definition = manifests().iter().find(|manifest| manifest["kind"] == "CustomResourceDefinition").expect("there is one in the corpus");
    let own = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].to_string();
    super::texts(&[
        &own,
        r#"{"type":"object","properties":{"spec":{"type":"object","default":{"a":1},"additionalProperties":{"type":"string","pattern":"^a+$","nullable":true}},"x":{"type":"array","items":{"type":"number","multipleOf":0.5},"uniqueItems":true}}}"#,
        r#"{"type":"object","x-kubernetes-validations":[{"rule":"self.a.all(x, x < oldSelf.a[0])","message":"m","messageExpression":"'x'"}],"properties":{"a":{"type":"array","maxItems":3,"items":{"type":"integer","format":"int32"}}}}"#,
        r#"{"type":"object","allOf":[{"required":["a"]}],"anyOf":[{"properties":{"a":{"minimum":1}}}],"not":{"required":["b"]},"properties":{"a":{"type":"integer"},"b":{"type":"string","format":"date-time","enum":["x"]}}}"#,
    ])
}
