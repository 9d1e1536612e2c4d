//! Metrics of the API server, by upstream's names.
use crate::ApiServer;
use crate::body::{self, Answer};
use crate::kinds::Kind;
use crate::route::{ResourceRoute, Route, Target};
use api_meta::{ClusterName, Status};
use api_resource::{Names, Text};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;
use store::{RangeRequest, Scope};
use telemetry::metrics;

/// Upstream's buckets of request durations, in seconds.
const DURATIONS: [f64; 23] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];

const NONE: Text = Text::Borrowed("");

/// What a request is counted by. Only what exists is, so that nobody can make up labels.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    verb: &'static str,
    dry_run: &'static str,
    group: Text,
    version: Text,
    resource: Text,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabels {
    #[prometheus(flatten)]
    request: RequestLabels,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LongRunningLabels {
    verb: &'static str,
    group: Text,
    version: Text,
    resource: Text,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    group: String,
    version: String,
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ObjectLabels {
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResourceLabels {
    group: String,
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestKind {
    request_kind: &'static str,
}

/// The resource of all kinds that virtual clusters define. Their names are for anybody to make up, and nobody else's business.
const OF_VIRTUAL_CLUSTERS: &str = "defined-by-virtual-clusters";

/// By what name the requests for a kind are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// The host cluster knows the kind.
    ByName,
    /// A virtual cluster alone does.
    Together,
    /// There is no such kind.
    Not,
}

impl RequestLabels {
    /// `None` where the kind, or the path, is not one of the server's.
    pub fn of(route: &Route, parts: &Parts, kind: Option<&Kind>, counted: Counted) -> Option<Self> {
        let dry_run = if parts.uri.query().is_some_and(|query| query.contains("dryRun=All")) { "All" } else { "" };
        let empty = Self {
            verb: method_label(&parts.method)?,
            dry_run,
            group: NONE,
            version: NONE,
            resource: NONE,
            subresource: "",
            scope: "",
            component: "apiserver",
        };
        let Target::Resource(resource) = &route.target else {
            return Some(Self { subresource: known_path(&route.path)?, ..empty });
        };
        let verb = match resource.verb {
            _ if matches!(resource.subresource.as_str(), "exec" | "attach" | "portforward" | "proxy") => "CONNECT",
            "list" => "LIST",
            "watch" => "WATCH",
            "deletecollection" => "DELETECOLLECTION",
            "patch" if is_apply(parts) => "APPLY",
            _ => empty.verb,
        };
        let scope = match resource.verb {
            "create" => "resource",
            _ if !resource.name.is_empty() => "resource",
            _ if !resource.namespace.is_empty() => "namespace",
            _ => "cluster",
        };
        let (names, subresource) = (kind?.names(), kind?.subresource(&resource.subresource).map_or("", |subresource| subresource.name));
        let (group, version) = (names.group.clone(), names.version.clone());
        match counted {
            Counted::ByName => Some(Self { verb, scope, group, version, resource: names.plural.clone(), subresource, ..empty }),
            Counted::Together => Some(Self { verb, scope, resource: Text::Borrowed(OF_VIRTUAL_CLUSTERS), ..empty }),
            Counted::Not => None,
        }
    }
}

fn is_apply(parts: &Parts) -> bool {
    parts.headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/apply-patch"))
}

fn method_label(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => return None,
    })
}

/// The paths that are counted, each of which is one value of a label.
fn known_path(path: &str) -> Option<&'static str> {
    const KNOWN: [&str; 12] = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
        "/version",
        "/",
    ];
    KNOWN.into_iter().find(|known| *known == path)
}

/// Everything that is counted while requests are served.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<AnswerLabels, Counter<u64, AtomicU64>>,
    durations: Family<RequestLabels, Histogram, fn() -> Histogram>,
    long_running: Family<LongRunningLabels, Gauge<i64, AtomicI64>>,
    watch_events: Family<KindLabels, Counter<u64, AtomicU64>>,
}

