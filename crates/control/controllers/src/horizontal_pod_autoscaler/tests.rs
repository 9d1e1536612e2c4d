//! Cases of upstream's replica calculator, limits of speed, and an autoscaler's way from measure to scale.
use super::behavior::{Memory, limit, scaled};
use super::facts::{Facts, PodUsage, Scale};
use super::other_metrics::{Question, Scaled, Value as Told, ValueList, decide};
use super::reconcile::{Action, World, reconcile};
use super::replicas::{Measured, Target, Tolerances, propose};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerBehavior};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// `about`: how the pod is: `ready`, `unready`, `failed`, `deleted`, `pending`, or `hot` (ready, but started a minute ago).
pub(super) fn pod(number: usize, request: &str, about: &str) -> Arc<Pod> {
    let began = if about == "hot" { "2026-01-01T11:59:30Z" } else { "2026-01-01T10:00:00Z" };
    let phase = match about {
        "failed" => "Failed",
        "pending" => "Pending",
        _ => "Running",
    };
    let ready = if matches!(about, "ready" | "hot") { "True" } else { "False" };
    let mut pod = json!({
        "metadata": {"name": format!("p{number}"), "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": request, "memory": "1Gi"}}}]},
        "status": {"phase": phase, "startTime": began, "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": began}]},
    });
    if request.is_empty() {
        pod["spec"]["containers"][0]["resources"] = json!({});
    }
    if about == "deleted" {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:59:59Z");
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// Pod p0 uses the first level, p1 the second, ...
pub(super) fn usage(resource: &str, levels: &[i64]) -> BTreeMap<String, PodUsage> {
    let of = |(number, level): (usize, &i64)| {
        let containers = BTreeMap::from([("main".to_owned(), BTreeMap::from([(resource.to_owned(), *level)]))]);
        (format!("p{number}"), PodUsage { timestamp: now() - SignedDuration::from_secs(10), window: Duration::from_secs(30), containers })
    };
    levels.iter().enumerate().map(of).collect()
}

#[test]
fn replicas_are_those_upstream_calculates() {
    let all = |about: &'static str, count: usize| vec![about; count];
    // What is tried: replicas now, how the pods are, what they use (thousandths), percent asked for; replicas, percent.
    type Case = (&'static str, i32, Vec<&'static str>, Vec<i64>, i32, Result<(i32, i32), &'static str>);
    let cases: Vec<Case> = vec![
        ("up", 3, all("ready", 3), vec![300, 500, 700], 30, Ok((5, 50))),
        ("up, less for the unready", 3, vec!["unready", "ready", "ready"], vec![300, 500, 700], 30, Ok((4, 60))),
        ("up, less for those that start", 3, vec!["hot", "ready", "ready"], vec![300, 500, 700], 30, Ok((4, 60))),
        ("not up for the unready", 3, vec!["ready", "unready", "unready"], vec![400, 500, 700], 30, Ok((3, 40))),
        ("the failed are ignored", 2, vec!["ready", "ready", "failed", "failed"], vec![500, 700], 30, Ok((4, 60))),
        ("the deleted are ignored", 2, vec!["ready", "ready", "deleted", "deleted"], vec![500, 700], 30, Ok((4, 60))),
        ("the pending count as unready", 3, vec!["ready", "ready", "pending"], vec![500, 700], 30, Ok((4, 60))),
        ("down", 5, all("ready", 5), vec![100, 300, 500, 250, 250], 50, Ok((3, 28))),
        ("within tolerance", 3, all("ready", 3), vec![1010, 1030, 1020], 100, Ok((3, 102))),
        ("missing, at the target", 2, all("ready", 2), vec![1000], 100, Ok((2, 100))),
        ("missing, above", 2, all("ready", 2), vec![1900], 100, Ok((2, 190))),
        ("missing, above, but not if it idles", 4, all("ready", 4), vec![1400, 1400, 1400], 100, Ok((4, 140))),
        ("missing, below", 2, all("ready", 2), vec![600], 100, Ok((2, 60))),
        ("missing and unready, no change", 3, vec!["unready", "ready", "ready"], vec![100, 450], 50, Ok((3, 45))),
        ("missing and unready, up", 3, vec!["unready", "ready", "ready"], vec![100, 2000], 50, Ok((4, 200))),
        ("missing and unready, down", 4, vec!["unready", "ready", "ready", "ready"], vec![100, 100, 100], 50, Ok((3, 10))),
        ("nothing measured", 2, all("ready", 2), vec![], 50, Err("no metrics returned from resource metrics API")),
        ("nobody is ready", 2, all("unready", 2), vec![1, 1], 50, Err("did not receive metrics for targeted pods (pods might be unready)")),
    ];
    for (case, replicas, pods, levels, percent, expected) in cases {
        let pods: Vec<_> = pods.iter().enumerate().map(|(number, about)| pod(number, "1", about)).collect();
        let usage = usage("cpu", &levels);
        let tolerances = Tolerances { up: 0.1, down: 0.1 };
        let measured = Measured { replicas, pods: &pods, usage: &usage, resource: "cpu", container: None, tolerances, now: now() };
        match (propose(&measured, Target::Utilization(percent)), expected) {
            (Ok(got), Ok(expected)) => assert_eq!((got.replicas, got.utilization.unwrap()), expected, "{case}"),
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{case}: {got}"),
            (got, expected) => panic!("{case}: {got:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn average_values_need_no_requests_and_utilization_does() {
    let pods: Vec<_> = (0..3).map(|number| pod(number, "", "ready")).collect();
    let usage = usage("cpu", &[20_000, 10_000, 30_000]);
    let tolerances = Tolerances { up: 0.1, down: 0.1 };
    let mut measured = Measured { replicas: 3, pods: &pods, usage: &usage, resource: "cpu", container: None, tolerances, now: now() };
    let got = propose(&measured, Target::AverageValue(15_000)).unwrap();
    assert_eq!((got.replicas, got.utilization, got.average), (4, None, 20_000));
    assert_eq!(propose(&measured, Target::Utilization(50)).unwrap_err(), "missing request for cpu in container main of Pod p0");
    measured.container = Some("other");
    assert_eq!(propose(&measured, Target::AverageValue(1)).unwrap_err(), "container other not present in metrics for pod p0");
}

fn behavior(value: Value) -> HorizontalPodAutoscalerBehavior {
    serde_json::from_value(value).unwrap()
}

#[test]
fn a_scale_follows_no_faster_than_it_may() {
    let at = |seconds: i64| now() + SignedDuration::from_secs(seconds);
    // Without a behavior: twice as many at most, four if that is more; down only to the most asked for in five minutes.
    let mut memory = Memory::default();
    assert_eq!(limit(&mut memory, None, (1, 10), (1, 20), at(0)).replicas, 4);
    assert_eq!(limit(&mut memory, None, (4, 30), (1, 20), at(15)).limit.unwrap().0, "ScaleUpLimit");
    assert_eq!(limit(&mut memory, None, (8, 30), (1, 15), at(30)).limit.unwrap().0, "TooManyReplicas");
    let held = limit(&mut memory, None, (15, 2), (1, 15), at(100));
    assert_eq!((held.replicas, held.stabilized.0), (15, "ScaleDownStabilized"));
    let later = limit(&mut memory, None, (15, 0), (1, 15), at(500));
    assert_eq!((later.replicas, later.limit.unwrap().0), (1, "TooFewReplicas"));

    // With one: at most two pods in a minute, whatever came in that minute counted.
    let careful = behavior(json!({
        "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
        "scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Min", "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60},
            {"type": "Pods", "value": 1, "periodSeconds": 60}]},
    }));
    let mut memory = Memory::default();
    let first = limit(&mut memory, Some(&careful), (4, 10), (1, 20), at(0));
    assert_eq!((first.replicas, first.limit.unwrap().0), (6, "ScaleUpLimit"));
    scaled(&mut memory, 4, 6, at(0));
    assert_eq!(limit(&mut memory, Some(&careful), (6, 10), (1, 20), at(30)).replicas, 6, "two have come in this minute");
    assert_eq!(limit(&mut memory, Some(&careful), (6, 10), (1, 20), at(61)).replicas, 8);
    let down = limit(&mut memory, Some(&careful), (6, 1), (1, 20), at(120));
    assert_eq!((down.replicas, down.limit.unwrap().0), (5, "ScaleDownLimit"), "the policy that changes least");
    let never = behavior(json!({"scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}}));
    assert_eq!(limit(&mut Memory::default(), Some(&never), (6, 1), (1, 20), at(0)).replicas, 6);
}

pub(super) fn world(levels: &[i64], replicas: i32) -> World {
    let autoscaler = json!({
        "metadata": {"name": "web", "namespace": "default", "generation": 1},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
    });
    let autoscaler: HorizontalPodAutoscaler = serde_json::from_value(autoscaler).unwrap();
    World {
        autoscaler: Arc::new(autoscaler),
        facts: Some(Facts {
            taken: now(),
            scale: Ok(Scale { replicas, running: replicas, selector: "app=web".into() }),
            usage: Ok(usage("cpu", levels)),
            others: BTreeMap::new(),
        }),
        pods: (0..levels.len()).map(|number| pod(number, "1", "ready")).collect(),
        memory: Memory::default(),
        now: now(),
    }
}

/// Does what was decided: the target has the replicas, the autoscaler its status.
pub(super) fn apply(world: &mut World, action: Action) {
    match action {
        Action::Scale { replicas, .. } => world.facts.as_mut().unwrap().scale.as_mut().unwrap().replicas = replicas,
        Action::SetStatus(status) => Arc::make_mut(&mut world.autoscaler).status = Some(*status),
        Action::Remember(memory) => world.memory = memory,
        Action::Measure | Action::Tell { .. } => {}
    }
}

pub(super) fn conditions(world: &World) -> Vec<String> {
    let conditions = world.autoscaler.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.map(|c| format!("{}={} {}", c.type_, c.status, c.reason.as_deref().unwrap_or_default())).collect()
}

#[test]
fn it_measures_decides_once_and_waits() {
    let mut world = world(&[900, 900], 2);
    let first = World { facts: None, ..self::world(&[], 2) };
    assert_eq!(reconcile(&first).actions, [Action::Measure]);
    let plan = reconcile(&world);
    assert_eq!(plan.actions[0], Action::Scale { replicas: 4, reason: "cpu resource utilization (percentage of request) above target".into() });
    assert!(
        matches!(&plan.actions[1], Action::Tell { warning: false, reason: "SuccessfulRescale", message } if message.starts_with("New size: 4; reason: cpu"))
    );
    plan.actions.into_iter().for_each(|action| apply(&mut world, action));
    assert_eq!(conditions(&world), ["AbleToScale=True SucceededRescale", "ScalingActive=True ValidMetricFound", "ScalingLimited=False DesiredWithinRange"]);
    let status = world.autoscaler.status.clone().unwrap();
    assert_eq!((status.current_replicas, status.desired_replicas), (Some(2), 4));
    let shown = serde_json::to_value(status.current_metrics).unwrap();
    assert_eq!(shown, json!([{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 90, "averageValue": "900m"}}}]));
    let again = reconcile(&world);
    assert!(again.actions.is_empty() && again.again_after == Some(Duration::from_secs(15)), "{again:?}");
    world.now = now() + SignedDuration::from_secs(15);
    assert_eq!(reconcile(&world).actions, [Action::Measure]);
}

#[test]
fn what_can_not_be_known_is_told_and_nothing_is_scaled() {
    let mut unmeasured = world(&[900], 1);
    unmeasured.facts.as_mut().unwrap().usage = Err("unable to fetch metrics from resource metrics API: the server is gone".into());
    let mut gone = world(&[900], 1);
    gone.facts.as_mut().unwrap().scale = Err("deployments.apps \"web\" not found".into());
    let mut off = world(&[], 0);
    off.facts.as_mut().unwrap().usage = Ok(BTreeMap::new());
    let mut custom = world(&[900], 1);
    Arc::make_mut(&mut custom.autoscaler).spec.metrics =
        serde_json::from_value(json!([{"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "1"}}}]))
            .unwrap();
    for (mut world, condition, event) in [
        (unmeasured, "ScalingActive=False FailedGetResourceMetric", "FailedComputeMetricsReplicas"),
        (gone, "AbleToScale=False FailedGetScale", "FailedGetScale"),
        (off, "ScalingActive=False ScalingDisabled", ""),
        (custom, "ScalingActive=False FailedGetPodsMetric", "FailedGetPodsMetric"),
    ] {
        let plan = reconcile(&world);
        assert!(!plan.actions.iter().any(|action| matches!(action, Action::Scale { .. })), "{condition}");
        let told = plan.actions.iter().any(|action| matches!(action, Action::Tell { warning: true, reason, .. } if *reason == event));
        assert!(told || event.is_empty(), "{:?}", plan.actions);
        plan.actions.into_iter().for_each(|action| apply(&mut world, action));
        assert!(conditions(&world).iter().any(|found| found == condition), "{condition}: {:?}", conditions(&world));
        assert!(reconcile(&world).actions.is_empty(), "decided once");
    }
}

#[test]
fn out_of_bounds_comes_back_in_without_looking_at_metrics() {
    for (replicas, expected, why) in [(9, 5, "Current number of replicas above Spec.MaxReplicas"), (1, 2, "Current number of replicas below Spec.MinReplicas")]
    {
        let mut world = world(&[], replicas);
        Arc::make_mut(&mut world.autoscaler).spec.min_replicas = Some(2);
        assert_eq!(reconcile(&world).actions[0], Action::Scale { replicas: expected, reason: why.into() });
    }
}

/// A metric of pods, an object or nobody's, and what it shows.
fn other(kind: &str, target: Value) -> k8s_openapi::api::autoscaling::v2::MetricSpec {
    let metric = json!({"name": "qps", "selector": {"matchLabels": {"verb": "GET"}}});
    let mut source = json!({"metric": metric, "target": target});
    if kind == "object" {
        source["describedObject"] = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "main"});
    }
    let name = format!("{}{}", kind[..1].to_uppercase(), &kind[1..]);
    serde_json::from_value(json!({"type": name, kind: source})).unwrap()
}

#[test]
fn metrics_of_others_ask_for_replicas_as_upstream_calculates() {
    let told = |values: &[(&str, i64)]| -> Vec<Told> {
        let value = |(of, value): &(&str, i64)| Told { of: (*of).to_owned(), value: value * 1000, timestamp: now(), window: Duration::from_secs(30) };
        values.iter().map(value).collect()
    };
    let (average, value) = (|text: &str| json!({"type": "AverageValue", "averageValue": text}), |text: &str| json!({"type": "Value", "value": text}));
    // The metric, what it shows, how many run of how many there shall be, how they are; replicas, and what the status shows.
    type Case = (&'static str, Value, Vec<(&'static str, i64)>, i32, Vec<&'static str>, Result<(i32, &'static str), &'static str>);
    let cases: Vec<Case> = vec![
        ("pods", average("15"), vec![("p0", 20), ("p1", 10), ("p2", 30)], 3, vec!["ready"; 3], Ok((4, "20"))),
        ("pods", average("20"), vec![("p0", 20), ("p1", 20), ("p2", 20)], 3, vec!["ready"; 3], Ok((3, "20"))),
        ("pods", average("50"), vec![("p0", 10), ("p1", 10)], 3, vec!["ready"; 3], Ok((2, "10"))),
        ("pods", average("50"), vec![("p0", 50), ("p1", 10)], 3, vec!["unready", "ready", "pending"], Ok((2, "30"))),
        ("pods", average("50"), vec![], 3, vec!["ready"; 3], Err("unable to get metric qps: no metrics returned from the metrics API")),
        ("object", value("15"), vec![("main", 20)], 3, vec!["ready"; 3], Ok((4, "20"))),
        ("object", value("15"), vec![("main", 20)], 3, vec!["ready", "ready", "unready"], Ok((3, "20"))),
        ("object", value("20"), vec![("main", 21)], 3, vec!["ready"; 3], Ok((3, "21"))),
        ("object", average("10"), vec![("main", 50)], 3, vec!["ready"; 3], Ok((5, "16667m"))),
        ("external", value("15"), vec![("", 10), ("", 10)], 3, vec!["ready"; 3], Ok((4, "20"))),
        ("external", average("10"), vec![("", 30)], 3, vec!["ready"; 3], Ok((3, "10"))),
        ("external", average("2861"), vec![("", 8600)], 4, vec!["ready"; 4], Ok((4, "2150"))),
    ];
    for (kind, target, values, replicas, pods, expected) in cases {
        let pods: Vec<_> = pods.iter().enumerate().map(|(number, about)| pod(number, "1", about)).collect();
        let scaled = Scaled { wanted: replicas, running: replicas, pods: &pods, tolerances: Tolerances { up: 0.1, down: 0.1 }, now: now() };
        let found = decide(&other(kind, target.clone()), &Ok(told(&values)), &scaled);
        let found = found.map(|(replicas, _, status)| {
            let shown = &serde_json::to_value(status).unwrap()[kind]["current"];
            (replicas, shown["averageValue"].as_str().or(shown["value"].as_str()).unwrap_or_default().to_owned())
        });
        assert_eq!(found, expected.map(|(replicas, shown)| (replicas, shown.to_owned())).map_err(str::to_owned), "{kind} {target} {values:?}");
    }
}

#[test]
fn metrics_are_asked_for_where_they_are_served() {
    let path =
        |kind: &str, resource: &str| Question::of(&other(kind, json!({"type": "Value", "value": "1"})), "app=web").unwrap().path("n", "v1beta2", resource);
    assert_eq!(path("pods", ""), "/apis/custom.metrics.k8s.io/v1beta2/namespaces/n/pods/*/qps?labelSelector=app%3Dweb&metricLabelSelector=verb%3DGET");
    let object = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/n/ingresses.networking.k8s.io/main/qps?metricLabelSelector=verb%3DGET";
    assert_eq!(path("object", "ingresses.networking.k8s.io"), object);
    assert_eq!(path("external", ""), "/apis/external.metrics.k8s.io/v1beta1/namespaces/n/qps?labelSelector=verb%3DGET");
    let list = |item: Value| serde_json::from_value::<ValueList>(json!({"items": [item]})).unwrap().values(now()).remove(0);
    let new = list(
        json!({"describedObject": {"kind": "Pod", "name": "p0"}, "metric": {"name": "qps"}, "timestamp": "2026-01-01T12:00:00Z", "windowSeconds": 30, "value": "1500m"}),
    );
    assert_eq!((new.of.as_str(), new.value, new.window), ("p0", 1500, Duration::from_secs(30)));
    let external = list(json!({"metricName": "qps", "metricLabels": {}, "timestamp": "2026-01-01T12:00:00Z", "value": "2k"}));
    assert_eq!((external.of.as_str(), external.value, external.window), ("", 2_000_000, Duration::from_secs(60)));
}
