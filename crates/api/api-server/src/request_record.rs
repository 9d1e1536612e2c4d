//! RequestRecord: what becomes known of a request on its way, for the audit log and the metrics.
use crate::ApiServer;
use crate::audit::{Arrival, Draft, Receipt, Stage};
use crate::body::{Answer, Body};
use crate::fairness::Place;
use crate::kinds::Kind;
use crate::metrics::{Counted, RequestLabels};
use crate::negotiate;
use crate::route::{ResourceRoute, Route, Target};
use crate::server::Sender;
use crate::special;
use crate::tenants::TenantPermit;
use api_auth::{Attributes, Decision, User};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header, request::Parts};
use http_body_util::BodyExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

const AUDIT_ID: &str = "audit-id";

pub struct RequestRecord {
    pub audit_id: HeaderValue,
    received: Timestamp,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    warnings: Vec<String>,
    labels: Option<RequestLabels>,
    verb: &'static str,
    /// Watches, streams and what is proxied.
    long_running: bool,
    draft: Option<Box<Draft>>,
    place: Option<Place>,
    tenant_permit: Option<TenantPermit>,
}

impl RequestRecord {
    pub fn new(server: &ApiServer, headers: &HeaderMap) -> Self {
        // What the client calls its request is taken as it is.
        let sent = headers.get(AUDIT_ID).filter(|id| !id.is_empty() && id.to_str().is_ok()).cloned();
        let audit_id = sent.unwrap_or_else(|| HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).expect("a uuid is text"));
        Self { audit_id, received: server.clock.now(), began: server.clock.instant(), state: Mutex::default() }
    }

    /// What is asked for, and how it is counted.
    pub fn routed(&self, route: &Route, parts: &Parts, kind: Option<&Kind>, counted: Counted) {
        let mut state = self.state.lock();
        if let Target::Resource(resource) = &route.target {
            state.verb = resource.verb;
            state.long_running = is_long_running(resource);
        }
        state.labels = RequestLabels::of(route, parts, kind, counted);
    }

    pub fn is_watch(&self) -> bool {
        self.state.lock().verb == "watch"
    }
    pub fn is_long_running(&self) -> bool {
        self.state.lock().long_running
    }

    pub fn hold(&self, place: Place) {
        self.state.lock().place = Some(place);
    }

    pub fn hold_of_tenant(&self, permit: TenantPermit) {
        self.state.lock().tenant_permit = Some(permit);
    }

    pub fn warn(&self, warnings: Vec<String>) {
        self.state.lock().warnings.extend(warnings);
    }

    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().warnings)
    }

    /// Begins the audit of a request, once it is known who sent it; `None` for who could not say. Gives what the request has to
    /// wait for, if anything.
    pub fn begin_audit(&self, server: &ApiServer, route: &Route, user: Option<&User>, parts: &Parts) -> Option<Receipt> {
        let audit = server.options.audit.as_ref()?;
        let unknown = User::default();
        let method = parts.method.as_str().to_ascii_lowercase();
        let of_path = path_attributes(route, user.unwrap_or(&unknown), &method);
        let attributes = match &route.target {
            Target::Resource(resource) => resource.attributes(&route.cluster, user.unwrap_or(&unknown), special::verb(resource)),
            Target::Path => of_path,
        };
        let arrival = Arrival {
            audit_id: self.audit_id.to_str().unwrap_or_default(),
            uri: parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str),
            source_ips: source_ips(parts),
            user_agent: parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default(),
            received: self.received,
        };
        let mut draft = Draft::begin(audit, &server.clock, &attributes, user.is_some(), arrival)?;
        if user.is_none() {
            let tried = parts.headers.contains_key(header::AUTHORIZATION);
            let message = if tried { "Authentication failed, attempted: bearer" } else { "Authentication failed, no credentials provided" };
            draft.response_message(401, message);
            return draft.tell(Stage::ResponseStarted);
        }
        let receipt = draft.tell(Stage::RequestReceived);
        self.state.lock().draft = Some(Box::new(draft));
        receipt
    }

    /// Forgets the audit of a request that was refused as its arrival could not be told.
    pub fn abandon_audit(&self) {
        self.state.lock().draft = None;
    }

    fn with_draft(&self, note: impl FnOnce(&mut Draft)) {
        if let Some(draft) = &mut self.state.lock().draft {
            note(draft);
        }
    }

    pub fn impersonated(&self, user: &User) {
        self.with_draft(|draft| draft.impersonated(user));
    }

    pub fn decided(&self, decision: &Decision) {
        self.with_draft(|draft| {
            draft.annotate("authorization.k8s.io/decision", if decision.is_allowed() { "allow" } else { "forbid" });
            draft.annotate("authorization.k8s.io/reason", decision.reason());
        });
    }

    pub fn annotate(&self, key: impl Into<Cow<'static, str>>, value: impl Into<String>) {
        self.with_draft(|draft| draft.annotate(key, value));
    }

    /// The request's body, as it was sent.
    pub fn request_body(&self, headers: &HeaderMap, verb: &str, body: &Bytes) {
        self.with_draft(|draft| {
            if verb == "patch" {
                draft.request_body(body, false);
            } else if let Ok(json) = negotiate::body_as_json(headers, body) {
                draft.request_body(&json, matches!(verb, "create" | "update"));
            }
        });
    }

    pub fn panicked(&self) {
        self.with_draft(|draft| {
            draft.panicked();
            // A request that panicked waits for nothing.
            draft.tell(Stage::Panic);
        });
    }

    /// Ends the record with the answer: at once, or when the answer's body ends.
    pub async fn finish(self, server: &Arc<ApiServer>, mut answer: Answer) -> Answer {
        answer.headers_mut().entry(AUDIT_ID).or_insert(self.audit_id);
        let State { labels, verb, long_running, draft, place, tenant_permit, .. } = self.state.into_inner();
        if let Some(place) = &place {
            place.tell(answer.headers_mut());
        }
        let code = answer.status().as_u16();
        let streams = !long_running_ended(long_running, &answer) || http_body::Body::size_hint(answer.body()).exact().is_none();
        let mut draft = draft;
        if let Some(draft) = &mut draft {
            if streams && long_running {
                draft.response(code, None);
                waited_for(draft.tell(Stage::ResponseStarted)).await;
            } else if draft.wants_answer(code, verb) {
                // What is recorded is all in memory anyway, whole for a moment here.
                let (parts, body) = answer.into_parts();
                let whole = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                draft.response(code, Some(&whole));
                answer = Answer::from_parts(parts, crate::body::full(whole));
            } else {
                draft.response(code, None);
            }
        }
        let gauge = labels.as_ref().filter(|_| long_running && streams).map(|labels| server.metrics.long_running(labels));
        if let Some(labels) = labels {
            server.metrics.answered(labels, code, server.clock.instant() - self.began);
        }
        if !streams || (draft.is_none() && place.is_none() && tenant_permit.is_none() && gauge.is_none()) {
            if let Some(mut draft) = draft {
                waited_for(draft.tell(Stage::ResponseComplete)).await;
            }
            return answer;
        }
        let end = End { draft, _place: place, _tenant_permit: tenant_permit, _gauge: gauge };
        answer.map(|body| Ending { body, _end: end }.boxed_unsync())
    }
}

