//! The audit log: which requests are in it, with how much of them, at which stages.
use crate::support::{CONFIG_MAPS, SOON, config_map};
use serde_json::{Value, json};
use std::path::PathBuf;
use testkit::{Api, Ask, Server, ServerOptions, wait_until};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  omitManagedFields: true
  resources: [{group: "", resources: [configmaps]}]
  verbs: [create, patch, delete]
- level: Metadata
  omitStages: [ResponseStarted]
  resources: [{group: "", resources: [secrets]}]
- level: Metadata
  verbs: [watch]
  resources: [{group: "", resources: [configmaps]}]
- level: Metadata
  nonResourceURLs: ["/version"]
- level: None
"#;

fn audited() -> (Server, Api, PathBuf) {
    let directory = tempfile::tempdir().unwrap().keep();
    let (policy, log) = (directory.join("policy.yaml"), directory.join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let argument = |name: &str, value: &PathBuf| ["--kube-apiserver-arg".to_owned(), format!("{name}={}", value.display())];
    let mut arguments: Vec<String> = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam"].map(Into::into).into();
    arguments.extend(argument("audit-policy-file", &policy));
    arguments.extend(argument("audit-log-path", &log));
    let server = Server::start(ServerOptions { arguments, ..ServerOptions::default() });
    let api = server.api();
    (server, api, directory)
}

struct Log(PathBuf);

impl Log {
    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
    /// The events of one request, once there are this many.
    fn of(&self, id: &str, count: usize) -> Vec<Value> {
        let of = || self.events().into_iter().filter(|event| event["auditID"] == id).collect::<Vec<_>>();
        wait_until("the events are there", SOON, || of().len() >= count);
        of()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn requests_are_recorded_as_the_policy_says() {
    let (_server, api, directory) = audited();
    let log = Log(directory);
    let as_eve = api.acting_as("eve", &["system:masters"]);
    let ask = Ask::new("POST", CONFIG_MAPS).json(&config_map("a", &json!({"k": "v"}))).header("user-agent", "test/1").header("audit-id", "my-own");
    let reply = as_eve.send(&ask);
    assert_eq!(reply.header("audit-id"), Some("my-own"));
    let mut events = log.of("my-own", 1);
    assert_eq!(events.len(), 1);
    let event = events[0].take();
    assert!(event["requestReceivedTimestamp"].as_str().unwrap() <= event["stageTimestamp"].as_str().unwrap(), "{event}");
    let answer = reply.ok();
    let mut answered = answer.clone();
    answered["metadata"].as_object_mut().unwrap().remove("managedFields");
    let mut want = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "my-own", "stage": "ResponseComplete",
        "requestURI": CONFIG_MAPS, "verb": "create",
        "user": event["user"], "impersonatedUser": {"username": "eve", "groups": ["system:masters", "system:authenticated"]},
        "sourceIPs": ["127.0.0.1"], "userAgent": "test/1",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "requestObject": config_map("a", &json!({"k": "v"})), "responseObject": answered,
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    });
    want["requestReceivedTimestamp"] = event["requestReceivedTimestamp"].clone();
    want["stageTimestamp"] = event["stageTimestamp"].clone();
    assert_eq!(event, want);
    assert_eq!((&event["user"]["username"], &event["user"]["groups"]), (&json!("system:admin"), &json!(["system:masters", "system:authenticated"])));
    let key = event["user"]["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap();
    assert!(key.starts_with("X509SHA256="), "{key}");

    // What is asked of secrets is recorded, but nothing they hold.
    let secret = api.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}, "stringData": {"p": "hidden"}}));
    let events = log.of(secret.header("audit-id").unwrap(), 1);
    assert_eq!((&events[0]["level"], &events[0]["objectRef"]["name"]), (&json!("Metadata"), &json!("s")));
    assert!(events[0].get("requestObject").is_none() && events[0].get("responseObject").is_none());
    // A refusal says why.
    let refused = api.acting_as("mallory", &[]).get("/api/v1/namespaces/default/secrets/s");
    let events = log.of(refused.header("audit-id").unwrap(), 1);
    let status = &events[0]["responseStatus"];
    assert_eq!((&status["code"], &status["reason"], &status["status"]), (&json!(403), &json!("Forbidden"), &json!("Failure")));
    assert_eq!(status["message"], refused.refusal().2.as_str());
    assert_eq!(events[0]["annotations"]["authorization.k8s.io/decision"], "forbid");
    // Nobody in particular.
    let unknown = api.bearer("nonsense").get("/api/v1/namespaces/default/secrets/s");
    assert_eq!(unknown.code, 401);
    let patched = api.patch("merge", &format!("{CONFIG_MAPS}/a"), &json!({"data": {"k": "w"}}));
    let events = log.of(patched.header("audit-id").unwrap(), 1);
    assert_eq!((&events[0]["requestObject"], &events[0]["responseObject"]["data"]["k"]), (&json!({"data": {"k": "w"}}), &json!("w")));
    let gone = api.delete(&format!("{CONFIG_MAPS}/a"));
    let events = log.of(gone.header("audit-id").unwrap(), 1);
    assert_eq!((&events[0]["responseStatus"]["status"], &events[0]["responseStatus"]["code"]), (&json!("Success"), &json!(200)));
    let version = api.get("/version?timeout=1s");
    assert_eq!(log.of(version.header("audit-id").unwrap(), 1)[0]["requestURI"], "/version?timeout=1s");
    assert!(api.get("/readyz").header("audit-id").is_some_and(|id| id.len() == 36));
    assert!(log.events().iter().all(|event| event["requestURI"] != "/readyz"));
    assert!(!std::fs::read_to_string(log.0.join("audit.log")).unwrap().contains("hidden"));
}

#[test]
fn a_watch_is_recorded_when_it_starts_and_when_it_ends() {
    let (_server, api, directory) = audited();
    let log = Log(directory);
    let watch = api.watch(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=2"));
    let id = watch.headers.iter().find(|(name, _)| name == "audit-id").unwrap().1.clone();
    assert_eq!(log.of(&id, 1)[0]["stage"], "ResponseStarted");
    assert_eq!(watch.count(), 0);
    let events = log.of(&id, 2);
    assert_eq!((&events[1]["stage"], &events[1]["responseStatus"]["code"], &events[1]["verb"]), (&json!("ResponseComplete"), &json!(200), &json!("watch")));
}

#[test]
fn a_policy_that_makes_no_sense_stops_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []\n").unwrap();
    let argument = format!("audit-policy-file={}", policy.display());
    let text = crate::process::refused(&[
        "--data-dir".into(),
        directory.path().join("data").display().to_string(),
        "--write-kubeconfig".into(),
        directory.path().join("k").display().to_string(),
        "--kube-apiserver-arg".into(),
        argument,
    ]);
    assert!(text.contains("loaded illegal policy with 0 rules"), "{text}");
}