/// A long-running request that is counted as long as this lives.
pub struct LongRunning(Gauge<i64, AtomicI64>);

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            long_running: Family::default(),
            watch_events: Family::default(),
        }
    }

    pub fn answered(&self, request: RequestLabels, code: u16, took: Duration) {
        self.durations.get_or_create(&request).observe(took.as_secs_f64());
        self.requests.get_or_create(&AnswerLabels { request, code }).inc();
    }

    pub fn long_running(&self, request: &RequestLabels) -> LongRunning {
        let RequestLabels { verb, group, version, resource, subresource, scope, component, .. } = request.clone();
        let gauge = self.long_running.get_or_create_owned(&LongRunningLabels { verb, group, version, resource, subresource, scope, component });
        gauge.inc();
        LongRunning(gauge)
    }

    /// The count of events sent to watchers of one kind.
    pub fn watch_events(&self, names: &Names, counted: Counted) -> Counter<u64, AtomicU64> {
        let (group, version, resource) =
            if counted == Counted::ByName { (&*names.group, &*names.version, &*names.plural) } else { ("", "", OF_VIRTUAL_CLUSTERS) };
        self.watch_events.get_or_create_owned(&KindLabels { group: group.into(), version: version.into(), resource: resource.into() })
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        registry.register(
            "apiserver_request",
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code",
            self.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component",
            self.durations.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component",
            self.long_running.clone(),
        );
        registry.register("apiserver_watch_events", "Number of events sent in watch clients", self.watch_events.clone());
        registry
    }
}

impl ApiServer {
    /// The kind that a request is about, if it is known, and how the request is counted.
    pub(crate) fn counted(&self, cluster: &ClusterName, route: &ResourceRoute) -> (Option<Kind>, Counted) {
        let find = |cluster| self.kinds.find(cluster, &route.group, &route.version, &route.resource);
        let has = |kind: &Kind| route.subresource.is_empty() || kind.subresource(&route.subresource).is_some();
        let kind = find(cluster);
        let counted = match &kind {
            Some(kind) if !has(kind) => Counted::Not,
            Some(kind) => self.counted_kind(cluster, kind),
            None => Counted::Not,
        };
        (kind, counted)
    }

    /// How requests for a kind of this cluster are counted.
    pub(crate) fn counted_kind(&self, cluster: &ClusterName, kind: &Kind) -> Counted {
        let names = kind.names();
        let everybodys = cluster.is_root() || matches!(kind, Kind::Builtin(_));
        let known = everybodys || self.kinds.find(&ClusterName::root(), &names.group, &names.version, &names.plural).is_some();
        if known { Counted::ByName } else { Counted::Together }
    }

    /// `/metrics`: of the API server, of the process and its parts.
    pub(crate) async fn metrics_page(&self) -> Result<Answer, Status> {
        let mut registry = self.metrics.registry();
        let inflight = Family::<RequestKind, Gauge<i64, AtomicI64>>::default();
        for (request_kind, changes) in [("mutating", true), ("readOnly", false)] {
            let now = i64::try_from(self.inflight.now(changes)).unwrap_or(i64::MAX);
            inflight.get_or_create(&RequestKind { request_kind }).set(now);
        }
        registry.register(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind in last second",
            inflight,
        );
        self.turnstile.register(&mut registry);
        let (stored, of_kind) = (Family::<ObjectLabels, Gauge<i64, AtomicI64>>::default(), Family::<ResourceLabels, Gauge<i64, AtomicI64>>::default());
        for kind in self.kinds.all(&ClusterName::root()) {
            if !kind.verbs().contains(&"list") {
                continue;
            }
            let resource = kind.names().resource();
            let request = RangeRequest { scope: Scope::AllClusters(resource.clone()), after: None, limit: 1, revision: None };
            let found = self.store.range(request).await.map_err(crate::errors::from_store)?;
            let count = i64::try_from(found.records.len() + found.remaining).unwrap_or(i64::MAX);
            stored.get_or_create(&ObjectLabels { resource: resource.to_string() }).set(count);
            of_kind.get_or_create(&ResourceLabels { group: resource.group, resource: resource.resource }).set(count);
        }
        registry.register("apiserver_storage_objects", "Number of stored objects at the time of last check split by kind", stored);
        registry.register("apiserver_resource_objects", "Number of stored objects at the time of last check split by kind", of_kind);
        let text = metrics::text(&registry) + &metrics::process();
        let mut answer = body::text(StatusCode::OK, text);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
        Ok(answer)
    }
}
