//! The audit webhook: events reach a receiver that was down, requests wait where they have to, and what is lost is counted.
use crate::hook::Hook;
use crate::support::{CONFIG_MAPS, SOON, config_map};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use testkit::{Api, Ask, Server, ServerOptions, wait_until};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: Metadata
  resources: [{group: "", resources: [configmaps]}]
  namespaces: [default]
- level: None
"#;

/// A server that posts its events to this address, with these arguments besides.
fn posting(directory: &Path, url: &str, authority: &str, more: &[&str]) -> (Server, Api) {
    let (policy, kubeconfig, ca) = (directory.join("policy.yaml"), directory.join("audit.yaml"), directory.join("ca.pem"));
    std::fs::write(&policy, POLICY).unwrap();
    std::fs::write(&ca, authority).unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": ca}}],
        "users": [{"name": "u", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let mut arguments: Vec<String> = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam"].map(Into::into).into();
    let files = [format!("audit-policy-file={}", policy.display()), format!("audit-webhook-config-file={}", kubeconfig.display())];
    for argument in files.into_iter().chain(more.iter().map(|argument| (*argument).to_owned())) {
        arguments.extend(["--kube-apiserver-arg".to_owned(), argument]);
    }
    let server = Server::start(ServerOptions { arguments, ..ServerOptions::default() });
    let api = server.api();
    (server, api)
}

/// All events in the lists a receiver has taken.
fn events(lists: &[(String, Value)]) -> Vec<Value> {
    for (path, list) in lists {
        assert_eq!((path.as_str(), &list["kind"], &list["apiVersion"]), ("events", &json!("EventList"), &json!("audit.k8s.io/v1")));
    }
    lists.iter().flat_map(|(_, list)| list["items"].as_array().unwrap().clone()).collect()
}

fn counter(api: &Api, name: &str) -> u64 {
    let text = String::from_utf8(api.get("/metrics").body).unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn events_are_posted_in_lists_once_the_receiver_is_up() {
    let directory = tempfile::tempdir().unwrap();
    let (up, refused, lists) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (is_up, counted, kept) = (up.clone(), refused.clone(), lists.clone());
    let hook = Hook::start(move |path, list| {
        if is_up.load(Ordering::SeqCst) {
            kept.lock().unwrap().push((path.to_owned(), list.clone()));
            return (200, Vec::new());
        }
        counted.fetch_add(1, Ordering::SeqCst);
        (503, b"not yet".to_vec())
    });
    let more = ["audit-webhook-batch-max-wait=200ms", "audit-webhook-initial-backoff=100ms", "audit-webhook-batch-max-size=3"];
    let (mut server, api) = posting(directory.path(), &hook.url("events"), &hook.ca_pem, &more);
    let ask = Ask::new("POST", CONFIG_MAPS).json(&config_map("a", &json!({"k": "v"}))).header("audit-id", "first");
    api.send(&ask).ok();
    wait_until("the receiver is asked and refuses", SOON, || refused.load(Ordering::SeqCst) > 0);
    up.store(true, Ordering::SeqCst);
    let taken = || lists.lock().unwrap().clone();
    wait_until("both stages are there", SOON, || events(&taken()).iter().filter(|event| event["auditID"] == "first").count() == 2);
    let mut stages: Vec<String> = events(&taken()).iter().map(|event| event["stage"].as_str().unwrap().to_owned()).collect();
    stages.sort();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"]);
    let event = events(&taken()).remove(0);
    assert_eq!((&event["level"], &event["verb"], &event["objectRef"]["resource"]), (&json!("Metadata"), &json!("create"), &json!("configmaps")));
    assert!(event.get("kind").is_none(), "events of a list are told by the list what they are");
    for n in 0..5 {
        api.get(&format!("{CONFIG_MAPS}/none-{n}"));
    }
    wait_until("all are there", SOON, || events(&taken()).len() == 12);
    assert!(taken().iter().all(|(_, list)| list["items"].as_array().unwrap().len() <= 3));
    assert_eq!(counter(&api, "apiserver_audit_event_total"), 12);
    assert_eq!(counter(&api, "apiserver_audit_level_total{level=\"Metadata\"}"), 6);
    // What waits when the server is stopped is posted first.
    let before = events(&taken()).len();
    api.get(&format!("{CONFIG_MAPS}/last"));
    server.end(Signal::SIGTERM);
    assert_eq!(events(&taken()).len(), before + 2);
}

#[test]
fn a_request_whose_arrival_must_be_told_and_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let up = Arc::new(AtomicBool::new(true));
    let is_up = up.clone();
    let hook = Hook::start(move |_, _| (if is_up.load(Ordering::SeqCst) { 200 } else { 500 }, Vec::new()));
    let more = ["audit-webhook-mode=blocking-strict", "audit-webhook-initial-backoff=1ms"];
    let (_server, api) = posting(directory.path(), &hook.url("events"), &hook.ca_pem, &more);
    api.post(CONFIG_MAPS, &config_map("a", &json!({}))).ok();
    // The answer came when both of its events were there.
    assert_eq!(events(&hook.asked()).len(), 2);
    up.store(false, Ordering::SeqCst);
    let (code, _, message) = api.post(CONFIG_MAPS, &config_map("b", &json!({}))).refusal();
    assert_eq!(code, 500);
    assert!(message.contains("failed to store audit event"), "{message}");
    assert_eq!(counter(&api, "apiserver_audit_requests_rejected_total"), 1);
    assert_eq!(counter(&api, "apiserver_audit_error_total{plugin=\"webhook\"}"), 1);
    up.store(true, Ordering::SeqCst);
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/b")).code, 404, "what could not be told was not done");
}
