//! Audit events: what is known of one request, told at each of its stages as upstream's `audit.k8s.io/v1` Event.
use super::policy::{Level, Wanted};
use super::{Audit, Receipt, metrics};
use api_auth::{Attributes, User};
use api_meta::Status;
use bytes::Bytes;
use clock::{Clock, rfc3339_micros};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// A request that is recorded.
pub struct Draft {
    audit: Arc<Audit>,
    clock: Arc<dyn Clock>,
    wanted: Wanted,
    event: Event,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    level: Level,
    #[serde(rename = "auditID")]
    audit_id: String,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: String,
    verb: String,
    user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<UserInfo>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Value>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<Cow<'static, str>, String>,
}

#[derive(Clone, Default, Serialize)]
struct UserInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl From<&User> for UserInfo {
    fn from(user: &User) -> Self {
        let User { username, uid, groups, extra } = user.clone();
        Self { username, uid, groups, extra }
    }
}

#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

/// What the connection and its headers tell of a request.
pub struct Arrival<'a> {
    pub audit_id: &'a str,
    pub uri: &'a str,
    pub source_ips: Vec<String>,
    pub user_agent: &'a str,
    pub received: Timestamp,
}

impl Draft {
    /// `None`: the policy does not want this request. `attributes.user` is the one who sent it, whoever they act as.
    pub fn begin(audit: &Arc<Audit>, clock: &Arc<dyn Clock>, attributes: &Attributes, user_known: bool, arrival: Arrival) -> Option<Self> {
        let wanted = audit.policy.wanted(attributes, user_known)?;
        let object_ref = attributes.is_resource().then(|| ObjectReference {
            resource: attributes.resource.into(),
            namespace: attributes.namespace.into(),
            name: attributes.name.into(),
            api_group: attributes.group.into(),
            api_version: attributes.version.into(),
            subresource: attributes.subresource.into(),
            ..ObjectReference::default()
        });
        let event = Event {
            level: wanted.level,
            audit_id: arrival.audit_id.into(),
            stage: Stage::RequestReceived,
            request_uri: arrival.uri.into(),
            verb: attributes.verb.into(),
            user: if user_known { attributes.user.into() } else { UserInfo::default() },
            impersonated_user: None,
            source_ips: arrival.source_ips,
            user_agent: arrival.user_agent.chars().take(1024).collect(),
            object_ref,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: rfc3339_micros(arrival.received),
            stage_timestamp: String::new(),
            annotations: BTreeMap::new(),
        };
        metrics::at(wanted.level);
        Some(Self { audit: audit.clone(), clock: clock.clone(), wanted, event })
    }

    pub fn level(&self) -> Level {
        self.wanted.level
    }

    /// Writes the event as it is now, unless the policy leaves this stage out. Gives what the request has to wait for, if anything.
    pub fn tell(&mut self, stage: Stage) -> Option<Receipt> {
        if self.wanted.omit_stages.contains(&stage) {
            return None;
        }
        self.event.stage = stage;
        let now = self.clock.now();
        self.event.stage_timestamp = rfc3339_micros(now);
        self.audit.take(serde_json::to_vec(&self.event).expect("an event encodes"))
    }

    pub fn impersonated(&mut self, user: &User) {
        self.event.impersonated_user = Some(user.into());
    }

    pub fn annotate(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.event.annotations.insert(key.into(), value.into());
    }

    /// The request's body as JSON. Only what the level wants is kept.
    pub fn request_body(&mut self, json: &Bytes, is_object: bool) {
        let wants_object = self.wanted.level >= Level::Request;
        // What a written object is called, and which state of it is meant, is told at every level.
        if json.is_empty() || !(wants_object || is_object) {
            return;
        }
        let Ok(mut object) = serde_json::from_slice::<Value>(json) else { return };
        if let Some(reference) = self.event.object_ref.as_mut().filter(|_| is_object) {
            let metadata = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            for (part, field) in [
                (&mut reference.namespace, "namespace"),
                (&mut reference.name, "name"),
                (&mut reference.uid, "uid"),
                (&mut reference.resource_version, "resourceVersion"),
            ] {
                if part.is_empty() {
                    metadata(field).clone_into(part);
                }
            }
        }
        if wants_object {
            if self.wanted.omit_managed_fields {
                drop_managed_fields(&mut object);
            }
            self.event.request_object = Some(object);
        }
    }

    /// Whether the answer's body has something to tell: what went wrong, or the object at the level that wants it.
    pub fn wants_answer(&self, code: u16, verb: &str) -> bool {
        code >= 400 || self.wanted.level == Level::RequestResponse || verb.starts_with("delete")
    }

    pub fn response(&mut self, code: u16, body: Option<&[u8]>) {
        let parsed = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
        let mut status = json!({ "metadata": {} });
        if let Some(object) = &parsed
            && object["kind"] == "Status"
        {
            for field in ["status", "message", "reason", "details"] {
                if !object[field].is_null() {
                    status[field] = object[field].clone();
                }
            }
        }
        status["code"] = code.into();
        self.event.response_status = Some(status);
        if self.wanted.level == Level::RequestResponse
            && let Some(mut object) = parsed
        {
            if self.wanted.omit_managed_fields {
                drop_managed_fields(&mut object);
            }
            self.event.response_object = Some(object);
        }
    }

    /// What became of a request whose body tells nothing.
    pub fn response_message(&mut self, code: u16, message: &str) {
        self.event.response_status = Some(json!({ "metadata": {}, "message": message, "code": code }));
    }

    pub fn panicked(&mut self) {
        let status = Status::internal("this request caused the server to panic");
        self.event.response_status = Some(json!({
            "metadata": {}, "status": "Failure", "message": "APIServer panic'd", "reason": status.reason, "code": status.code,
        }));
    }
}

fn drop_managed_fields(object: &mut Value) {
    let drop_one = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    drop_one(object);
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(drop_one);
    }
}
