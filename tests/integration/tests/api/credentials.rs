//! Credentials besides certificates and ServiceAccounts: bootstrap tokens, a webhook's; and who is told what of whom.
use crate::support::{SOON, quiet};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use testkit::{Api, Server, ServerOptions, wait_until};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1";

fn whoami(api: &Api) -> Value {
    api.post(&format!("{REVIEWS}/selfsubjectreviews"), &json!({})).ok()["status"]["userInfo"].take()
}

#[test]
fn a_bootstrap_token_is_as_good_as_its_secret() {
    let (_server, api) = quiet();
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:worker",
        },
    });
    let joining = api.bearer("abcdef.0123456789abcdef");
    assert_eq!(joining.get("/api").code, 401);
    api.post("/api/v1/namespaces/kube-system/secrets", &secret).ok();
    let user = whoami(&joining);
    assert_eq!(user, json!({"username": "system:bootstrap:abcdef", "groups": ["system:bootstrappers", "system:bootstrappers:worker", "system:authenticated"]}));
    assert_eq!(api.bearer("abcdef.0123456789abcdee").get("/api").code, 401);
    let path = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef";
    api.patch("merge", path, &json!({"stringData": {"expiration": "2020-01-01T00:00:00Z"}})).ok();
    assert_eq!(joining.get("/api").code, 401);
}

