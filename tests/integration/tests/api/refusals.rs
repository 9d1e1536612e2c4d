//! What is refused, with which code, reason and message; and that nothing has changed then.
use crate::support::{CONFIG_MAPS, config_map, deployment, everything, pod, quiet};
use serde_json::{Value, json};
use testkit::{Api, Ask};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Sends each request and compares the refusal; nothing may be stored differently afterwards.
fn check(api: &Api, cases: &[(&str, Ask, u16, &str, &str)]) {
    let before = everything(api);
    for (what, ask, code, reason, message) in cases {
        let reply = api.send(ask);
        assert_eq!(reply.refusal(), (*code, (*reason).to_owned(), (*message).to_owned()), "{what}");
        assert_eq!(everything(api), before, "{what} changed something");
    }
}

fn post(path: &str, body: &Value) -> Ask {
    Ask::new("POST", path).json(body)
}
fn put(path: &str, body: &Value) -> Ask {
    Ask::new("PUT", path).json(body)
}
fn patch(media_type: &str, path: &str, body: impl ToString) -> Ask {
    Ask::new("PATCH", path).body(media_type, body.to_string())
}
fn get(path: &str) -> Ask {
    Ask::new("GET", path)
}

#[test]
fn a_body_that_is_no_such_object_is_refused() {
    let (_server, api) = quiet();
    let typed = |body: Value| post(DEPLOYMENTS, &body);
    let text = |media_type: &str, body: &str| Ask::new("POST", CONFIG_MAPS).body(media_type, body);
    let bad = "BadRequest";
    check(
        &api,
        &[
            (
                "an unknown field, strictly",
                post(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &json!({"metadata": {"name": "a"}, "dta": {"x": "y"}})),
                400,
                bad,
                "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"dta\"",
            ),
            (
                "a repeated field, strictly",
                Ask::new("POST", &format!("{CONFIG_MAPS}?fieldValidation=Strict")).body("application/json", r#"{"metadata":{"name":"a","name":"b"}}"#),
                400,
                bad,
                "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"metadata.name\"",
            ),
            (
                "a wrong type",
                typed(json!({"metadata": {"name": "a"}, "spec": {"replicas": "three"}})),
                400,
                bad,
                "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                "metadata of a wrong type",
                post(CONFIG_MAPS, &json!({"metadata": "a"})),
                400,
                bad,
                "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal string into Go struct field ConfigMap.metadata of type v1.ObjectMeta",
            ),
            (
                "a kind of a wrong type",
                post(CONFIG_MAPS, &json!({"kind": 5})),
                400,
                bad,
                "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string",
            ),
            (
                "no object",
                post(CONFIG_MAPS, &json!([1])),
                400,
                bad,
                "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string; Kind string }",
            ),
            ("half an object", text("application/json", "{\"kind\":"), 400, bad, "couldn't get version/kind; json parse error: unexpected end of JSON input"),
            (
                "no JSON",
                text("application/json", "{nonsense}"),
                400,
                bad,
                "couldn't get version/kind; json parse error: key must be a string at line 1 column 2",
            ),
            ("nothing", Ask::new("POST", CONFIG_MAPS), 400, bad, "couldn't get version/kind; json parse error: unexpected end of JSON input"),
            (
                "another kind",
                post(CONFIG_MAPS, &json!({"kind": "Frob", "apiVersion": "v1"})),
                400,
                bad,
                "Frob in version \"v1\" cannot be handled as a ConfigMap: kind in the data (Frob) does not match the expected kind (ConfigMap)",
            ),
            (
                "another version",
                post(CONFIG_MAPS, &json!({"kind": "ConfigMap", "apiVersion": "v2"})),
                400,
                bad,
                "the API version in the data (v2) does not match the expected API version (v1)",
            ),
            (
                "a form that is not spoken",
                text("text/csv", "a,b"),
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ),
            (
                "protobuf that is none",
                text("application/vnd.kubernetes.protobuf", "{}"),
                400,
                bad,
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
            ),
            (
                "too much of it",
                post(CONFIG_MAPS, &config_map("a", &json!({"big": "x".repeat(4 << 20)}))),
                413,
                "RequestEntityTooLarge",
                "Request entity too large: limit is 3145728",
            ),
        ],
    );
    // These carry the parser's own words behind upstream's.
    let refused = |ask: Ask, start: &str| {
        let (code, reason, message) = api.send(&ask).refusal();
        assert_eq!((code, reason.as_str()), (400, bad));
        assert!(message.starts_with(start), "{message}");
    };
    refused(text("application/yaml", "a: [b"), "error converting YAML to JSON: yaml: ");
    refused(text("application/yaml", &format!("a: {}", "[".repeat(5000))), "error converting YAML to JSON: yaml: ");
    let deep = |depth: usize| format!("{{\"metadata\":{{\"name\":\"deep\"}},\"data\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    refused(text("application/json", &deep(5000)), "couldn't get version/kind; json parse error: recursion limit exceeded");
    let revision = |depth: usize| Ask::new("POST", "/apis/apps/v1/namespaces/default/controllerrevisions").body("application/json", deep(depth));
    refused(revision(101), "the object is nested too deeply: limit is 100");
}

#[test]
fn an_object_that_is_invalid_is_refused() {
    let (_server, api) = quiet();
    api.post(CONFIG_MAPS, &json!({"metadata": {"name": "fixed"}, "data": {"a": "1"}, "immutable": true})).ok();
    api.post(DEPLOYMENTS, &deployment("web")).ok();
    api.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}, "type": "a.example/b"})).ok();
    let invalid = "Invalid";
    let mut other_selector = deployment("web");
    other_selector["spec"]["selector"]["matchLabels"] = json!({"app": "other"});
    other_selector["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    check(
        &api,
        &[
            (
                "a missing field",
                post(PODS, &json!({"metadata": {"name": "a"}, "spec": {}})),
                422,
                invalid,
                "Pod \"a\" is invalid: spec.containers: Required value",
            ),
            (
                "no name",
                post(CONFIG_MAPS, &json!({})),
                422,
                invalid,
                "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
            ),
            (
                "a bad name",
                post(CONFIG_MAPS, &config_map("Bad_Name", &json!({}))),
                422,
                invalid,
                &format!("ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": {SUBDOMAIN}"),
            ),
            (
                "a name with a slash",
                post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &json!({"metadata": {"name": "a/b"}})),
                422,
                invalid,
                "ClusterRole.rbac.authorization.k8s.io \"a/b\" is invalid: metadata.name: Invalid value: \"a/b\": may not contain '/'",
            ),
            (
                "a name that leads elsewhere",
                post("/apis/rbac.authorization.k8s.io/v1/clusterroles", &json!({"metadata": {"name": ".."}})),
                422,
                invalid,
                "ClusterRole.rbac.authorization.k8s.io \"..\" is invalid: metadata.name: Invalid value: \"..\": may not be '..'",
            ),
            (
                "an immutable object",
                put(&format!("{CONFIG_MAPS}/fixed"), &json!({"metadata": {"name": "fixed"}, "data": {"a": "2"}, "immutable": true})),
                422,
                invalid,
                "ConfigMap \"fixed\" is invalid: data: Forbidden: field is immutable when `immutable` is set",
            ),
            (
                "an immutable field",
                patch("application/merge-patch+json", "/api/v1/namespaces/default/secrets/s", json!({"type": "c"})),
                422,
                invalid,
                "Secret \"s\" is invalid: type: Invalid value: \"c\": field is immutable",
            ),
            (
                "an immutable selector",
                put(&format!("{DEPLOYMENTS}/web"), &other_selector),
                422,
                invalid,
                "Deployment.apps \"web\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"other\"}}: field is immutable",
            ),
            (
                "a deletion by hand",
                patch("application/merge-patch+json", &format!("{DEPLOYMENTS}/web"), json!({"metadata": {"deletionTimestamp": "2030-01-01T00:00:00Z"}})),
                422,
                invalid,
                "Deployment.apps \"web\" is invalid: metadata.deletionTimestamp: Invalid value: \"2030-01-01T00:00:00Z\": field is immutable",
            ),
            (
                "a negative number",
                patch("application/merge-patch+json", &format!("{DEPLOYMENTS}/web"), json!({"spec": {"replicas": -1}})),
                422,
                invalid,
                "Deployment.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "a bad label",
                post(CONFIG_MAPS, &json!({"metadata": {"name": "a", "labels": {"a": "-"}}})),
                422,
                invalid,
                "ConfigMap \"a\" is invalid: metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
        ],
    );
    let causes = &api.post(PODS, &json!({"metadata": {"name": "a"}, "spec": {}})).json()["details"];
    assert_eq!(
        causes,
        &json!({"name": "a", "kind": "Pod", "causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}]})
    );
}

#[test]
fn a_request_that_does_not_fit_is_refused() {
    let (_server, api) = quiet();
    let stored = api.post(CONFIG_MAPS, &config_map("a", &json!({"k": "1"}))).ok();
    api.patch("merge", &format!("{CONFIG_MAPS}/a"), &json!({"data": {"k": "2"}})).ok();
    let mut stale = stored.clone();
    stale["data"]["k"] = "3".into();
    let mut other_uid = config_map("a", &json!({}));
    other_uid["metadata"]["uid"] = "no".into();
    let uid = stored["metadata"]["uid"].as_str().unwrap();
    let (one, bad) = (format!("{CONFIG_MAPS}/a"), "BadRequest");
    let missing = "the server could not find the requested resource";
    let method = "the server does not allow this method on the requested resource";
    check(
        &api,
        &[
            (
                "a stale resourceVersion",
                put(&one, &stale),
                409,
                "Conflict",
                "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
            ),
            (
                "another object's uid",
                put(&one, &other_uid),
                409,
                "Conflict",
                &format!("Operation cannot be fulfilled on configmaps \"a\": Precondition failed: UID in precondition: no, UID in object meta: {uid}"),
            ),
            ("a name that is taken", post(CONFIG_MAPS, &config_map("a", &json!({}))), 409, "AlreadyExists", "configmaps \"a\" already exists"),
            ("a name that is not there", get(&format!("{CONFIG_MAPS}/none")), 404, "NotFound", "configmaps \"none\" not found"),
            (
                "another name in the body",
                put(&one, &config_map("b", &json!({}))),
                400,
                bad,
                "the name of the object (b) does not match the name on the URL (a)",
            ),
            ("no name in the body", put(&one, &json!({})), 400, bad, "the name of the object (a based on URL) was undeterminable: name must be provided"),
            (
                "another namespace in the body",
                post(CONFIG_MAPS, &json!({"metadata": {"name": "x", "namespace": "kube-system"}})),
                400,
                bad,
                "the namespace of the provided object does not match the namespace sent on the request",
            ),
            (
                "a resourceVersion on a new object",
                post(CONFIG_MAPS, &json!({"metadata": {"name": "x", "resourceVersion": "1"}})),
                400,
                bad,
                "resourceVersion should not be set on objects to be created",
            ),
            ("an unknown kind", post("/apis/example.com/v1/namespaces/default/frobs", &json!({})), 404, "NotFound", missing),
            ("an unknown version", get("/apis/apps/v9/deployments"), 404, "NotFound", missing),
            ("an unknown subresource", get(&format!("{one}/status")), 404, "NotFound", missing),
            ("a namespace for what has none", get("/api/v1/namespaces/default/nodes"), 404, "NotFound", missing),
            ("no namespace for what needs one", get("/api/v1/pods/a"), 404, "NotFound", missing),
            ("a path to nowhere", get("/nowhere"), 404, "NotFound", missing),
            ("a create without a namespace", post("/api/v1/configmaps", &config_map("x", &json!({}))), 405, "MethodNotAllowed", method),
            ("a create under a name", post(&one, &config_map("a", &json!({}))), 405, "MethodNotAllowed", method),
            ("all namespaces at once", Ask::new("DELETE", "/api/v1/namespaces"), 405, "MethodNotAllowed", method),
            ("a method of no meaning", Ask::new("OPTIONS", &one), 405, "MethodNotAllowed", method),
            (
                "a namespace that is not there",
                post("/api/v1/namespaces/none/configmaps", &config_map("x", &json!({}))),
                404,
                "NotFound",
                "namespaces \"none\" not found",
            ),
            (
                "a form that can't be given",
                get(&one).header("accept", "text/html"),
                406,
                "NotAcceptable",
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ),
            ("a bad label selector", get(&format!("{CONFIG_MAPS}?labelSelector=a%3Db%3Dc")), 400, bad, "found '=', expected: ',' or 'end of string'"),
            (
                "a bad field selector",
                get(&format!("{CONFIG_MAPS}?fieldSelector=nonsense")),
                400,
                bad,
                "invalid selector: 'nonsense'; can't understand 'nonsense'",
            ),
            (
                "a field that can't be selected on",
                get(&format!("{CONFIG_MAPS}?fieldSelector=data.k%3D1")),
                400,
                bad,
                "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            ),
            ("another such field", get(&format!("{PODS}?fieldSelector=spec.x%3D1")), 400, bad, "field label not supported: spec.x"),
            (
                "a bad resourceVersion",
                get(&format!("{CONFIG_MAPS}?resourceVersion=new")),
                400,
                "BadRequest",
                "invalid resource version: resourceVersion: Invalid value: \"new\": strconv.ParseUint: parsing \"new\": invalid syntax",
            ),
            (
                "another dry run",
                post(&format!("{CONFIG_MAPS}?dryRun=Some"), &config_map("x", &json!({}))),
                422,
                "Invalid",
                "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\"",
            ),
            (
                "a field manager of a novel's length",
                post(&format!("{CONFIG_MAPS}?fieldManager={}", "m".repeat(200)), &config_map("x", &json!({}))),
                422,
                "Invalid",
                "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes",
            ),
            (
                "a broken continue token",
                get(&format!("{CONFIG_MAPS}?continue=%2B")),
                400,
                bad,
                "invalid continue token: continue key is not valid: illegal base64 data at input byte 0",
            ),
        ],
    );
}

#[test]
fn a_patch_that_does_not_fit_is_refused() {
    let (_server, api) = quiet();
    api.post(CONFIG_MAPS, &config_map("a", &json!({"k": "1"}))).ok();
    api.post(PODS, &pod("p")).ok();
    let (one, bad) = (format!("{CONFIG_MAPS}/a"), "BadRequest");
    let json_patch = |operations: Value| patch("application/json-patch+json", &one, operations);
    let rejected = "the server rejected our request due to an error in our request";
    let stored = api.get(&one).ok().to_string();
    let apply = |path: &str, body: Value| patch("application/apply-patch+yaml", path, body);
    check(
        &api,
        &[
            (
                "a patch type that is none",
                patch("application/json", &one, "{}"),
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            ),
            ("a test that fails", json_patch(json!([{"op": "test", "path": "/data/k", "value": "2"}])), 422, "Invalid", rejected),
            ("a path that is not there", json_patch(json!([{"op": "remove", "path": "/data/x"}])), 422, "Invalid", rejected),
            ("a JSON patch that is none", json_patch(json!({"op": "remove"})), 400, bad, "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
            (
                "a patch that leaves no object",
                json_patch(json!([{"op": "replace", "path": "", "value": 5}])),
                422,
                "Invalid",
                " \"\" is invalid: patch: Invalid value: \"5\": json: cannot unmarshal number into Go value of type struct { APIVersion string; Kind string }",
            ),
            (
                "a patch that leaves a wrong type",
                patch("application/merge-patch+json", &one, json!({"data": 1})),
                422,
                "Invalid",
                &format!(
                    " \"\" is invalid: patch: Invalid value: {:?}: json: cannot unmarshal number into Go struct field ConfigMap.data of type map[string]string",
                    stored.replace(r#"{"k":"1"}"#, "1")
                ),
            ),
            (
                "a strategic patch with an unknown field, strictly",
                patch("application/strategic-merge-patch+json", &format!("{PODS}/p?fieldValidation=Strict"), json!({"spec": {"nope": 1}})),
                422,
                "Invalid",
                " \"\" is invalid: patch: Invalid value: \"map[spec:map[nope:1]]\": strict decoding error: unknown field \"spec.nope\"",
            ),
            (
                "a list element without its key",
                patch("application/strategic-merge-patch+json", &format!("{PODS}/p"), json!({"spec": {"containers": [{"image": "x"}]}})),
                400,
                bad,
                "map: {\"image\":\"x\"} does not contain declared merge key: name",
            ),
            ("a merge patch that is none", patch("application/merge-patch+json", &one, "[1]"), 400, bad, "Invalid JSON Patch"),
            (
                "a patch of the name",
                patch("application/merge-patch+json", &one, json!({"metadata": {"name": "b"}})),
                400,
                bad,
                "the name of the object (b) does not match the name on the URL (a)",
            ),
            (
                "a patch of the kind",
                patch("application/merge-patch+json", &one, json!({"kind": "Secret"})),
                422,
                "Invalid",
                &format!(
                    " \"\" is invalid: patch: Invalid value: {:?}: Secret in version \"v1\" cannot be handled as a ConfigMap: kind in the data (Secret) does not match the expected kind (ConfigMap)",
                    stored.replace(r#""kind":"ConfigMap""#, r#""kind":"Secret""#)
                ),
            ),
            (
                "an apply by nobody",
                apply(&one, config_map("a", &json!({}))),
                422,
                "Invalid",
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ),
            (
                "force without apply",
                patch("application/merge-patch+json", &format!("{one}?force=true"), json!({})),
                422,
                "Invalid",
                "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
            ),
            (
                "an apply with managed fields",
                apply(&format!("{one}?fieldManager=m"), json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"managedFields": [{}]}})),
                400,
                bad,
                "metadata.managedFields must be nil",
            ),
            (
                "an apply that is not true any more",
                apply(&format!("{one}?fieldManager=m"), json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "1"}})),
                409,
                "Conflict",
                "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
            ),
        ],
    );
}

#[test]
fn an_unknown_field_is_told_in_a_warning_unless_asked_otherwise() {
    let (_server, api) = quiet();
    let mut body = config_map("a", &json!({"k": "v"}));
    body["dta"] = json!(1);
    let reply = api.post(CONFIG_MAPS, &body);
    assert_eq!(reply.warnings(), ["299 - \"unknown field \\\"dta\\\"\""]);
    assert!(reply.ok().get("dta").is_none());
    body["metadata"]["name"] = "b".into();
    assert!(api.post(&format!("{CONFIG_MAPS}?fieldValidation=Ignore"), &body).warnings().is_empty());
    // However many there are, the answer's head stays small.
    let mut many = config_map("c", &json!({}));
    for n in 0..100 {
        many[format!("{n}{}", "ä".repeat(10_000))] = json!(1);
    }
    let reply = api.post(CONFIG_MAPS, &many);
    reply.ok();
    assert!(reply.warnings().iter().map(|w| w.len()).sum::<usize>() < 16_384 && !reply.warnings().is_empty());
}
