//! Fairness: a seat for each request, by the FlowSchemas and priority levels of the host cluster.
use crate::ApiServer;
use crate::inflight::{Inflight, Permit};
use crate::query::Query;
use crate::route::{Route, Target};
use crate::{request_record, special};
use api_auth::{AUTHENTICATED, User};
use api_fairness::{Configuration, ConfigurationKind, Cost, Fairness, Figures, Flow, Refusal, Seat};
use api_meta::{ClusterName, Object};
use clock::Clock;
use http::{HeaderMap, HeaderValue, Method};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The group that all requests of a virtual cluster come from, as FlowSchemas of the host see them; the user is the cluster.
pub(crate) const VIRTUAL_CLUSTERS: &str = "k8shost:virtual-clusters";

const SCHEMA_UID: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL_UID: &str = "x-kubernetes-pf-prioritylevel-uid";

/// The level that virtual clusters share, and how their requests come to it. The host cluster starts with both.
pub(crate) fn objects() -> [Value; 2] {
    let level = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "metadata": { "name": "virtual-clusters" },
        "spec": { "type": "Limited", "limited": { "nominalConcurrencyShares": 100, "lendablePercent": 50,
            "limitResponse": { "type": "Queue", "queuing": { "queues": 128, "handSize": 6, "queueLengthLimit": 50 } } } },
    });
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": { "name": "virtual-clusters" },
        "spec": {
            "priorityLevelConfiguration": { "name": "virtual-clusters" }, "matchingPrecedence": 950, "distinguisherMethod": { "type": "ByUser" },
            "rules": [{
                "subjects": [{ "kind": "Group", "group": { "name": VIRTUAL_CLUSTERS } }],
                "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"] }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            }],
        },
    });
    [level, schema]
}

/// Who is served when not all can be.
pub(crate) enum Turnstile {
    /// By priority and fairness.
    Fair { fairness: Arc<Fairness>, objects: Mutex<Objects>, rejected: Family<RejectedLabels, Counter>, patience: Duration },
    /// By the limits of reads and of changes alone (`enable-priority-and-fairness=false`), or by no limit.
    Limits,
}

#[derive(Default)]
pub(crate) struct Objects {
    schemas: BTreeMap<String, Value>,
    levels: BTreeMap<String, Value>,
}

impl Objects {
    fn of(&mut self, kind: ConfigurationKind) -> &mut BTreeMap<String, Value> {
        match kind {
            ConfigurationKind::FlowSchema => &mut self.schemas,
            ConfigurationKind::PriorityLevel => &mut self.levels,
        }
    }
}

