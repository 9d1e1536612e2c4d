//! The priority levels and flow schemas every cluster starts with, as upstream's API priority and fairness has them.
use serde_json::{Value, json};

const EVERYBODY: [&str; 2] = ["system:unauthenticated", "system:authenticated"];
const LEADERS: [&str; 2] = ["system:kube-controller-manager", "system:kube-scheduler"];

/// All of them: the mandatory ones, which stay as they are, and the suggested ones, which may be changed.
pub fn objects() -> Vec<Value> {
    levels().into_iter().chain(schemas()).collect()
}

/// What this object has to say if it is one of the mandatory ones.
pub fn mandatory_spec(kind: &str, name: &str) -> Option<Value> {
    if !matches!(name, "exempt" | "catch-all") {
        return None;
    }
    objects().into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name).map(|mut object| object["spec"].take())
}

fn levels() -> Vec<Value> {
    let queued = [
        // Name, shares, lendable percent, queues, hand size.
        ("system", 30, 33, 64, 6),
        ("node-high", 40, 25, 64, 6),
        ("leader-election", 10, 0, 16, 4),
        ("workload-high", 40, 50, 128, 6),
        ("workload-low", 100, 90, 128, 6),
        ("global-default", 20, 50, 128, 6),
    ];
    let queued = queued.map(|(name, shares, lendable, queues, hand)| {
        let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": 50 });
        level(
            name,
            json!({ "type": "Limited", "limited": { "nominalConcurrencyShares": shares, "lendablePercent": lendable,
                "limitResponse": { "type": "Queue", "queuing": queuing } } }),
        )
    });
    let exempt = level("exempt", json!({ "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 } }));
    let limited = json!({ "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" } });
    let rest = level("catch-all", json!({ "type": "Limited", "limited": limited }));
    [exempt, rest].into_iter().chain(queued).collect()
}

fn schemas() -> Vec<Value> {
    let managers = || accounts(&["*"]);
    let leases = || resources(&["get", "create", "update"], "coordination.k8s.io", &["leases"], &["*"], false);
    let locks = |namespace: &str| resources(&["get", "create", "update"], "", &["endpoints", "configmaps"], &[namespace], false);
    vec![
        schema("exempt", "exempt", 1, None, rule(groups(&["system:masters"]), vec![everything()], vec![every_path()])),
        schema("catch-all", "catch-all", 10_000, Some("ByUser"), rule(groups(&EVERYBODY), vec![everything()], vec![every_path()])),
        schema("system-nodes", "system", 500, Some("ByUser"), rule(groups(&["system:nodes"]), vec![everything()], vec![every_path()])),
        schema(
            "system-node-high",
            "node-high",
            400,
            Some("ByUser"),
            rule(
                groups(&["system:nodes"]),
                vec![resources(&["*"], "", &["nodes", "nodes/status"], &["*"], true), resources(&["*"], "coordination.k8s.io", &["leases"], &["*"], false)],
                vec![],
            ),
        ),
        schema(
            "probes",
            "exempt",
            2,
            None,
            rule(groups(&EVERYBODY), vec![], vec![json!({ "verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"] })]),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            Some("ByUser"),
            rule([users(&LEADERS), managers()].concat(), vec![locks("kube-system"), leases()], vec![]),
        ),
        schema("workload-leader-election", "leader-election", 200, Some("ByUser"), rule(managers(), vec![locks("*"), leases()], vec![])),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            Some("ByUser"),
            rule(
                [users(&LEADERS[..1]), accounts(&["endpoint-controller", "endpointslicemirroring-controller"])].concat(),
                vec![resources(&["get", "create", "update"], "", &["endpoints"], &["*"], false)],
                vec![],
            ),
        ),
        schema("kube-controller-manager", "workload-high", 800, Some("ByNamespace"), rule(users(&LEADERS[..1]), vec![everything()], vec![every_path()])),
        schema("kube-scheduler", "workload-high", 800, Some("ByNamespace"), rule(users(&LEADERS[1..]), vec![everything()], vec![every_path()])),
        schema("kube-system-service-accounts", "workload-high", 900, Some("ByNamespace"), rule(managers(), vec![everything()], vec![every_path()])),
        schema("service-accounts", "workload-low", 9000, Some("ByUser"), rule(groups(&["system:serviceaccounts"]), vec![everything()], vec![every_path()])),
        schema("global-default", "global-default", 9900, Some("ByUser"), rule(groups(&EVERYBODY), vec![everything()], vec![every_path()])),
    ]
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
        "metadata": { "name": name, "annotations": { "apf.kubernetes.io/autoupdate-spec": "true" } }, "spec": spec, "status": {} })
}

fn level(name: &str, spec: Value) -> Value {
    object("PriorityLevelConfiguration", name, spec)
}

fn schema(name: &str, level: &str, precedence: i64, distinguisher: Option<&str>, rule: Value) -> Value {
    let mut spec = json!({ "priorityLevelConfiguration": { "name": level }, "matchingPrecedence": precedence, "rules": [rule] });
    if let Some(distinguisher) = distinguisher {
        spec["distinguisherMethod"] = json!({ "type": distinguisher });
    }
    object("FlowSchema", name, spec)
}

fn rule(subjects: Vec<Value>, resources: Vec<Value>, paths: Vec<Value>) -> Value {
    let mut rule = json!({ "subjects": subjects });
    for (field, rules) in [("resourceRules", resources), ("nonResourceRules", paths)] {
        if !rules.is_empty() {
            rule[field] = rules.into();
        }
    }
    rule
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "kind": "Group", "group": { "name": name } })).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "kind": "User", "user": { "name": name } })).collect()
}

fn accounts(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({ "kind": "ServiceAccount", "serviceAccount": { "namespace": "kube-system", "name": name } })).collect()
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], namespaces: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({ "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": namespaces });
    if cluster_scope {
        rule["clusterScope"] = true.into();
    }
    rule
}

fn everything() -> Value {
    resources(&["*"], "*", &["*"], &["*"], true)
}

fn every_path() -> Value {
    json!({ "verbs": ["*"], "nonResourceURLs": ["*"] })
}
