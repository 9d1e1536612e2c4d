//! Tokens of ServiceAccounts: asked for, used, reviewed, and void with what they are bound to.
use crate::support::{pod, quiet};
use serde_json::{Value, json};
use testkit::Api;

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

fn request(api: &Api, account: &str, spec: Value) -> testkit::Reply {
    api.post(&format!("{ACCOUNTS}/{account}/token"), &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}))
}

fn token(reply: &testkit::Reply) -> String {
    reply.ok()["status"]["token"].as_str().unwrap().to_owned()
}

fn whoami(api: &Api, token: &str) -> testkit::Reply {
    api.bearer(token).post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}))
}

#[test]
fn a_token_is_its_account_until_the_account_goes() {
    let (_server, api) = quiet();
    let account = api.post(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).ok();
    let reply = request(&api, "robot", json!({"expirationSeconds": 600}));
    assert_eq!(reply.code, 201);
    assert_eq!(reply.ok()["spec"]["expirationSeconds"], 600);
    let own = token(&reply);
    let user = whoami(&api, &own).ok()["status"]["userInfo"].take();
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    assert_eq!(user["uid"], account["metadata"]["uid"]);
    assert_eq!(user["groups"], json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]));
    let review = |token: &str, audiences: Value| {
        let body = json!({"spec": {"token": token, "audiences": audiences}});
        api.post("/apis/authentication.k8s.io/v1/tokenreviews", &body).ok()["status"].take()
    };
    assert_eq!(review(&own, json!([]))["authenticated"], true);
    assert!(review(&own, json!(["elsewhere"]))["authenticated"].is_null());
    assert!(review(&format!("{own}x"), json!([]))["authenticated"].is_null());
    // A token for another audience is no token here.
    let elsewhere = token(&request(&api, "robot", json!({"audiences": ["elsewhere"]})));
    assert_eq!(whoami(&api, &elsewhere).refusal().0, 401);
    assert_eq!(review(&elsewhere, json!(["elsewhere"]))["authenticated"], true);
    // The same name is not the same account.
    api.delete(&format!("{ACCOUNTS}/robot")).ok();
    assert_eq!(whoami(&api, &own).refusal().0, 401);
    api.post(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).ok();
    assert_eq!(whoami(&api, &own).refusal().0, 401);
}

#[test]
fn a_token_bound_to_a_pod_ends_with_it() {
    let (_server, api) = quiet();
    let made = api.post("/api/v1/namespaces/default/pods", &pod("p")).ok();
    let reference = |name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}});
    let bound = token(&request(&api, "default", reference("p", made["metadata"]["uid"].as_str().unwrap())));
    let user = whoami(&api, &bound).ok()["status"]["userInfo"].take();
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(request(&api, "default", reference("p", "other")).refusal().1, "Conflict");
    assert_eq!(request(&api, "default", reference("none", "")).refusal().2, "pods \"none\" not found");
    api.delete("/api/v1/namespaces/default/pods/p").ok();
    assert_eq!(whoami(&api, &bound).refusal().0, 401);
}

#[test]
fn a_bad_request_for_a_token_is_refused() {
    let (_server, api) = quiet();
    let refused = |spec: Value| {
        let (code, _, message) = request(&api, "default", spec).refusal();
        (code, message.replace("TokenRequest.authentication.k8s.io \"\" is invalid: ", ""))
    };
    assert_eq!(
        refused(json!({"expirationSeconds": 60})),
        (422, "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes".into())
    );
    assert_eq!(
        refused(json!({"expirationSeconds": 1_u64 << 40})),
        (422, format!("spec.expirationSeconds: Invalid value: {}: may not specify a duration larger than 2^32 seconds", 1_u64 << 40))
    );
    assert_eq!(refused(json!("x")).0, 400);
    assert_eq!(refused(json!({"boundObjectRef": "x"})).0, 400);
    assert_eq!(refused(json!({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "a"}})).0, 400);
    assert_eq!(request(&api, "none", json!({})).refusal().2, "serviceaccounts \"none\" not found");
    assert_eq!(api.post(&format!("{ACCOUNTS}/default/token"), &json!({"metadata": {"name": "other"}})).refusal().0, 422);
    assert_eq!(api.post(&format!("{ACCOUNTS}/default/token"), &json!({"kind": "Pod", "apiVersion": "v1"})).refusal().0, 400);
    assert_eq!(api.get(&format!("{ACCOUNTS}/default/token")).refusal().0, 405);
}
