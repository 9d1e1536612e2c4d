//! AuthorizationConfiguration: a webhook beside RBAC, in the order that a file says, and the file changes.
use crate::hook::Hook;
use crate::support::{CONFIG_MAPS, SOON};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;
use testkit::{Api, Server, ServerOptions, wait_until};

fn written(file: &Path, authorizers: &Value) {
    let configuration = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": authorizers});
    let new = file.with_extension("new");
    std::fs::write(&new, configuration.to_string()).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// Knows people by their names.
fn answer(review: &Value) -> (u16, Vec<u8>) {
    let mut review = review.clone();
    review["status"] = match review["spec"]["user"].as_str().unwrap() {
        "good" => json!({"allowed": true, "reason": "known"}),
        "bad" => json!({"allowed": false, "denied": true, "reason": "unwanted"}),
        "odd" => return (400, b"{}".to_vec()),
        _ => json!({"allowed": false}),
    };
    (200, review.to_string().into_bytes())
}

fn metric(api: &Api, sample: &str) -> f64 {
    let text = api.get("/metrics").text();
    text.lines().filter(|line| line.starts_with(sample)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn a_webhook_is_asked_in_its_place_and_the_file_is_followed() {
    let hook = Hook::start(|_, review| answer(review));
    let directory = tempfile::tempdir().unwrap();
    let (file, kubeconfig) = (directory.path().join("authorization.yaml"), directory.path().join("webhook.yaml"));
    let to_hook = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "w", "cluster": {"server": hook.url("authorize"), "certificate-authority-data": STANDARD.encode(&hook.ca_pem)}}],
        "users": [{"name": "u", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "w", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, to_hook.to_string()).unwrap();
    let webhook = |changes: Value| {
        let mut settings = json!({
            "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion", "authorizedTTL": "1h", "unauthorizedTTL": "1h",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": kubeconfig},
        });
        settings.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        json!({"type": "Webhook", "name": "people", "webhook": settings})
    };
    let (node, rbac) = (json!({"type": "Node", "name": "node"}), json!({"type": "RBAC", "name": "rbac"}));
    let about_config_maps = json!({
        "matchConditionSubjectAccessReviewVersion": "v1", "matchConditions": [{"expression": "has(request.resourceAttributes) && request.resourceAttributes.resource == 'configmaps'"}],
    });
    written(&file, &json!([node, rbac, webhook(about_config_maps)]));
    let arguments = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam", "--authorization-config", file.to_str().unwrap()];
    let server = Server::start(ServerOptions { arguments: arguments.map(Into::into).into(), ..ServerOptions::default() });
    let api = server.api();
    let user = |name: &str| api.acting_as(name, &[]);

    // Who RBAC says nothing of may do what the webhook allows, and it is asked once.
    for _ in 0..3 {
        user("good").get(CONFIG_MAPS).ok();
    }
    let (path, review) = hook.asked().remove(0);
    assert_eq!(
        (path.as_str(), &review["apiVersion"], &review["kind"], hook.count("authorize")),
        ("authorize", &json!("authorization.k8s.io/v1"), &json!("SubjectAccessReview"), 1)
    );
    let spec = json!({
        "user": "good", "groups": ["system:authenticated"], "resourceAttributes": {"namespace": "default", "verb": "list", "version": "v1", "resource": "configmaps"},
    });
    assert_eq!(review["spec"], spec);
    assert_eq!(user("good").get("/api/v1/pods").refusal().0, 403);
    assert_eq!(hook.count("authorize"), 1, "its conditions leave pods out");
    assert_eq!(
        user("x").get(CONFIG_MAPS).refusal().2,
        "configmaps is forbidden: User \"x\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    assert!(user("bad").get(CONFIG_MAPS).refusal().2.ends_with(": unwanted"));
    let (code, _, message) = user("odd").get(CONFIG_MAPS).refusal();
    assert_eq!(code, 500, "{message}");
    // The administrators' group is asked for nobody.
    api.get(CONFIG_MAPS).ok();

    let access = |name: &str| {
        let attributes = json!({"namespace": "default", "verb": "list", "resource": "configmaps", "version": "v1"});
        api.post(
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            &json!({"spec": {"user": name, "groups": ["system:authenticated"], "resourceAttributes": attributes}}),
        )
        .ok()["status"]
            .take()
    };
    assert_eq!(access("good"), json!({"allowed": true, "reason": "known"}));
    assert_eq!(access("bad"), json!({"allowed": false, "denied": true, "reason": "unwanted"}));
    let odd = access("odd");
    assert!(odd["allowed"] == false && !odd["evaluationError"].as_str().unwrap().is_empty(), "{odd}");
    let rules = api.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &json!({"spec": {"namespace": "default"}})).ok();
    assert_eq!(
        (&rules["status"]["incomplete"], &rules["status"]["evaluationError"]),
        (&json!(true), &json!("webhook authorizer does not support user rule resolution"))
    );

    // A role lets `bad` in before the webhook is asked, until the file puts it first.
    let (role, binding) = ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings");
    api.post(role, &json!({"metadata": {"name": "lists"}, "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]})).ok();
    let subjects: Vec<Value> = ["bad", "odd"].iter().map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name})).collect();
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "lists"});
    api.post(binding, &json!({"metadata": {"name": "lists"}, "roleRef": reference, "subjects": subjects})).ok();
    user("bad").get(CONFIG_MAPS).ok();
    user("odd").get(CONFIG_MAPS).ok();
    written(&file, &json!([webhook(json!({}))]));
    let reloads = |status: &str| metric(&api, &format!("apiserver_authorization_config_controller_automatic_reloads_total{{status=\"{status}\""));
    wait_until("a file without RBAC was looked at", SOON, || reloads("failure") >= 1.0);
    user("bad").get(CONFIG_MAPS).ok();
    written(&file, &json!([webhook(json!({"failurePolicy": "Deny", "subjectAccessReviewVersion": "v1beta1"})), node, rbac]));
    wait_until("the new order is in force", SOON, || user("bad").get(CONFIG_MAPS).code == 403);
    assert_eq!(user("odd").get(CONFIG_MAPS).code, 500, "no answer is a refusal now");
    assert_eq!(hook.asked().last().unwrap().1["apiVersion"], "authorization.k8s.io/v1beta1");
    assert_eq!(reloads("success"), 1.0);

    let decisions = |kind: &str, name: &str, decision: &str| {
        metric(&api, &format!("apiserver_authorization_decisions_total{{type=\"{kind}\",name=\"{name}\",decision=\"{decision}\"}}"))
    };
    assert!(decisions("Webhook", "people", "allowed") >= 4.0 && decisions("Webhook", "people", "denied") >= 3.0 && decisions("RBAC", "rbac", "allowed") >= 3.0);
    assert!(metric(&api, "apiserver_authorization_webhook_evaluations_total{name=\"people\",result=\"success\"}") >= 3.0);
    assert!(metric(&api, "apiserver_authorization_webhook_evaluations_fail_open_total{name=\"people\",result=\"error\"}") >= 1.0);
    assert!(metric(&api, "apiserver_authorization_match_condition_exclusions_total{type=\"Webhook\",name=\"people\"}") >= 1.0);
}
