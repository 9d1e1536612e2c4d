//! Admission policies: what their expressions refuse, warn of, and change.
use crate::support::{CONFIG_MAPS, config_map, quiet};
use serde_json::{Value, json};
use testkit::Api;

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

fn policy(api: &Api, name: &str, spec: &Value) {
    let mut all = json!({"matchConstraints": {"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]}});
    for (field, value) in spec.as_object().into_iter().flatten() {
        all[field] = value.clone();
    }
    api.post(&format!("{GROUP}/validatingadmissionpolicies"), &json!({"metadata": {"name": name}, "spec": all})).ok();
}

fn bind(api: &Api, name: &str, policy: &str, spec: &Value) {
    let mut all = json!({"policyName": policy, "validationActions": ["Deny"]});
    for (field, value) in spec.as_object().into_iter().flatten() {
        all[field] = value.clone();
    }
    api.post(&format!("{GROUP}/validatingadmissionpolicybindings"), &json!({"metadata": {"name": name}, "spec": all})).ok();
}

fn create(api: &Api, name: &str, data: &Value) -> testkit::Reply {
    api.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map(name, data))
}

#[test]
fn a_policy_is_in_force_where_and_how_it_is_bound() {
    let (server, api) = quiet();
    let validations = json!([
        {"expression": "object.metadata.name.size() <= variables.longest", "messageExpression": "'%s is longer than %d'.format([object.metadata.name, variables.longest])"},
        {"expression": "!has(object.data) || !has(object.data.secret)", "message": "no secrets", "reason": "Forbidden"},
    ]);
    policy(
        &api,
        "names",
        &json!({"variables": [{"name": "longest", "expression": "namespaceObject.metadata.name == 'default' ? 5 : 9"}], "validations": validations}),
    );
    create(&api, "far-too-long", &json!({})).ok();
    bind(&api, "names-here", "names", &json!({"matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}}));
    create(&api, "short", &json!({})).ok();
    let denied = create(&api, "far-too-long", &json!({}));
    let why = "ValidatingAdmissionPolicy 'names' with binding 'names-here' denied request: far-too-long is longer than 5";
    assert_eq!(
        denied.json(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422, "reason": "Invalid",
            "message": format!("configmaps \"far-too-long\" is forbidden: {why}"),
            "details": {"name": "far-too-long", "kind": "configmaps", "causes": [{"message": why}]},
        })
    );
    assert_eq!(create(&api, "s", &json!({"secret": "x"})).refusal().0, 403);
    let told = server.tool().kubectl_with("create -f -", &config_map("far-too-long", &json!({})).to_string()).err();
    assert!(told.contains(why), "{told}");
    // Elsewhere it is not bound.
    api.post("/api/v1/namespaces", &json!({"metadata": {"name": "elsewhere"}})).ok();
    api.post("/api/v1/namespaces/elsewhere/configmaps", &config_map("far-too-long", &json!({}))).ok();
    // Warnings refuse nothing.
    api.delete(&format!("{GROUP}/validatingadmissionpolicybindings/names-here")).ok();
    bind(&api, "warn", "names", &json!({"validationActions": ["Warn", "Audit"]}));
    let warned = create(&api, "s", &json!({"secret": "x"}));
    warned.ok();
    assert_eq!(warned.warnings(), ["299 - \"Validation failed for ValidatingAdmissionPolicy 'names' with binding 'warn': no secrets\""]);
}

#[test]
fn parameters_come_from_bindings() {
    let (_server, api) = quiet();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "params == null || !has(object.data.level) || int(object.data.level) <= int(params.data.most)", "message": "too high"}],
    });
    policy(&api, "levels", &spec);
    bind(&api, "low", "levels", &json!({"paramRef": {"name": "low", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}}));
    let missing = create(&api, "a", &json!({"level": "1"})).refusal();
    assert_eq!(
        missing.2,
        "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'levels' with binding 'low' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
    );
    let params = |name: &str, most: &str| {
        let mut object = config_map(name, &json!({"most": most}));
        object["metadata"]["labels"] = json!({"levels": "yes"});
        api.post("/api/v1/namespaces/kube-system/configmaps", &object).ok();
    };
    // The policy is about config maps, and so about its own parameters: they fit.
    api.delete(&format!("{GROUP}/validatingadmissionpolicybindings/low")).ok();
    params("low", "3");
    params("lower", "2");
    bind(&api, "low", "levels", &json!({"paramRef": {"name": "low", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}}));
    create(&api, "a", &json!({"level": "3"})).ok();
    assert_eq!(create(&api, "a", &json!({"level": "4"})).refusal().0, 422);
    api.delete(&format!("{GROUP}/validatingadmissionpolicybindings/low")).ok();
    bind(
        &api,
        "every",
        "levels",
        &json!({"paramRef": {"selector": {"matchLabels": {"levels": "yes"}}, "namespace": "kube-system", "parameterNotFoundAction": "Allow"}}),
    );
    assert_eq!(create(&api, "a", &json!({"level": "3"})).refusal().0, 422);
    create(&api, "a", &json!({"level": "2"})).ok();
}

