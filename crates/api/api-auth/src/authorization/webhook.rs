//! WebhookAuthorizer: asks somebody else whether a request may be carried out (`SubjectAccessReview`).
use super::configuration::WebhookSettings;
use crate::metrics;
use crate::remembered::{Remembered, fingerprint};
use crate::{Attributes, Decision, ReviewError, Reviewer};
use clock::Clock;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// What a client may write into a request's attributes before its answer is not worth remembering.
const LARGEST_REMEMBERED: usize = 10_000;

pub(crate) struct WebhookAuthorizer {
    name: String,
    settings: WebhookSettings,
    reviewer: Box<dyn Reviewer>,
    remembered: Remembered<Answer>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone)]
struct Answer {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl WebhookAuthorizer {
    pub fn new(name: String, settings: WebhookSettings, reviewer: Box<dyn Reviewer>, clock: Arc<dyn Clock>) -> Self {
        Self { name, settings, reviewer, remembered: Remembered::default(), clock }
    }

    /// Its decision, and what went wrong on the way to it.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> (Decision, Option<String>) {
        let failed = |why: String| {
            let decision = if self.settings.fails_closed { Decision::Deny(String::new()) } else { Decision::NoOpinion(String::new()) };
            (decision, Some(why))
        };
        if !self.settings.conditions.is_empty() {
            let started = self.clock.instant();
            let held = self.settings.conditions.hold(&shown(attributes));
            let took = self.clock.instant().duration_since(started);
            metrics::conditions_evaluated(&self.name, held.as_ref().ok().copied(), took);
            match held {
                Ok(true) => {}
                Ok(false) => return (Decision::NoOpinion(String::new()), None),
                Err(why) => return failed(why),
            }
        }
        let spec = spec(attributes);
        let (asked, now) = (fingerprint(spec.to_string().as_bytes()), self.clock.instant());
        if let Some(answer) = self.remembered.get(&asked, now) {
            return answer.decision();
        }
        let version = &self.settings.version;
        let review = json!({ "kind": "SubjectAccessReview", "apiVersion": format!("authorization.k8s.io/{version}"), "metadata": {}, "spec": spec });
        let outcome = self.reviewer.review(review).await;
        let end = self.clock.instant();
        let result = match &outcome {
            Ok(_) => "success",
            Err(ReviewError::Timeout(_)) => "timeout",
            Err(ReviewError::Other(_)) => "error",
        };
        metrics::webhook_asked(&self.name, result, end.duration_since(now), !self.settings.fails_closed);
        let review = match outcome {
            Ok(review) => review,
            Err(error) => {
                tracing::error!(authorizer = self.name, %error, "failed to make webhook authorizer request");
                return failed(error.to_string());
            }
        };
        let status = &review["status"];
        let answer =
            Answer { allowed: status["allowed"] == true, denied: status["denied"] == true, reason: status["reason"].as_str().unwrap_or_default().to_owned() };
        if size(attributes) < LARGEST_REMEMBERED {
            let ttl = if answer.allowed { self.settings.authorized_ttl } else { self.settings.unauthorized_ttl };
            self.remembered.keep(asked, answer.clone(), end, end + ttl);
        }
        answer.decision()
    }
}

impl Answer {
    fn decision(self) -> (Decision, Option<String>) {
        match (self.denied, self.allowed) {
            (true, true) => (Decision::Deny(self.reason), Some("webhook subject access review returned both allow and deny response".into())),
            (true, false) => (Decision::Deny(self.reason), None),
            (false, true) => (Decision::Allow(self.reason), None),
            (false, false) => (Decision::NoOpinion(self.reason), None),
        }
    }
}

fn size(attributes: &Attributes) -> usize {
    let Attributes { verb, group, version, resource, subresource, namespace, name, path, .. } = attributes;
    [verb, group, version, resource, subresource, namespace, name, path].into_iter().map(|text| text.len()).sum()
}

/// The spec of the review that asks about a request.
fn spec(attributes: &Attributes) -> Value {
    let mut spec = fields(&[("user", &attributes.user.username), ("uid", &attributes.user.uid)]);
    if !attributes.user.groups.is_empty() {
        spec.insert("groups".into(), json!(attributes.user.groups));
    }
    if !attributes.user.extra.is_empty() {
        spec.insert("extra".into(), json!(attributes.user.extra));
    }
    let Attributes { verb, group, version, resource, subresource, namespace, name, path, .. } = *attributes;
    if attributes.is_resource() {
        let all = [
            ("namespace", namespace),
            ("verb", verb),
            ("group", group),
            ("version", version),
            ("resource", resource),
            ("subresource", subresource),
            ("name", name),
        ];
        spec.insert("resourceAttributes".into(), fields(&all).into());
    } else {
        spec.insert("nonResourceAttributes".into(), fields(&[("path", path), ("verb", verb)]).into());
    }
    Value::Object(spec)
}

/// Without those that are empty.
fn fields(all: &[(&str, &str)]) -> Map<String, Value> {
    all.iter().filter(|(_, text)| !text.is_empty()).map(|(field, text)| ((*field).to_owned(), (*text).into())).collect()
}

/// The same as conditions see it, where what is empty is there too.
fn shown(attributes: &Attributes) -> Value {
    let Attributes { user, verb, group, version, resource, subresource, namespace, name, path, .. } = *attributes;
    let mut shown = json!({ "user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra });
    if attributes.is_resource() {
        shown["resourceAttributes"] = json!({
            "namespace": namespace, "verb": verb, "group": group, "version": version, "resource": resource, "subresource": subresource, "name": name,
        });
    } else {
        shown["nonResourceAttributes"] = json!({ "path": path, "verb": verb });
    }
    shown
}
