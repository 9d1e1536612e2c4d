//! The life of a request: route, authenticate, authorize, hand to its verb, answer.
use crate::aggregation::Backend;
use crate::audit::Receipt;
use crate::body::{self, Answer};
use crate::context::Context;
use crate::documents::Document;
use crate::incoming::{discard, read_body};
use crate::metrics::Counted;
use crate::query::Query;
use crate::request_record::{RequestRecord, path_attributes, waited_for};
use crate::route::{ResourceRoute, Route, Target};
use crate::server::{ApiServer, Requester, Sender};
use crate::{compress, discovery, errors, health, impersonate, inflight, openapi, protobuf, special};
use api_auth::{Attributes, AuthError, Decision, PeerCertificate, User, forbidden};
use api_meta::{CA_PATH, ClusterName, NODE_CONFIG_PATH, Status, TUNNEL_PATH};
use api_resource::{ALL_VERBS, SubresourceKind};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header, request::Parts};
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tracing::Instrument;

/// What follows is asked of all clusters at once.
const ACROSS: &str = "/clusters/*";

impl ApiServer {
    /// Answers any request. The requester is an extension that only this process can set.
    pub async fn handle<B>(self: &Arc<Self>, request: Request<B>) -> Answer
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut parts, incoming) = request.into_parts();
        let mut incoming = Some(incoming);
        let head = parts.method == Method::HEAD;
        let span = tracing::debug_span!("request", method = %parts.method, uri = %parts.uri);
        let record = RequestRecord::new(self, &parts.headers);
        let gzip = compress::is_wanted(&parts.headers);
        let protobuf = protobuf::wanted(&parts.headers);
        // Nothing is left half-done by a panic: all changes are single transactions.
        let handled = AssertUnwindSafe(self.route(&mut parts, &mut incoming, &record).instrument(span)).catch_unwind().await;
        let result = handled.unwrap_or_else(|_| {
            record.panicked();
            Err(Status::internal("this request caused the server to panic; its log has the details"))
        });
        if let Some(unread) = incoming {
            discard(unread).await;
        }
        let mut answer = result.unwrap_or_else(|status| body::failure(&status));
        body::add_warnings(&mut answer, &record.take_warnings());
        answer.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        let compressible = gzip && !record.is_long_running();
        let watch = protobuf.is_some() && record.is_watch();
        let answer = record.finish(self, answer).await;
        let answer = match protobuf {
            Some(wanted) => protobuf::rewritten(answer, wanted, watch).await,
            None => answer,
        };
        let answer = if compressible { compress::compressed(answer).await } else { answer };
        if head { body::without_body(answer) } else { answer }
    }

    async fn route<B>(self: &Arc<Self>, parts: &mut Parts, incoming: &mut Option<B>, record: &RequestRecord) -> Result<Answer, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let connection = Sender::connection(parts);
        let arrived = match connection.and_then(|connection| self.tenants.at(connection.arrived)) {
            // An address of a cluster that is gone means no other.
            Some(None) => return Err(Status::unauthorized()),
            Some(cluster) => cluster,
            None => connection.and_then(|connection| self.tenants.meant_by(connection.name.as_deref()?)),
        };
        // A node of the host looks at all clusters whose pods it may run.
        let (across, place) = match parts.uri.path().strip_prefix(ACROSS) {
            Some(rest) if arrived.is_none() && rest.starts_with('/') => (true, rest),
            _ => (false, parts.uri.path()),
        };
        // What is wrong with a path is told only to those who say who they are.
        let (cluster, path) = match Route::cluster(place, arrived.clone()) {
            Ok(found) => found,
            Err(refusal) => return Err(self.authenticate(&ClusterName::root(), parts, false, record).await.err().unwrap_or(refusal)),
        };
        let extended = self.options.extension.as_ref().filter(|_| cluster.is_root()).and_then(|extension| Some((extension.clone(), extension.is_open(path)?)));
        let route = match Route::parse(cluster.clone(), &parts.method, path, &query) {
            Ok(route) if extended.is_some() => Route { target: Target::Path, ..route },
            Ok(route) => route,
            Err(refusal) => return Err(self.authenticate(&cluster, parts, false, record).await.err().unwrap_or(refusal)),
        };
        // Which clusters there are is told to nobody who does not say who they are.
        let reached = route.cluster.is_root() || arrived.is_some();
        let open = reached
            && match &extended {
                Some((_, open)) => *open,
                None => route.target == Target::Path && (health::is_open(&route.path) || route.path == CA_PATH),
            };
        let (kind, counted) = match &route.target {
            Target::Resource(resource) => self.counted(&route.cluster, resource),
            Target::Path => (None, Counted::Not),
        };
        record.routed(&route, parts, kind.as_ref(), counted);
        let user = match self.authenticate(&route.cluster, parts, open, record).await {
            Ok(user) => user,
            Err(refusal) => {
                waited_for(record.begin_audit(self, &route, None, parts)).await;
                return Err(refusal);
            }
        };
        if let Some(receipt) = record.begin_audit(self, &route, Some(&user), parts) {
            self.recorded(receipt, parts, record).await?;
        }
        let tenant = if route.cluster.is_root() {
            None
        } else {
            let found = self.tenants.get(&route.cluster);
            Some(found.ok_or_else(|| Status::not_found("k3k.io", "clusters", route.cluster.as_str()))?)
        };
        // What this server's own parts do for a cluster is not the cluster's doing.
        let tenant = tenant.filter(|_| !is_component(parts));
        if let Some(tenant) = &tenant {
            match tenant.limits.enter(record.is_long_running()) {
                Some(permit) => record.hold_of_tenant(permit),
                None => return Ok(inflight::too_many()),
            }
        }
        let sender = user;
        let user = self.impersonated(&route.cluster, sender.clone(), &parts.headers)?;
        if !Arc::ptr_eq(&sender, &user) {
            record.impersonated(&user);
        }
        let flow = self.flow(&route, &user, &parts.method, tenant.is_some());
        if let Some(connection) = Sender::connection(parts) {
            connection.payer.becomes(flow.as_ref());
        }
        if !record.is_long_running() {
            match self.seat(&route, &query, &user, &parts.method, (flow, tenant.is_some())).await {
                Some(place) => record.hold(place),
                None => return Ok(inflight::too_many()),
            }
        }
        // What proves or claims who the client is goes no further, least of all to what is proxied to.
        impersonate::strip(&mut parts.headers);
        parts.headers.remove(header::AUTHORIZATION);
        match &route.target {
            Target::Path => {
                if !open {
                    self.authorize_path(&route, &user, &parts.method, record).await?;
                }
                if let Some((extension, _)) = extended {
                    let incoming = incoming.take().ok_or_else(|| Status::internal("the request's body is gone"))?;
                    let body = read_body(&parts.headers, incoming).await?;
                    let peer = Sender::connection(parts).map_or_else(|| user.username.clone(), |connection| connection.peer.ip().to_string());
                    let (code, value) = extension.answer(&user, &peer, &parts.method, &route.path, &body).await;
                    return Ok(body::json(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &value));
                }
                if across {
                    return Err(Status::no_such_resource());
                }
                if let Some(backend) = self.aggregated_version(&route) {
                    let incoming = incoming.take().ok_or_else(|| Status::internal("the request's body is gone"))?;
                    return self.forward(&backend, &user, parts, incoming).await;
                }
                if route.path == TUNNEL_PATH {
                    return self.tunnel(&route.cluster, parts);
                }
                self.path(&route, &query, parts).await
            }
            Target::Resource(resource) => {
                let attributes = resource.attributes(&route.cluster, &user, special::verb(resource));
                self.allow(&attributes, parts.uri.path(), record).await?;
                if !matches!(resource.verb, "get" | "list" | "watch") && !route.cluster.is_root() && !is_component(parts) && !special::is_review(resource) {
                    self.check_paused(&route.cluster, &user, &resource.group, &resource.resource, &resource.name)?;
                }
                self.check_node_reads(&attributes, &query).await?;
                if across {
                    self.check_across(&attributes)?;
                }
                let context = Context {
                    cluster: &route.cluster,
                    across,
                    user: &user,
                    route: resource,
                    query: &query,
                    headers: &std::mem::take(&mut parts.headers),
                    now: self.clock.now(),
                    warnings: Default::default(),
                    record,
                };
                let incoming = incoming.take().ok_or_else(|| Status::internal("the request's body is gone"))?;
                // On the heap, as it is large and would be moved into each wrapper.
                let handled = Box::pin(self.resource(&context, kind, parts, incoming));
                let handled = match &tenant {
                    Some(tenant) => tenant.limits.paced(handled).left_future(),
                    None => handled.right_future(),
                };
                let answer = if record.is_long_running() {
                    handled.await
                } else {
                    let late = || Err(Status::timeout("Timeout: request did not complete within the allotted timeout"));
                    let timeout = query.timeout()?.map_or(self.options.request_timeout, |asked| asked.min(self.options.request_timeout));
                    tokio::time::timeout(timeout, handled).await.unwrap_or_else(|_| late())
                };
                record.warn(context.warnings.into_inner());
                answer
            }
        }
    }

    /// Waits until a request's arrival has been told to whom it has to be told first.
    async fn recorded(&self, receipt: Receipt, parts: &Parts, record: &RequestRecord) -> Result<(), Status> {
        match &self.options.audit {
            Some(audit) if !audit.arrived(receipt).await => {
                record.abandon_audit();
                let uri = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
                Err(Status::internal(format!("Internal Server Error: {uri:?}: failed to store audit event")))
            }
            _ => Ok(()),
        }
    }

    /// The user of a certificate. Nodes of the host cluster are known in the virtual clusters whose pods they run.
    fn certified(&self, cluster: &ClusterName, certificate: &PeerCertificate) -> Result<Arc<User>, AuthError> {
        let found = self.authentication.certificate(cluster, certificate);
        if found.is_ok() || cluster.is_root() || self.has_own_nodes(cluster) {
            return found;
        }
        let of_host = self.authentication.certificate(&ClusterName::root(), certificate).ok();
        of_host.filter(|user| user.node().is_some()).map_or(found, Ok)
    }

    /// Who sent the request. Nobody in particular is let in only where it is `open`.
    async fn authenticate(self: &Arc<Self>, cluster: &ClusterName, parts: &Parts, open: bool, record: &RequestRecord) -> Result<Arc<User>, Status> {
        let certificate = match Sender::of(parts).map(|sender| &sender.requester) {
            Some(Requester::Component(user)) => return Ok(user.clone()),
            Some(Requester::Peer { certificate }) => certificate.as_ref(),
            None => None,
        };
        let refused = |error: AuthError| {
            tracing::debug!(error = &error as &dyn std::error::Error, "authentication failed");
            Status::unauthorized()
        };
        if let Some(certificate) = certificate {
            return self.certified(cluster, certificate).map_err(refused);
        }
        let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| {
            let (scheme, token) = v.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        match bearer {
            Some(token) if let Some(joiner) = self.joiner(cluster, token) => Ok(Arc::new(joiner)),
            Some(token) => {
                let found = self.authentication.bearer(cluster, token, &**self).await;
                let used = match &found {
                    Ok(found) => found.as_ref().and_then(|found| found.legacy.as_ref()),
                    Err(AuthError::MarkedInvalid { used, .. }) => Some(&**used),
                    Err(_) => None,
                };
                if let Some(used) = used {
                    self.legacy_token_used(cluster, used, record).await;
                }
                found.map_err(refused)?.map(|found| Arc::new(found.user)).ok_or_else(Status::unauthorized)
            }
            None if self.lets_in_anonymous(cluster, parts.uri.path(), open) => Ok(Arc::new(User::anonymous())),
            None => Err(Status::unauthorized()),
        }
    }

    /// Whether who says nothing of themselves may ask. The configuration file has the word about all but what has to be open for machines to join.
    fn lets_in_anonymous(&self, cluster: &ClusterName, path: &str, open: bool) -> bool {
        let told = self.authentication.jwt().filter(|_| cluster.is_root()).and_then(|jwt| jwt.anonymous(path));
        match told {
            Some(told) if health::is_open(path) || !open => told,
            _ => open,
        }
    }

    async fn authorize_path(&self, route: &Route, user: &User, method: &Method, record: &RequestRecord) -> Result<(), Status> {
        self.allow(&path_attributes(route, user, &method.as_str().to_ascii_lowercase()), &route.path, record).await
    }

    async fn allow(&self, attributes: &Attributes<'_>, uri: &str, record: &RequestRecord) -> Result<(), Status> {
        let (decision, error) = self.authorizer.decide(attributes).await;
        record.decided(&decision);
        match (decision, error) {
            (Decision::Allow(_), _) => Ok(()),
            (_, Some(error)) => Err(Status::internal(format!("Internal Server Error: {uri:?}: {error}"))),
            (decision, None) => Err(forbidden(attributes, decision.reason())),
        }
    }

    /// Everything that is no resource.
    async fn path(&self, route: &Route, query: &Query, parts: &Parts) -> Result<Answer, Status> {
        match route.path.as_str() {
            CA_PATH => return Ok(self.ca_certificates()),
            NODE_CONFIG_PATH => return self.node_config(&route.cluster).await,
            _ => {}
        }
        // These tell of the whole server.
        if route.cluster.is_root()
            && let Some(answer) = self.own_path(&parts.method, &route.path).await
        {
            return answer;
        }
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(errors::method_not_allowed());
        }
        if let Some(answer) = health::answer(self, &route.path, query).await {
            return Ok(answer);
        }
        if let Some(document) = self.document(&route.cluster, &route.path, &parts.headers)? {
            let mut answer = document.answer(&parts.headers);
            // Under a URL that names its content's hash the document never changes.
            if route.path.starts_with("/openapi/v3/") && query.get("hash").is_some() {
                answer.headers_mut().insert(header::EXPIRES, HeaderValue::from_static("Thu, 31 Dec 2037 23:55:55 GMT"));
            }
            return Ok(answer);
        }
        match route.path.as_str() {
            // Generated clients ask with the slash, as upstream's OpenAPI document has it.
            "/version" | "/version/" => Ok(body::json(StatusCode::OK, &health::version())),
            "/.well-known/openid-configuration" => {
                let place = if route.cluster.is_root() { String::new() } else { format!("/clusters/{}", route.cluster) };
                let base_url = format!("https://{}{place}", self.advertised);
                Ok(issuer_document("application/json", &self.authentication.tokens().openid_configuration(&route.cluster, &base_url)))
            }
            "/openid/v1/jwks" => Ok(issuer_document("application/jwk-set+json", &self.authentication.tokens().jwks())),
            "/" => Ok(body::json(StatusCode::OK, &json!({ "paths": root_paths(&self.kinds.all(&route.cluster)) }))),
            _ => Err(Status::no_such_resource()),
        }
    }

    /// What discovery or OpenAPI say at a path.
    fn document(&self, cluster: &ClusterName, path: &str, headers: &HeaderMap) -> Result<Option<Arc<Document>>, Status> {
        // Before the kinds are looked at: should they change meanwhile, the document is only newer than it says.
        let version = self.kinds.version(cluster);
        let aggregated = self.aggregation.version(cluster);
        let backends = aggregated.map(|_| self.aggregation.all(cluster)).unwrap_or_default();
        let question = |what: &str| aggregated.map_or_else(|| what.to_owned(), |version| format!("{what} {version}"));
        if openapi::is_document(path) {
            let protobuf = openapi::wants_protobuf(headers);
            let what = if protobuf { format!("{path} protobuf") } else { path.to_owned() };
            return self.documents.get(version, &question(&what), || openapi::document(path, protobuf, &self.kinds.all(cluster), &backends));
        }
        let Some(form) = discovery::form(path, headers) else { return Ok(None) };
        let make = || Ok(discovery::document(path, form, &self.kinds.all(cluster), &self.advertised, &backends));
        self.documents.get(version, &question(&format!("{path} {form}")), make)
    }

    /// Who answers at the path of a group's version that this server does not know.
    fn aggregated_version(&self, route: &Route) -> Option<Arc<Backend>> {
        let mut parts = route.path.trim_end_matches('/').strip_prefix("/apis/")?.split('/');
        let (group, version) = (parts.next()?, parts.next()?);
        let backend = self.aggregation.find(&route.cluster, group, version).filter(|_| parts.next().is_none())?;
        let own = |kind: &crate::Kind| kind.names().group == group && kind.names().version == version;
        (!self.kinds.all(&route.cluster).iter().any(own)).then_some(backend)
    }

    /// The kind a request is about. One that is not known may be of a definition this server has not heard of yet.
    async fn kind(&self, cluster: &ClusterName, route: &ResourceRoute, known: Option<crate::Kind>) -> Result<crate::Kind, Status> {
        if let Some(kind) = known {
            return Ok(kind);
        }
        self.look_for_definition(cluster, &route.group, &route.resource).await?;
        self.kinds.find(cluster, &route.group, &route.version, &route.resource).ok_or_else(Status::no_such_resource)
    }

    /// `known`: the kind, if this server has heard of it. The headers are in the context.
    async fn resource<B>(self: &Arc<Self>, context: &Context<'_>, known: Option<crate::Kind>, parts: &mut Parts, incoming: B) -> Result<Answer, Status>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let route = context.route;
        let kind = match self.kind(context.cluster, route, known).await {
            Ok(kind) => kind,
            Err(unknown) => {
                let backend = self.aggregation.find(context.cluster, &route.group, &route.version).filter(|_| !context.across).ok_or(unknown)?;
                parts.headers = context.headers.clone();
                return Box::pin(self.forward(&backend, context.user, parts, incoming)).await;
            }
        };
        if !kind.namespaced() && !route.namespace.is_empty() && route.resource != "namespaces" {
            return Err(Status::no_such_resource());
        }
        if kind.namespaced() && route.namespace.is_empty() && !matches!(route.verb, "list" | "watch") {
            // Over all namespaces there are only lists and watches.
            return Err(if route.name.is_empty() { errors::method_not_allowed() } else { Status::no_such_resource() });
        }
        let mirrored = self.tenants.mirrors(context.cluster, &kind.stored_as());
        if mirrored && !(matches!(route.verb, "get" | "list" | "watch") && matches!(route.subresource.as_str(), "" | "status")) {
            let why = "is a mirror of the host cluster's, which can only be looked at";
            return Err(Status::forbidden(&route.group, &route.resource, &route.name, why));
        }
        let subresource = match route.subresource.as_str() {
            "" => None,
            name => Some(kind.subresource(name).ok_or_else(Status::no_such_resource)?.clone()),
        };
        if kind.is_terminating() && route.verb == "create" {
            let mut refusal = Status::method_not_allowed(&route.group, &route.resource, route.verb);
            refusal.message = format!("{} not allowed while custom resource definition is terminating", route.verb);
            return Err(refusal);
        }
        if let Some(deprecation) = kind.deprecation() {
            context.warn(deprecation);
        }
        // What goes may still be changed, or nobody could let go of it; only discovery no longer says so.
        let verbs = subresource.as_ref().map_or(if kind.is_terminating() { ALL_VERBS } else { kind.verbs() }, |s| s.verbs);
        if !(verbs.contains(&route.verb) || route.verb == "patch" && verbs.contains(&"update")) {
            return Err(errors::method_not_allowed());
        }
        if let Some(special) = subresource.as_ref().filter(|s| matches!(s.kind, SubresourceKind::Special)) {
            if special::is_stream(route) {
                parts.headers = context.headers.clone();
                return Box::pin(self.node_stream(context, parts, incoming)).await;
            }
            if special.name == "proxy" {
                parts.headers = context.headers.clone();
                return Box::pin(self.proxy(context, parts, incoming)).await;
            }
            let body = read_body(context.headers, incoming).await?;
            context.record.request_body(context.headers, route.verb, &body);
            return Box::pin(self.special(context, &kind, special, &body)).await;
        }
        if kind.computed() {
            return Box::pin(self.computed(context, &kind)).await;
        }
        // What is not in every request's way is on the heap by itself, so that a read's state stays small.
        match route.verb {
            "list" => return self.list(context, &kind).await,
            "watch" => return Box::pin(self.watch(context, &kind)).await,
            "get" if subresource.as_ref().is_none_or(|s| matches!(s.kind, SubresourceKind::Part(_))) => return self.get(context, &kind).await,
            _ => {}
        }
        let body = read_body(context.headers, incoming).await?;
        context.record.request_body(context.headers, route.verb, &body);
        if special::is_review(route) {
            return Box::pin(self.review(context, &kind, &body)).await;
        }
        match (route.verb, &subresource) {
            (_, Some(scale)) if matches!(scale.kind, SubresourceKind::Scale { .. }) => Box::pin(self.scale(context, &kind, scale, &body)).await,
            ("create", None) if route.name.is_empty() => Box::pin(special::create(self, context, &kind, &body)).await,
            ("update", part) => Box::pin(self.update(context, &kind, part.as_ref(), &body)).await,
            ("patch", part) => Box::pin(self.patch(context, &kind, part.as_ref(), &body)).await,
            ("delete", None) => Box::pin(self.delete(context, &kind, &body)).await,
            ("deletecollection", None) => Box::pin(self.delete_collection(context, &kind, &body)).await,
            _ => Err(errors::method_not_allowed()),
        }
    }
}

/// Whether a part of this process asks.
fn is_component(parts: &Parts) -> bool {
    Sender::of(parts).is_some_and(|sender| matches!(sender.requester, Requester::Component(_)))
}

/// What others verify tokens by: public, and good for an hour.
fn issuer_document(media_type: &'static str, document: &serde_json::Value) -> Answer {
    let mut answer = body::json(StatusCode::OK, document);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer
}

fn root_paths(kinds: &[crate::Kind]) -> Vec<String> {
    let mut paths: std::collections::BTreeSet<String> = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    for kind in kinds {
        let names = kind.names();
        if !names.group.is_empty() {
            paths.insert(format!("/apis/{}", names.group));
            paths.insert(format!("/apis/{}/{}", names.group, names.version));
        }
    }
    paths.into_iter().collect()
}