/// What a request that is served holds until it is answered.
pub(crate) struct Place {
    _permit: Permit,
    _seat: Option<Seat>,
    flow: Option<Flow>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct RejectedLabels {
    flow_schema: String,
    priority_level: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LevelLabels {
    priority_level: String,
}

impl Turnstile {
    /// `seats`: of all limited levels together. `request_timeout`: a quarter of it is the longest wait, as upstream's.
    pub fn fair(seats: u32, request_timeout: Duration, clock: Arc<dyn Clock>) -> Self {
        let patience = request_timeout / 4;
        Self::Fair { fairness: Fairness::new(seats, clock), objects: Mutex::default(), rejected: Family::default(), patience }
    }

    /// An object of the host cluster is as it is given, or gone.
    pub fn apply(&self, cluster: &ClusterName, kind: ConfigurationKind, name: &str, object: Option<&Object>) {
        self.change(cluster, |objects| match object {
            Some(object) => drop(objects.of(kind).insert(name.to_owned(), object.to_value())),
            None => drop(objects.of(kind).remove(name)),
        });
    }

    pub fn retain(&self, kind: ConfigurationKind, keep: impl Fn(&ClusterName, &str) -> bool) {
        let root = ClusterName::root();
        self.change(&root, |objects| objects.of(kind).retain(|name, _| keep(&root, name)));
    }

    fn change(&self, cluster: &ClusterName, change: impl FnOnce(&mut Objects)) {
        let Self::Fair { fairness, objects, .. } = self else { return };
        if !cluster.is_root() {
            return;
        }
        let mut objects = objects.lock();
        change(&mut objects);
        fairness.configure(Configuration::of(objects.schemas.values(), objects.levels.values()));
    }

    /// A seat, at once or after a wait; `None` for one too many.
    async fn enter(&self, inflight: &Arc<Inflight>, changes: bool, privileged: bool, flow: Option<(Flow, Cost)>) -> Option<Place> {
        let Self::Fair { fairness, rejected, patience, .. } = self else {
            return Some(Place { _permit: inflight.enter(changes, privileged)?, _seat: None, flow: None });
        };
        let seat = match &flow {
            Some((flow, cost)) => fairness.enter(flow, *cost, *patience).await.map_err(|refusal| count(rejected, flow, refusal)).ok()?,
            None => None,
        };
        Some(Place { _permit: inflight.count(changes), _seat: seat, flow: flow.map(|(flow, _)| flow) })
    }

    /// How full the levels are, and whom they have refused.
    pub fn register(&self, registry: &mut Registry) {
        let Self::Fair { fairness, rejected, .. } = self else { return };
        let figures = fairness.figures();
        let mut gauge = |name: &str, help: &str, of: fn(&Figures) -> i64| {
            let family = Family::<LevelLabels, Gauge>::default();
            for level in &figures {
                family.get_or_create(&LevelLabels { priority_level: level.level.clone() }).set(of(level));
            }
            registry.register(name, help, family);
        };
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        gauge("apiserver_flowcontrol_nominal_limit_seats", "Nominal number of execution seats configured for each priority level", |level| {
            level.nominal.into()
        });
        gauge(
            "apiserver_flowcontrol_current_executing_requests",
            "Number of requests in execution stage in the API Priority and Fairness subsystem",
            |level| level.executing.into(),
        );
        let help = "Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests";
        gauge("apiserver_flowcontrol_current_executing_seats", help, |level| level.seats.into());
        let waiting = Family::<LevelLabels, Gauge>::default();
        for level in &figures {
            waiting.get_or_create(&LevelLabels { priority_level: level.level.clone() }).set(count(level.waiting));
        }
        let help = "Number of requests currently pending in queues of the API Priority and Fairness subsystem";
        registry.register("apiserver_flowcontrol_current_inqueue_requests", help, waiting);
        let help = "Number of requests rejected by API Priority and Fairness subsystem";
        registry.register("apiserver_flowcontrol_rejected_requests", help, rejected.clone());
    }
}

fn count(rejected: &Family<RejectedLabels, Counter>, flow: &Flow, refusal: Refusal) {
    let labels = RejectedLabels { flow_schema: flow.schema_name().to_owned(), priority_level: flow.level().to_owned(), reason: refusal.reason() };
    rejected.get_or_create(&labels).inc();
}

impl Place {
    /// Tells by which objects the request was sorted, as upstream does.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let Some(flow) = &self.flow else { return };
        for (name, uid) in [(SCHEMA_UID, flow.schema_uid()), (LEVEL_UID, flow.level_uid())] {
            if let Some(uid) = HeaderValue::from_str(uid).ok().filter(|uid| !uid.is_empty()) {
                headers.insert(name, uid);
            }
        }
    }
}

impl ApiServer {
    /// The flow that a request is of. What this server's parts do for a cluster is sorted by who they are, what a cluster's own users
    /// do by the cluster.
    pub(crate) fn flow(&self, route: &Route, user: &User, method: &Method, of_tenant: bool) -> Option<Flow> {
        let Turnstile::Fair { fairness, .. } = &*self.turnstile else { return None };
        let cluster;
        let user = if of_tenant {
            cluster = User::authenticated(route.cluster.as_str(), [VIRTUAL_CLUSTERS.to_owned(), AUTHENTICATED.to_owned()]);
            &cluster
        } else {
            user
        };
        match &route.target {
            Target::Resource(resource) => fairness.classify(&resource.attributes(&route.cluster, user, special::verb(resource))),
            Target::Path => fairness.classify(&request_record::path_attributes(route, user, &method.as_str().to_ascii_lowercase())),
        }
    }

    /// The request's place among those that are served; `None` for one too many.
    pub(crate) async fn seat(&self, route: &Route, query: &Query, user: &User, method: &Method, (flow, of_tenant): (Option<Flow>, bool)) -> Option<Place> {
        let changes = !matches!(*method, Method::GET | Method::HEAD);
        let privileged = !of_tenant && user.in_group(api_auth::MASTERS);
        // Who waits for nobody is not worth an estimate.
        let flow = match flow {
            Some(flow) if flow.is_limited() => Some((flow, self.cost(route, query).await)),
            flow => flow.map(|flow| (flow, Cost::Usual)),
        };
        self.turnstile.enter(&self.inflight, changes, privileged, flow).await
    }
}