/// Waits for an event to have been sent, or given up.
pub async fn waited_for(receipt: Option<Receipt>) {
    if let Some(receipt) = receipt {
        // What could not be sent is counted by who tried.
        let _ = receipt.await;
    }
}

/// A long-running request that was refused is over with its answer.
fn long_running_ended(long_running: bool, answer: &Answer) -> bool {
    !long_running || answer.status().is_client_error() || answer.status().is_server_error()
}

pub fn path_attributes<'a>(route: &'a Route, user: &'a User, verb: &'a str) -> Attributes<'a> {
    Attributes { cluster: &route.cluster, user, verb, group: "", version: "", resource: "", subresource: "", namespace: "", name: "", path: &route.path }
}

fn is_long_running(route: &ResourceRoute) -> bool {
    route.verb == "watch" || special::is_long_running(route)
}

/// Who sent a request, as far as proxies say, and the peer itself last.
fn source_ips(parts: &Parts) -> Vec<String> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let ips = |text: &str| text.split(',').filter_map(|part| part.trim().parse::<std::net::IpAddr>().ok()).map(|ip| ip.to_string()).collect::<Vec<_>>();
    let mut all = ips(text("x-forwarded-for"));
    if all.is_empty() {
        all = ips(text("x-real-ip"));
    }
    // A component of this process is on this machine.
    let peer = Sender::of(parts).map(|sender| match &sender.connection {
        Some(connection) => connection.peer.ip().to_canonical().to_string(),
        None => "127.0.0.1".to_owned(),
    });
    if let Some(peer) = peer.filter(|peer| all.last() != Some(peer)) {
        all.push(peer);
    }
    all
}

/// What happens when a body has been sent or nobody wants it any more.
struct End {
    draft: Option<Box<Draft>>,
    _place: Option<Place>,
    _tenant_permit: Option<TenantPermit>,
    _gauge: Option<crate::metrics::LongRunning>,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(draft) = &mut self.draft {
            // The answer has been sent: nobody is left to wait.
            draft.tell(Stage::ResponseComplete);
        }
    }
}

/// A body that tells of its end.
struct Ending {
    body: Body,
    _end: End,
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