/// A webhook over plain HTTP that knows the tokens `good` and `vault`; gives its kubeconfig and counts what it was asked.
fn webhook(asked: Arc<AtomicUsize>, reviews: Arc<Mutex<Vec<Value>>>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (asked, reviews) = (asked.clone(), reviews.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                loop {
                    let (mut length, mut first) = (0, String::new());
                    loop {
                        let mut line = String::new();
                        if reader.read_line(&mut line).unwrap_or(0) == 0 {
                            return;
                        }
                        if first.is_empty() {
                            first.clone_from(&line);
                        }
                        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                        if line.trim().is_empty() {
                            break;
                        }
                    }
                    assert!(first.starts_with("POST /review HTTP/1.1"), "{first}");
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let mut review: Value = serde_json::from_slice(&body).unwrap();
                    reviews.lock().unwrap().push(review.clone());
                    asked.fetch_add(1, Ordering::Relaxed);
                    review["status"] = match review["spec"]["token"].as_str().unwrap() {
                        "good" => json!({"authenticated": true, "user": {"username": "eve", "uid": "7", "groups": ["devs"], "extra": {"org": ["a"]}}}),
                        "vault" => json!({"authenticated": true, "audiences": ["vault"], "user": {"username": "eve"}}),
                        _ => json!({"authenticated": false}),
                    };
                    let text = review.to_string();
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    reader.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: w, cluster: {{server: \"http://127.0.0.1:{port}/review\"}}}}]\nusers: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: w, user: u}}}}]\ncurrent-context: c\n"
    )
}

#[test]
fn a_webhook_is_asked_once_about_tokens_nobody_else_knows() {
    let (asked, reviews) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("webhook.yaml");
    std::fs::write(&file, webhook(asked.clone(), reviews.clone())).unwrap();
    let mut arguments: Vec<String> =
        ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam", "--authentication-token-webhook-cache-ttl", "1s"].map(Into::into).into();
    arguments.extend(["--authentication-token-webhook-config-file".to_owned(), file.display().to_string()]);
    let server = Server::start(ServerOptions { arguments, ..ServerOptions::default() });
    let api = server.api();
    let eve = api.bearer("good");
    let user = whoami(&eve);
    assert_eq!(user, json!({"username": "eve", "uid": "7", "groups": ["devs", "system:authenticated"], "extra": {"org": ["a"]}}));
    let issuer = "https://kubernetes.default.svc.cluster.local";
    assert_eq!(reviews.lock().unwrap()[0]["spec"], json!({"token": "good", "audiences": [issuer]}));
    assert_eq!(reviews.lock().unwrap()[0]["apiVersion"], "authentication.k8s.io/v1");
    for _ in 0..5 {
        whoami(&eve);
        assert_eq!(api.bearer("bad").get("/api").code, 401);
    }
    assert!(asked.load(Ordering::Relaxed) <= 4, "answers are remembered");
    assert_eq!(api.bearer("vault").get("/api").code, 401, "a token for somebody else");
    let before = asked.load(Ordering::Relaxed);
    wait_until("the answer is forgotten", SOON, || {
        whoami(&eve);
        asked.load(Ordering::Relaxed) > before
    });
    // What others know is not sent out.
    assert!(reviews.lock().unwrap().iter().all(|review| !review["spec"]["token"].as_str().unwrap().contains('.')));
    let review = api.post(&format!("{REVIEWS}/tokenreviews"), &json!({"spec": {"token": "good"}})).ok();
    assert_eq!((&review["status"]["authenticated"], &review["status"]["audiences"]), (&json!(true), &json!([issuer])));
    let review = api.post(&format!("{REVIEWS}/tokenreviews"), &json!({"spec": {"token": "bad"}})).ok();
    assert_eq!(review["status"], json!({"user": {}}));
}

#[test]
fn what_tokens_are_verified_by_is_public_to_service_accounts() {
    let (_server, api) = quiet();
    let account = api.acting_as("system:serviceaccount:default:default", &[]);
    let document = account.get("/.well-known/openid-configuration");
    assert_eq!((document.header("content-type"), document.header("cache-control")), (Some("application/json"), Some("public, max-age=3600")));
    assert_eq!(document.ok()["issuer"], "https://kubernetes.default.svc.cluster.local");
    let keys = account.get("/openid/v1/jwks");
    assert_eq!(keys.header("content-type"), Some("application/jwk-set+json"));
    assert_eq!(keys.ok()["keys"][0]["use"], "sig");
    assert_eq!(api.acting_as("somebody", &[]).get("/openid/v1/jwks").refusal().0, 403);
}

#[test]
fn reviews_are_refused_in_upstreams_words() {
    let (_server, api) = quiet();
    let reviews = "/apis/authorization.k8s.io/v1";
    let refused = |path: &str, spec: Value| {
        let (code, _, message) = api.post(&format!("{reviews}/{path}"), &json!({ "spec": spec })).refusal();
        assert_eq!(code, 422, "{message}");
        message.split_once(": ").unwrap().1.to_owned()
    };
    let (pods, path) = (json!({"verb": "get", "resource": "pods"}), json!({"verb": "get", "path": "/x"}));
    assert_eq!(
        refused("selfsubjectaccessreviews", json!({})),
        "spec.resourceAttributes: Required value: exactly one of nonResourceAttributes or resourceAttributes must be specified"
    );
    assert!(
        refused("selfsubjectaccessreviews", json!({"resourceAttributes": pods, "nonResourceAttributes": path}))
            .ends_with("cannot be specified in combination with resourceAttributes")
    );
    assert_eq!(
        refused("subjectaccessreviews", json!({"resourceAttributes": pods})),
        "spec.user: Required value: at least one of user or group must be specified"
    );
    let local = "namespaces/default/localsubjectaccessreviews";
    assert_eq!(
        refused(local, json!({"user": "x", "resourceAttributes": {"namespace": "other", "resource": "pods", "verb": "get"}})),
        "spec.resourceAttributes.namespace: Invalid value: \"other\": must match metadata.namespace"
    );
    assert!(refused(local, json!({"user": "x", "nonResourceAttributes": path})).ends_with("disallowed on this kind of request"));
    // Who may do everything is told so by the roles they have.
    let rules = api.post(&format!("{reviews}/selfsubjectrulesreviews"), &json!({"spec": {"namespace": "default"}})).ok();
    assert!(
        rules["status"]["resourceRules"].as_array().unwrap().iter().any(|rule| rule["verbs"] == json!(["*"]) && rule["resources"] == json!(["*"])),
        "{rules}"
    );
    assert_eq!(rules["status"]["incomplete"], false);
    let node = api.acting_as("system:node:a", &["system:nodes"]);
    let rules = node.post(&format!("{reviews}/selfsubjectrulesreviews"), &json!({"spec": {"namespace": "default"}})).ok();
    assert_eq!(rules["status"]["evaluationError"], "node authorizer does not support user rule resolution");
    // Who is nobody in particular may not even ask who they are.
    assert_eq!(api.acting_as("x", &["system:unauthenticated"]).post(&format!("{REVIEWS}/selfsubjectreviews"), &json!({})).refusal().0, 403);
}

#[test]
fn a_node_reads_its_own_pods_alone() {
    let (_server, api) = quiet();
    for name in ["one", "two"] {
        api.post("/api/v1/nodes", &json!({"metadata": {"name": name}})).ok();
        let mut pod = crate::support::pod(name);
        pod["spec"]["nodeName"] = name.into();
        pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        api.post("/api/v1/namespaces/default/pods", &pod).ok();
    }
    let node = api.acting_as("system:node:one", &["system:nodes"]);
    let own = node.get("/api/v1/pods?fieldSelector=spec.nodeName%3Done").ok();
    assert_eq!(crate::support::names(&own), ["one"]);
    node.get("/api/v1/namespaces/default/pods/one").ok();
    node.get("/api/v1/nodes/one").ok();
    node.get("/api/v1/nodes?fieldSelector=metadata.name%3Done").ok();
    let refused = |path: &str| node.get(path).refusal().2;
    assert!(refused("/api/v1/pods").ends_with(": can only list/watch pods with spec.nodeName field selector"));
    assert!(refused("/api/v1/pods?fieldSelector=spec.nodeName%3Dtwo").ends_with(": can only list/watch pods with spec.nodeName field selector"));
    assert!(refused("/api/v1/namespaces/default/pods/two").ends_with(": no relationship found between node 'one' and this object"));
    // The other nodes it sees: it leads its pods to theirs.
    assert_eq!(crate::support::names(&node.get("/api/v1/nodes").ok()), ["one", "two"]);
    assert_eq!(node.put("/api/v1/nodes/two", &json!({"metadata": {"name": "two"}})).refusal().0, 403);
}

#[test]
fn tokens_live_no_longer_than_they_may() {
    let arguments = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam", "--kube-apiserver-arg", "service-account-max-token-expiration=1h"];
    let server = Server::start(ServerOptions { arguments: arguments.map(Into::into).into(), ..ServerOptions::default() });
    let api = server.api();
    api.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "a"}})).ok();
    let path = "/api/v1/namespaces/default/serviceaccounts/a/token";
    let reply = api.post(path, &json!({"spec": {"expirationSeconds": 7200}}));
    assert_eq!(reply.warnings(), ["299 - \"requested expiration of 7200 seconds shortened to 3600 seconds\""]);
    assert_eq!(reply.ok()["spec"]["expirationSeconds"], 3600);
    let refused = |body: Value| api.post(path, &body).refusal();
    let bound = |kind: &str, version: &str| json!({"spec": {"boundObjectRef": {"kind": kind, "apiVersion": version, "name": "x"}}});
    assert_eq!(refused(bound("ConfigMap", "v1")).2, "cannot bind token to object of type /v1, Kind=ConfigMap");
    assert_eq!(refused(bound("Deployment", "apps/v1")).2, "cannot bind token to object of type apps/v1, Kind=Deployment");
    assert_eq!(
        refused(json!({"metadata": {"name": "b"}})).2,
        "TokenRequest.authentication.k8s.io \"\" is invalid: metadata.name: Invalid value: \"b\": must match the service account name if specified"
    );
    let secret = api.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}})).ok();
    let mut request = bound("Secret", "v1");
    request["spec"]["boundObjectRef"]["name"] = "s".into();
    request["spec"]["boundObjectRef"]["uid"] = "other".into();
    assert!(refused(request.clone()).2.starts_with("Operation cannot be fulfilled on Secret \"s\": the UID in the bound object reference (other)"));
    request["spec"]["boundObjectRef"]["uid"] = secret["metadata"]["uid"].clone();
    let token = api.post(path, &request).ok()["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(whoami(&api.bearer(&token))["username"], "system:serviceaccount:default:a");
    api.delete("/api/v1/namespaces/default/secrets/s").ok();
    assert_eq!(api.bearer(&token).get("/api").code, 401);
}