#[test]
fn failures_of_a_policy_are_what_its_failure_policy_says() {
    let (_server, api) = quiet();
    for (name, failure) in [("fail", "Fail"), ("ignore", "Ignore")] {
        let spec = json!({
            "failurePolicy": failure,
            "matchConditions": [{"name": "named", "expression": format!("object.metadata.name == '{name}'")}],
            "validations": [{"expression": "object.data.missing == 'x'"}],
        });
        policy(&api, name, &spec);
        bind(&api, name, name, &json!({}));
    }
    create(&api, "ignore", &json!({})).ok();
    create(&api, "other", &json!({})).ok();
    assert_eq!(
        create(&api, "fail", &json!({"k": "v"})).refusal().2,
        "configmaps \"fail\" is forbidden: ValidatingAdmissionPolicy 'fail' with binding 'fail' denied request: expression 'object.data.missing == 'x'' resulted in error: no such key: missing"
    );
    let spec = json!({"paramKind": {"apiVersion": "none.example.com/v1", "kind": "None"}, "matchConditions": [{"name": "named", "expression": "true"}], "validations": [{"expression": "true"}]});
    policy(&api, "params", &spec);
    bind(&api, "params", "params", &json!({"paramRef": {"name": "a", "parameterNotFoundAction": "Allow"}}));
    assert_eq!(
        create(&api, "x", &json!({})).refusal().2,
        "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'params' denied request: failed to configure policy: failed to find resource referenced by paramKind: 'none.example.com/v1, Kind=None'"
    );
    // Policies are no business of policies: everybody gets out again.
    api.delete(&format!("{GROUP}/validatingadmissionpolicies/params")).ok();
    create(&api, "x", &json!({})).ok();
}

#[test]
fn expressions_that_do_not_compile_are_refused() {
    let (_server, api) = quiet();
    let rules = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let spec = json!({
        "matchConstraints": {"resourceRules": rules},
        "variables": [{"name": "v", "expression": "1"}],
        "validations": [{"expression": "variables.v + 'a' == 'b'"}, {"expression": "'text'"}, {"expression": "params.x == 1"}, {"expression": "true", "messageExpression": "1"}],
    });
    let refused = api.post(&format!("{GROUP}/validatingadmissionpolicies"), &json!({"metadata": {"name": "bad"}, "spec": spec}));
    let causes: Vec<(String, String)> = refused.json()["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| (cause["field"].as_str().unwrap().to_owned(), cause["message"].as_str().unwrap().to_owned()))
        .collect();
    let want = [
        (
            "spec.validations[0].expression",
            "Invalid value: \"variables.v + 'a' == 'b'\": compilation failed: ERROR: <input>:1:13: found no matching overload for '_+_' applied to '(int, string)'\n | variables.v + 'a' == 'b'\n | ............^",
        ),
        ("spec.validations[1].expression", "Invalid value: \"'text'\": must evaluate to bool"),
        (
            "spec.validations[2].expression",
            "Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^",
        ),
        ("spec.validations[3].messageExpression", "Invalid value: \"1\": must evaluate to string"),
    ];
    assert_eq!(causes, want.map(|(field, message)| (field.to_owned(), message.to_owned())));
}

#[test]
fn a_policy_is_told_what_its_expressions_get_wrong_about_their_kinds() {
    let (server, api) = quiet();
    let rules = json!([{"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]);
    let spec = |expression: &str| json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": expression}]});
    let path = format!("{GROUP}/validatingadmissionpolicies");
    let made = api.post(&path, &json!({"metadata": {"name": "p"}, "spec": spec("object.replicas > 1")})).ok();
    let warning = "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^";
    assert_eq!(
        made["status"],
        json!({"observedGeneration": 1, "typeChecking": {"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": warning}]}})
    );
    let mended = api.patch("merge", &format!("{path}/p"), &json!({"spec": spec("object.spec.replicas > 1")})).ok();
    assert_eq!((&mended["status"], &mended["metadata"]["generation"]), (&json!({"observedGeneration": 2, "typeChecking": {}}), &json!(2)));
    assert_eq!(server.tool().k("get validatingadmissionpolicies --no-headers").ok().split_whitespace().take(3).collect::<Vec<_>>(), ["p", "1", "<unset>"]);
}

#[test]
fn a_mutating_policy_changes_objects() {
    let (_server, api) = quiet();
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let spec = json!({
        "matchConstraints": {"resourceRules": rules}, "reinvocationPolicy": "IfNeeded", "failurePolicy": "Fail",
        "matchConditions": [{"name": "mine", "expression": "object.metadata.name.startsWith('m')"}],
        "variables": [{"name": "who", "expression": "request.userInfo.username"}],
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{metadata: Object.metadata{labels: {'by': 'policy'}}, data: {'who': variables.who}}"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: object.metadata.labels.by + '!'}]".replace('!', "-2")}},
        ],
    });
    api.post(&format!("{GROUP}/mutatingadmissionpolicies"), &json!({"metadata": {"name": "m"}, "spec": spec})).ok();
    api.post(&format!("{GROUP}/mutatingadmissionpolicybindings"), &json!({"metadata": {"name": "m"}, "spec": {"policyName": "m"}})).ok();
    let made = api.acting_as("alice", &["system:masters"]).post(CONFIG_MAPS, &config_map("m", &json!({"k": "v"}))).ok();
    assert_eq!((&made["metadata"]["labels"], &made["data"]), (&json!({"by": "policy", "a/b": "policy-2"}), &json!({"k": "v", "who": "alice"})));
    let other = api.post(CONFIG_MAPS, &config_map("other", &json!({}))).ok();
    assert!(other["metadata"].get("labels").is_none());
}
