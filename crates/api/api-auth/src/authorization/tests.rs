//! What an AuthorizationConfiguration may say, and whose word counts.
use super::*;
use crate::{ReviewError, Reviewer};
use api_meta::ClusterName;
use clock::ManualClock;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

fn file(authorizers: &Value) -> String {
    json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": authorizers }).to_string()
}

/// A webhook's settings, with these laid over good ones.
fn webhook(name: &str, changes: &Value) -> Value {
    let mut settings = json!({
        "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion", "unauthorizedTTL": "30s", "authorizedTTL": "5m",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/proc/self/status"},
    });
    for (field, value) in changes.as_object().unwrap() {
        settings[field] = value.clone();
    }
    json!({"type": "Webhook", "name": name, "webhook": settings})
}

#[test]
fn a_configuration_is_refused_in_upstreams_words() {
    let check = |authorizers: Value, want: &str| {
        assert_eq!(configuration::configured(&file(&authorizers), &BTreeSet::from(["RBAC"])).unwrap_err(), want, "{authorizers}")
    };
    check(json!([]), "authorizers: Required value: at least one authorization mode must be defined");
    check(
        json!([{"type": "", "name": "a"}, {"type": "ABAC", "name": "abac"}, {"type": "Node"}, {"type": "RBAC", "name": "A"}, {"type": "RBAC", "name": "b"}]),
        "[authorizers[0].type: Required value, authorizers[1].type: Unsupported value: \"ABAC\": supported values: \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\", authorizers[2].name: Required value, authorizers[3].name: Invalid value: \"A\": authorizer name is invalid: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), authorizers[4].type: Duplicate value: \"RBAC\"]",
    );
    check(json!([{"type": "Node", "name": "n"}]), "[expected name node for authorizer Node instead of n, missing required types: [RBAC]]");
    check(
        json!([{"type": "Webhook", "name": "w"}, {"type": "RBAC", "name": "rbac", "webhook": {}}]),
        "[authorizers[0].webhook: Required value: required when type=Webhook, authorizers[1].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook]",
    );
    check(
        json!([webhook(
            "w",
            &json!({"timeout": "31s", "authorizedTTL": "0s", "subjectAccessReviewVersion": "v2", "failurePolicy": "", "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "a"}})
        )]),
        "[authorizers[0].timeout: Invalid value: \"31s\": must be > 0s and <= 30s, authorizers[0].authorizedTTL: Required value, authorizers[0].subjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\", \"v1beta1\", authorizers[0].failurePolicy: Required value, authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"a\": must be an absolute path]",
    );
    check(
        json!([webhook("w", &json!({"matchConditions": [{"expression": ""}, {"expression": "request.user"}]}))]),
        "[authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified, authorizers[0].matchConditions[0].expression: Required value, authorizers[0].matchConditions[1].expression: Invalid value: \"request.user\": must evaluate to bool but got string]",
    );
}

/// Answers by the user's name, and keeps what it was asked.
#[derive(Clone, Default)]
struct Knows(Arc<Mutex<Vec<Value>>>);

#[async_trait::async_trait]
impl Reviewer for Knows {
    async fn review(&self, mut review: Value) -> Result<Value, ReviewError> {
        self.0.lock().push(review.clone());
        review["status"] = match review["spec"]["user"].as_str().unwrap() {
            "good" => json!({"allowed": true, "reason": "known"}),
            "bad" => json!({"allowed": false, "denied": true, "reason": "unwanted"}),
            "both" => json!({"allowed": true, "denied": true}),
            "down" => return Err(ReviewError::Other("nobody there".into())),
            _ => json!({"allowed": false}),
        };
        Ok(review)
    }
}

#[async_trait::async_trait]
impl Reviewers for Knows {
    async fn of_kubeconfig(&self, _: &Path, _: Duration) -> Result<Box<dyn Reviewer>, String> {
        Ok(Box::new(self.clone()))
    }
}

async fn authorizer(authorizers: &Value, knows: &Knows, clock: &ManualClock) -> Authorizer {
    let authorizer = Authorizer::new(Arc::new(RbacIndex::default()));
    authorizer.with_configuration(&file(authorizers), Box::new(knows.clone()), Arc::new(clock.clone())).await.unwrap()
}

async fn ask(authorizer: &Authorizer, cluster: &str, name: &str, verb: &str) -> (Decision, Option<String>) {
    let cluster = if cluster.is_empty() { ClusterName::root() } else { ClusterName::parse(cluster).unwrap() };
    let user = User { username: name.into(), uid: "7".into(), groups: vec!["g".into()], ..User::default() };
    let attributes =
        Attributes { cluster: &cluster, user: &user, verb, group: "", version: "v1", resource: "pods", subresource: "", namespace: "n", name: "", path: "" };
    authorizer.decide(&attributes).await
}

#[tokio::test]
async fn a_webhook_has_its_say_in_its_place_and_its_answers_are_remembered() {
    let (knows, clock) = (Knows::default(), ManualClock::at("2026-01-02T03:04:05Z".parse().unwrap()));
    let asked = || knows.0.lock().len();
    let conditions =
        json!({"matchConditionSubjectAccessReviewVersion": "v1", "matchConditions": [{"expression": "request.resourceAttributes.verb != 'watch'"}]});
    let authorizer = authorizer(&json!([webhook("w", &conditions), {"type": "RBAC", "name": "rbac"}]), &knows, &clock).await;
    let no = |reason: &str| (Decision::NoOpinion(reason.into()), None);
    assert_eq!(ask(&authorizer, "", "good", "get").await, (Decision::Allow("known".into()), None));
    let spec =
        json!({"user": "good", "uid": "7", "groups": ["g"], "resourceAttributes": {"namespace": "n", "verb": "get", "version": "v1", "resource": "pods"}});
    assert_eq!(knows.0.lock()[0], json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}, "spec": spec}));
    assert_eq!(ask(&authorizer, "", "bad", "get").await, (Decision::Deny("unwanted".into()), None));
    assert_eq!(ask(&authorizer, "", "x", "get").await, no(""));
    assert_eq!(asked(), 3);
    for name in ["good", "bad", "x"] {
        ask(&authorizer, "", name, "get").await;
    }
    assert_eq!(asked(), 3, "answers are remembered");
    clock.advance(Duration::from_secs(31));
    for name in ["good", "bad", "x"] {
        ask(&authorizer, "", name, "get").await;
    }
    assert_eq!(asked(), 5, "refusals for half a minute, the rest for five");
    assert_eq!(ask(&authorizer, "", "good", "watch").await, no(""), "conditions leave it out");
    assert_eq!(ask(&authorizer, "tenant", "good", "get").await, no(""), "other clusters keep their own rules");
    assert_eq!(asked(), 5);
    let both = "webhook subject access review returned both allow and deny response";
    assert_eq!(ask(&authorizer, "", "both", "get").await, (Decision::Deny(String::new()), Some(both.into())));
    assert_eq!(ask(&authorizer, "", "down", "get").await, (Decision::NoOpinion(String::new()), Some("nobody there".into())));
    let closed = file(&json!([webhook("w", &json!({"failurePolicy": "Deny", "subjectAccessReviewVersion": "v1beta1"})), {"type": "RBAC", "name": "rbac"}]));
    authorizer.replace(&closed).await.unwrap();
    assert_eq!(ask(&authorizer, "", "down", "get").await, (Decision::Deny(String::new()), Some("nobody there".into())));
    assert_eq!(knows.0.lock().last().unwrap()["apiVersion"], "authorization.k8s.io/v1beta1");
    let refused = authorizer.replace(&file(&json!([{"type": "RBAC", "name": "rbac"}, {"type": "AlwaysAllow", "name": "alwaysallow"}]))).await;
    assert_eq!(refused.unwrap_err(), "authorizer type AlwaysAllow is not allowed if it was not enabled at initial server startup");
    assert_eq!(authorizer.replace(&file(&json!([webhook("w", &json!({}))]))).await.unwrap_err(), "missing required types: [RBAC]");
    assert_eq!(authorizer.unresolvable(&ClusterName::root(), &User::default()), ["webhook authorizer does not support user rule resolution"]);
    let first = authorizer_of_everything(&knows, &clock).await;
    assert_eq!(ask(&first, "", "anybody", "get").await, (Decision::Allow(String::new()), None));
}

async fn authorizer_of_everything(knows: &Knows, clock: &ManualClock) -> Authorizer {
    authorizer(&json!([{"type": "AlwaysAllow", "name": "alwaysallow"}]), knows, clock).await
}
