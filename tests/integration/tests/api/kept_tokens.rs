//! Tokens kept in Secrets: filled, used, noted, marked invalid, and gone with their account.
use crate::support::SOON;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use testkit::{Api, Reply, Server, wait_until};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const KEPT: &str = "/api/v1/namespaces/default/secrets/kept";
const USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID: &str = "kubernetes.io/legacy-token-invalid-since";

fn keep(api: &Api, account: &str) -> Reply {
    let annotations = json!({"kubernetes.io/service-account.name": account});
    api.post(SECRETS, &json!({"metadata": {"name": "kept", "annotations": annotations}, "type": "kubernetes.io/service-account-token"}))
}

fn held(secret: &Value, key: &str) -> Option<String> {
    secret["data"][key].as_str().map(|text| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
}

fn filled(api: &Api) -> Value {
    wait_until("the secret is filled", SOON, || held(&api.get(KEPT).ok(), "token").is_some());
    api.get(KEPT).ok()
}

fn whoami(api: &Api, token: &str) -> Reply {
    api.bearer(token).post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}))
}

#[test]
fn a_kept_token_is_its_account_until_either_goes() {
    let server = Server::control_plane();
    let api = server.api();
    let account = api.post(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).ok();
    keep(&api, "robot").ok();
    let secret = filled(&api);
    assert_eq!(secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"], account["metadata"]["uid"]);
    assert_eq!(held(&secret, "namespace").as_deref(), Some("default"));
    let published = api.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt").ok();
    assert_eq!(held(&secret, "ca.crt").as_deref(), published["data"]["ca.crt"].as_str());

    let token = held(&secret, "token").unwrap();
    let reply = whoami(&api, &token);
    assert_eq!(reply.warnings(), Vec::<&str>::new());
    let user = reply.ok()["status"]["userInfo"].take();
    assert_eq!((&user["username"], &user["uid"]), (&json!("system:serviceaccount:default:robot"), &account["metadata"]["uid"]));
    assert_eq!(user["groups"], json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]));
    let review = api.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": token}})).ok();
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:robot");
    let noted = api.get(KEPT).ok();
    let day = noted["metadata"]["labels"][USED].as_str().unwrap().to_owned();
    assert!(day.len() == 10 && day.starts_with("20"), "{day}");
    whoami(&api, &token).ok();
    assert_eq!(api.get(KEPT).ok()["metadata"]["resourceVersion"], noted["metadata"]["resourceVersion"], "a day is noted once");

    // What the account names was made unasked.
    api.patch("merge", &format!("{ACCOUNTS}/robot"), &json!({"secrets": [{"name": "kept"}]})).ok();
    let warned = whoami(&api, &token);
    let told = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.";
    assert!(warned.code == 201 && warned.warnings()[0].contains(told), "{:?}", warned.warnings());
    // Marked invalid it is none, and that it was tried is noted.
    let labels = |invalid: Value| json!({"metadata": {"labels": {INVALID: invalid, USED: null}}});
    api.patch("merge", KEPT, &labels(json!("2025-01-01"))).ok();
    assert_eq!(whoami(&api, &token).refusal().0, 401);
    assert_eq!(api.get(KEPT).ok()["metadata"]["labels"][USED], day.as_str());
    let review = api.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": token}})).ok();
    assert!(review["status"]["error"].as_str().unwrap().contains("has been marked invalid"), "{review}");
    api.patch("merge", KEPT, &labels(Value::Null)).ok();
    whoami(&api, &token).ok();

    // A Secret that is emptied is filled with another, and the old token is none any more.
    api.patch("merge", KEPT, &json!({"data": {"token": null}})).ok();
    let another = held(&filled(&api), "token").unwrap();
    assert_ne!(another, token);
    assert_eq!(whoami(&api, &token).refusal().0, 401);
    whoami(&api, &another).ok();

    // The account forgets a Secret that goes.
    api.delete(KEPT).ok();
    assert_eq!(whoami(&api, &another).refusal().0, 401);
    wait_until("the account names it no more", SOON, || api.get(&format!("{ACCOUNTS}/robot")).ok()["secrets"].as_array().is_none_or(Vec::is_empty));
    keep(&api, "robot").ok();
    let last = held(&filled(&api), "token").unwrap();
    api.delete(&format!("{ACCOUNTS}/robot")).ok();
    assert_eq!(whoami(&api, &last).refusal().0, 401);
    wait_until("the secret goes with its account", SOON, || api.get(KEPT).code == 404);
}

#[test]
fn a_kept_token_is_its_own_account_s_alone() {
    let server = Server::control_plane();
    let api = server.api();
    // Without an account it goes at once.
    keep(&api, "nobody").ok();
    wait_until("the secret of nobody goes", SOON, || api.get(KEPT).code == 404);
    let annotations = json!({"kubernetes.io/service-account.name": "robot", "kubernetes.io/service-account.uid": "another"});
    api.post(ACCOUNTS, &json!({"metadata": {"name": "robot"}})).ok();
    api.post(SECRETS, &json!({"metadata": {"name": "kept", "annotations": annotations}, "type": "kubernetes.io/service-account-token"})).ok();
    wait_until("the secret of an earlier account goes", SOON, || api.get(KEPT).code == 404);
    // A token that was copied to another Secret is good for nothing there.
    keep(&api, "robot").ok();
    let token = held(&filled(&api), "token").unwrap();
    api.delete(KEPT).ok();
    let copy = json!({"metadata": {"name": "copy", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token", "data": {"token": STANDARD.encode(&token)}});
    api.post(SECRETS, &copy).ok();
    assert_eq!(whoami(&api, &token).refusal().0, 401);
    let tracking = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    wait_until("tracking has begun", SOON, || api.get(tracking).code == 200);
    assert_eq!(api.get(tracking).ok()["data"]["since"].as_str().map(str::len), Some(10));
}
