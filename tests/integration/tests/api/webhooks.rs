//! Admission webhooks: who is asked what, what becomes of their answers, and that no answer harms the server.
use crate::hook::{Hook, allow, patch, respond};
use crate::support::{CONFIG_MAPS, config_map, pod, quiet};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::Api;

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

fn configure(api: &Api, path: &str, name: &str, webhooks: &[Value]) {
    api.post(path, &json!({"metadata": {"name": name}, "webhooks": webhooks})).ok();
}

fn refused(code: u16, reason: &str, message: impl Into<String>) -> (u16, String, String) {
    (code, reason.into(), message.into())
}

#[test]
fn a_validating_webhook_denies_and_warns_from_the_moment_its_configuration_is_written() {
    let (server, api) = quiet();
    let hook = Hook::start(|path, review| match path {
        "deny" => respond(review, &json!({"allowed": false, "status": {"message": "not today", "code": 403, "reason": "Forbidden"}})),
        "plain" => respond(review, &json!({"allowed": false})),
        _ => respond(review, &json!({"allowed": true, "warnings": ["mind the gap"], "auditAnnotations": {"k": "v"}})),
    });
    configure(&api, VALIDATING, "deny", &[hook.webhook("deny", "deny", &json!({"objectSelector": {"matchLabels": {"deny": "yes"}}}))]);
    let mut marked = config_map("a", &json!({}));
    marked["metadata"]["labels"] = json!({"deny": "yes"});
    let denied = api.post(CONFIG_MAPS, &marked);
    assert_eq!(denied.refusal(), refused(403, "Forbidden", "admission webhook \"deny.example.com\" denied the request: not today"));
    api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    // Upstream's answer to kubectl, and the old object's labels count as well.
    let told = server.tool().kubectl_with("apply -f -", &marked.to_string()).err();
    assert!(told.contains("admission webhook \"deny.example.com\" denied the request: not today"), "{told}");

    configure(&api, VALIDATING, "warn", &[hook.webhook("warn", "warn", &json!({}))]);
    let warned = api.post(CONFIG_MAPS, &config_map("b", &json!({})));
    warned.ok();
    assert_eq!(warned.warnings(), ["299 - \"mind the gap\""]);
    configure(&api, VALIDATING, "plain", &[hook.webhook("plain", "plain", &json!({}))]);
    let denied = api.post(CONFIG_MAPS, &config_map("c", &json!({})));
    assert_eq!(denied.refusal(), refused(400, "", "admission webhook \"plain.example.com\" denied the request without explanation"));
    // It takes one's configuration away though it would deny everything.
    api.delete(&format!("{VALIDATING}/plain")).ok();
    api.post(CONFIG_MAPS, &config_map("c", &json!({}))).ok();
    assert_eq!(hook.connections(), 2, "two webhooks are asked at once; connections are used again");
}

#[test]
fn a_webhook_is_sent_a_whole_admission_review() {
    let (_server, api) = quiet();
    let hook = Hook::start(|_, review| allow(review));
    let rules = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["configmaps", "pods/*", "deployments/scale"]}]});
    configure(&api, VALIDATING, "all", &[hook.webhook("all", "all", &rules)]);
    let send = |user: &Api, path: &str, body: &Value| user.post(path, body).ok();
    let masters = api.acting_as("alice", &["system:masters"]).with_header("impersonate-extra-team", "blue");
    send(&masters, &format!("{CONFIG_MAPS}?dryRun=All&fieldManager=m"), &config_map("a", &json!({"k": "v"})));
    let review = hook.asked().remove(0).1;
    assert_eq!((&review["kind"], &review["apiVersion"]), (&json!("AdmissionReview"), &json!("admission.k8s.io/v1")));
    let mut request = review["request"].clone();
    let uid = request["uid"].take();
    assert_eq!(uid.as_str().unwrap().len(), 36);
    let object = request["object"].take();
    assert_eq!((&object["kind"], &object["data"]["k"], &object["metadata"]["namespace"]), (&json!("ConfigMap"), &json!("v"), &json!("default")));
    assert_eq!(
        request,
        json!({
            "uid": null, "object": null, "oldObject": null,
            "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "resource": {"group": "", "version": "v1", "resource": "configmaps"},
            "requestKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
            "name": "a", "namespace": "default", "operation": "CREATE", "dryRun": true,
            "userInfo": {"username": "alice", "groups": ["system:masters", "system:authenticated"], "extra": {"team": ["blue"]}},
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "m", "dryRun": ["All"]},
        })
    );
    let last = |api: &dyn Fn()| {
        api();
        hook.asked().pop().unwrap().1["request"].take()
    };
    send(&api, CONFIG_MAPS, &config_map("a", &json!({"k": "v"})));
    let updated = last(&|| drop(api.patch("merge", &format!("{CONFIG_MAPS}/a"), &json!({"data": {"k": "w"}})).ok()));
    assert_eq!((&updated["operation"], &updated["options"]["kind"]), (&json!("UPDATE"), &json!("UpdateOptions")));
    assert_eq!((&updated["oldObject"]["data"]["k"], &updated["object"]["data"]["k"]), (&json!("v"), &json!("w")));
    // Rules about DELETE see the old object alone.
    let rules = json!({"rules": [{"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
    configure(&api, VALIDATING, "delete", &[hook.webhook("delete", "delete", &rules)]);
    let deleted = last(&|| drop(api.delete(&format!("{CONFIG_MAPS}/a")).ok()));
    assert_eq!((&deleted["object"], &deleted["oldObject"]["data"]["k"], &deleted["options"]["kind"]), (&Value::Null, &json!("w"), &json!("DeleteOptions")));

    // Subresources speak their own kinds.
    let pods = "/api/v1/namespaces/default/pods";
    send(&api, pods, &pod("p"));
    let bind = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = last(&|| drop(send(&api, &format!("{pods}/p/binding"), &bind)));
    assert_eq!((&bound["operation"], &bound["kind"]["kind"], &bound["subResource"]), (&json!("CREATE"), &json!("Binding"), &json!("binding")));
    assert_eq!((&bound["object"]["target"]["name"], &bound["oldObject"]), (&json!("n"), &Value::Null));
    let connected = last(&|| drop(api.get(&format!("{pods}/p/exec?command=sh&command=-c&stdout=true&container=c"))));
    assert_eq!((&connected["operation"], &connected["kind"]["kind"], &connected["name"]), (&json!("CONNECT"), &json!("PodExecOptions"), &json!("p")));
    assert_eq!((&connected["object"]["command"], &connected["object"]["stdout"]), (&json!(["sh", "-c"]), &json!(true)));
    let evict = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let evicted = last(&|| drop(send(&api, &format!("{pods}/p/eviction"), &evict)));
    assert_eq!((&evicted["operation"], &evicted["kind"]["kind"], &evicted["kind"]["group"]), (&json!("CREATE"), &json!("Eviction"), &json!("policy")));
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    send(&api, deployments, &crate::support::deployment("web"));
    let scaled = last(&|| drop(api.patch("merge", &format!("{deployments}/web/scale"), &json!({"spec": {"replicas": 5}})).ok()));
    assert_eq!(
        (&scaled["kind"]["kind"], &scaled["object"]["spec"], &scaled["oldObject"]["spec"]),
        (&json!("Scale"), &json!({"replicas": 5}), &json!({"replicas": 2}))
    );
}

#[test]
fn a_mutating_webhook_changes_what_is_stored_and_what_is_changed_is_checked() {
    let (_server, api) = quiet();
    let hook = Hook::start(|path, review| {
        let old = &review["request"]["oldObject"];
        match path {
            "label" => {
                patch(review, &json!([{"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}}, {"op": "add", "path": "/unknown", "value": 1}]))
            }
            "immutable" if !old.is_null() => {
                patch(review, &json!([{"op": "replace", "path": "/metadata/uid", "value": "x"}, {"op": "add", "path": "/data", "value": {"k": "from hook"}}]))
            }
            "garbage" => patch(review, &json!([{"op": "add", "path": "/data", "value": {"k": 7}}])),
            "invalid" => patch(review, &json!([{"op": "add", "path": "/data", "value": {"no/key": "v"}}])),
            "missing" => patch(review, &json!([{"op": "remove", "path": "/nothing"}])),
            "rename" => patch(review, &json!([{"op": "replace", "path": "/metadata/namespace", "value": "kube-system"}])),
            "kind" => patch(review, &json!([{"op": "replace", "path": "/kind", "value": "Secret"}])),
            _ => allow(review),
        }
    });
    let only = |label: &str| json!({"objectSelector": {"matchLabels": {"hook": label}}});
    let hooks: Vec<Value> =
        ["label", "immutable", "garbage", "invalid", "missing", "rename", "kind"].iter().map(|path| hook.webhook(path, path, &only(path))).collect();
    configure(&api, MUTATING, "hooks", &hooks);
    let marked = |name: &str, label: &str| {
        let mut object = config_map(name, &json!({"k": "v"}));
        object["metadata"]["labels"] = json!({"hook": label});
        object
    };
    let made = api.post(CONFIG_MAPS, &marked("a", "label")).ok();
    assert_eq!((&made["metadata"]["labels"], made.get("unknown")), (&json!({"by": "hook"}), None));
    let made = api.post(CONFIG_MAPS, &marked("b", "immutable")).ok();
    let kept = api.put(&format!("{CONFIG_MAPS}/b"), &marked("b", "immutable")).ok();
    assert_eq!((&kept["metadata"]["uid"], &kept["data"]["k"]), (&made["metadata"]["uid"], &json!("from hook")));
    let refusal = |label: &str| api.post(CONFIG_MAPS, &marked("c", label)).refusal();
    let (code, reason, message) = refusal("garbage");
    assert_eq!((code, reason.as_str()), (500, "InternalError"), "{message}");
    assert_eq!(
        refusal("invalid"),
        refused(
            422,
            "Invalid",
            "ConfigMap \"c\" is invalid: data[no/key]: Invalid value: \"no/key\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        )
    );
    assert_eq!(
        refusal("missing"),
        refused(
            500,
            "InternalError",
            "Internal error occurred: error in remove for path: '/nothing': Unable to remove nonexistent key: nothing: missing value"
        )
    );
    let (code, _, message) = refusal("rename");
    assert_eq!((code, message.as_str()), (400, "the namespace of the provided object does not match the namespace sent on the request"));
    assert_eq!(refusal("kind").0, 500);
}

#[test]
fn those_before_are_asked_once_more_when_those_after_change_something() {
    let (_server, api) = quiet();
    let hook = Hook::start(|path, review| {
        let count = review["request"]["object"]["data"]["count"].as_str().unwrap_or("0").parse::<u32>().unwrap();
        match path {
            // These would go on for ever.
            "first" | "second" => patch(review, &json!([{"op": "add", "path": "/data/count", "value": (count + 1).to_string()}])),
            _ => allow(review),
        }
    });
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let hooks = [hook.webhook("first", "first", &again), hook.webhook("second", "second", &again), hook.webhook("never", "never", &json!({}))];
    configure(&api, MUTATING, "hooks", &hooks);
    let made = api.post(CONFIG_MAPS, &config_map("a", &json!({"k": "v"}))).ok();
    assert_eq!(["first", "second", "never"].map(|path| hook.count(path)), [2, 2, 1]);
    assert_eq!(made["data"]["count"], "4");
}

#[test]
fn a_failure_is_what_the_failure_policy_says() {
    let (_server, api) = quiet();
    let hook = Hook::start(|path, review| match path {
        "hang" => {
            std::thread::sleep(Duration::from_secs(4));
            allow(review)
        }
        "uid" => respond(review, &json!({"uid": "another", "allowed": true})),
        "garbage" => (200, b"what?".to_vec()),
        "empty" => (200, b"{}".to_vec()),
        "error" => (500, b"out of order".to_vec()),
        "huge" => (200, vec![b' '; 9 << 20]),
        "patching" => patch(review, &json!([{"op": "add", "path": "/data", "value": {}}])),
        _ => (404, Vec::new()),
    });
    let paths = ["hang", "uid", "garbage", "empty", "error", "huge", "patching", "missing"];
    let configured = |policy: &str| {
        let webhook = |path: &&str| {
            let selector = json!({"matchLabels": {"hook": path}});
            hook.webhook(path, path, &json!({"objectSelector": selector, "failurePolicy": policy, "timeoutSeconds": 1}))
        };
        paths.iter().map(webhook).collect::<Vec<_>>()
    };
    let mut marked = config_map("a", &json!({}));
    let mut post = |label: &str| {
        marked["metadata"]["labels"] = json!({"hook": label});
        api.post(&format!("{CONFIG_MAPS}?dryRun=All"), &marked)
    };
    configure(&api, VALIDATING, "hooks", &configured("Fail"));
    for (path, why) in [
        ("hang", format!("failed to call webhook: Post \"{}?timeout=1s\": context deadline exceeded", hook.url("hang"))),
        ("garbage", "failed to call webhook: couldn't get version/kind; json parse error: invalid character 'w' looking for beginning of value".to_owned()),
        ("empty", "failed to call webhook: Object 'Kind' is missing in '{}'".to_owned()),
        ("error", "failed to call webhook: an error on the server (\"out of order\") has prevented the request from succeeding".to_owned()),
        ("patching", "received invalid webhook response: validating webhook may not return response.patch".to_owned()),
        ("missing", "failed to call webhook: the server could not find the requested resource".to_owned()),
        ("huge", format!("failed to call webhook: Post \"{}?timeout=1s\": length limit exceeded", hook.url("huge"))),
    ] {
        let since = Instant::now();
        assert_eq!(
            post(path).refusal(),
            refused(500, "InternalError", format!("Internal error occurred: failed calling webhook \"{path}.example.com\": {why}"))
        );
        assert!(since.elapsed() < Duration::from_secs(3), "{path}");
    }
    let (code, _, message) = post("uid").refusal();
    assert_eq!(code, 500);
    assert!(message.contains("received invalid webhook response: expected response.uid="), "{message}");
    // A certificate of another authority, and nobody there at all.
    let other = Hook::start(|_, review| allow(review));
    let mut webhook = other.webhook("other", "other", &json!({"objectSelector": {"matchLabels": {"hook": "other"}}}));
    webhook["clientConfig"]["caBundle"] = configured("Fail")[0]["clientConfig"]["caBundle"].clone();
    let mut nobody = webhook.clone();
    (nobody["name"], nobody["clientConfig"]["url"]) = ("nobody.example.com".into(), "https://127.0.0.1:1/".into());
    nobody["objectSelector"] = json!({"matchLabels": {"hook": "nobody"}});
    configure(&api, VALIDATING, "other", &[webhook, nobody]);
    let message = post("other").refusal().2;
    assert!(message.ends_with("tls: failed to verify certificate: x509: certificate signed by unknown authority"), "{message}");
    let message = post("nobody").refusal().2;
    assert!(message.ends_with("Post \"https://127.0.0.1:1/?timeout=5s\": dial tcp 127.0.0.1:1: connect: connection refused"), "{message}");

    api.delete(&format!("{VALIDATING}/hooks")).ok();
    configure(&api, VALIDATING, "hooks", &configured("Ignore"));
    for path in paths {
        post(path).ok();
    }
}

#[test]
fn a_service_names_a_webhook_by_its_endpoints() {
    let (_server, api) = quiet();
    let hook = Hook::start(|_, review| respond(review, &json!({"allowed": false, "status": {"message": "by service"}})));
    let mut webhook = hook.webhook("service", "unused", &json!({}));
    webhook["clientConfig"].as_object_mut().unwrap().remove("url");
    webhook["clientConfig"]["service"] = json!({"namespace": "default", "name": "hook", "path": "/at/service", "port": 443});
    configure(&api, VALIDATING, "service", &[webhook]);
    let post = || api.post(CONFIG_MAPS, &config_map("a", &json!({}))).refusal().2;
    let failed = "Internal error occurred: failed calling webhook \"service.example.com\": failed to call webhook: Post \"https://hook.default.svc:443/at/service?timeout=5s\": ";
    assert_eq!(post(), format!("{failed}service \"hook\" not found"));
    api.post("/api/v1/namespaces/default/services", &json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443}]}})).ok();
    assert_eq!(post(), format!("{failed}no endpoints available for service \"hook\""));
    // Endpoints can't be loopback addresses, which is where the webhook listens; a name can.
    api.delete(&format!("{VALIDATING}/service")).ok();
    let mut webhook = hook.webhook("service", "unused", &json!({}));
    webhook["clientConfig"].as_object_mut().unwrap().remove("url");
    webhook["clientConfig"]["service"] = json!({"namespace": "default", "name": "hook", "path": "/at/service", "port": hook.port});
    configure(&api, VALIDATING, "service", &[webhook]);
    let external = json!({"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    api.delete("/api/v1/namespaces/default/services/hook").ok();
    api.post("/api/v1/namespaces/default/services", &external).ok();
    assert_eq!(post(), "admission webhook \"service.example.com\" denied the request: by service");
    assert_eq!(hook.asked()[0].0, "at/service");
}

#[test]
fn match_conditions_choose_requests() {
    let (_server, api) = quiet();
    let hook = Hook::start(|_, review| respond(review, &json!({"allowed": false})));
    let conditions = json!({"matchConditions": [
        {"name": "named", "expression": "object.metadata.name.startsWith('x') && request.operation == 'CREATE'"},
        {"name": "not-nodes", "expression": "!('system:nodes' in request.userInfo.groups)"},
        {"name": "may", "expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()"},
    ]});
    configure(&api, VALIDATING, "conditions", &[hook.webhook("conditions", "conditions", &conditions)]);
    api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    assert_eq!(api.post(CONFIG_MAPS, &config_map("x", &json!({}))).refusal().0, 400);
    let failing = json!({"matchConditions": [{"name": "fails", "expression": "object.data.missing == 'x'"}]});
    configure(&api, VALIDATING, "failing", &[hook.webhook("failing", "failing", &failing)]);
    assert_eq!(
        api.post(CONFIG_MAPS, &config_map("b", &json!({"k": "v"}))).refusal(),
        refused(403, "Forbidden", "configmaps \"b\" is forbidden: expression 'object.data.missing == 'x'' resulted in error: no such key: missing")
    );
    let bad = json!({"metadata": {"name": "bad"}, "webhooks": [hook.webhook("bad", "bad", &json!({"matchConditions": [{"name": "c", "expression": "nothing == 1"}]}))]});
    assert_eq!(
        api.post(VALIDATING, &bad).refusal().2,
        "ValidatingWebhookConfiguration.admissionregistration.k8s.io \"bad\" is invalid: webhooks[0].matchConditions[0].expression: Invalid value: \"nothing == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'nothing' (in container '')\n | nothing == 1\n | ^"
    );
}
