//! Tables of what the job controller does in which world.
use super::reconcile::reconcile;
use super::*;
use controller_kit::converges;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn world(spec: Value) -> World {
    let mut value = json!({"metadata": {"name": "j", "namespace": "n", "uid": "job"},
        "spec": {"completions": 2, "parallelism": 2, "backoffLimit": 2, "selector": {"matchLabels": {"job": "j"}},
            "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}}});
    merge(&mut value["spec"], spec);
    World { job: Arc::new(serde_json::from_value(value).unwrap()), pods: vec![], now: start() }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v)),
        (into, from) => *into = from,
    }
}

/// Does what the API would; a deleted pod is gone once its finalizer is.
fn apply(world: &mut World, action: Action) {
    let job = world.job.clone();
    let mut push = |mut pod: Pod| {
        let n = world.pods.len();
        pod.metadata.name = Some(format!("{}{n}", pod.metadata.generate_name.clone().unwrap()));
        pod.metadata.uid = pod.metadata.name.clone();
        world.pods.push(Arc::new(pod));
    };
    match action {
        Action::CreatePods(count) => (0..count).for_each(|_| push(new_pod(&job, "j"))),
        Action::CreateIndexed(indexes) => indexes.into_iter().for_each(|(index, failures)| push(indexed_pod(&job, index, failures))),
        Action::EndPods(doomed) => world.pods.retain(|pod| !doomed.contains(pod)),
        Action::FailPods(doomed) => {
            let at = Time(world.now);
            world.pods.iter_mut().filter(|pod| doomed.contains(pod)).for_each(|pod| Arc::make_mut(pod).metadata.deletion_timestamp = Some(at.clone()));
        }
        Action::RemoveFinalizers(settled) => {
            for pod in world.pods.iter_mut().filter(|pod| settled.iter().any(|s| s.metadata.uid == pod.metadata.uid)) {
                Arc::make_mut(pod).metadata.finalizers = None;
            }
            world.pods.retain(|pod| pod.metadata.deletion_timestamp.is_none() || tally::has_finalizer(pod));
        }
        Action::SetStatus(status) => Arc::make_mut(&mut world.job).status = Some(*status),
        Action::Tell { .. } => {}
        other => panic!("{other:?}"),
    }
}

fn settle(world: World) -> World {
    converges(world, 10, reconcile, apply)
}

/// Ends the nth pod that is still active.
fn end(world: &mut World, phase: &str) {
    let at = world.now;
    let pod = world.pods.iter_mut().find(|pod| pods::is_active(pod)).expect("one is active");
    let status = json!({"phase": phase, "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": if phase == "Failed" { 3 } else { 0 }, "finishedAt": at.to_string()}}}]});
    Arc::make_mut(pod).status = serde_json::from_value(status).unwrap();
}

fn status(world: &World) -> JobStatus {
    world.job.status.clone().unwrap()
}

fn conditions(world: &World) -> Vec<String> {
    let all = status(world).conditions.unwrap_or_default();
    all.into_iter().filter(|c| c.status == "True").map(|c| format!("{}:{}", c.type_, c.reason.unwrap_or_default())).collect()
}

fn active(world: &World) -> usize {
    world.pods.iter().filter(|pod| pods::is_active(pod)).count()
}

#[test]
fn it_runs_its_pods_counts_them_once_and_completes() {
    let mut world = settle(world(json!({"completions": 3})));
    assert_eq!((active(&world), status(&world).active, status(&world).start_time), (2, Some(2), Some(Time(start()))));
    for _ in 0..3 {
        end(&mut world, "Succeeded");
        world = settle(world);
    }
    let status = status(&world);
    assert_eq!((status.succeeded, status.failed, status.active, status.completion_time), (Some(3), None, None, Some(Time(start()))));
    assert_eq!(status.uncounted_terminated_pods, Some(Default::default()));
    assert_eq!(conditions(&world), ["SuccessCriteriaMet:CompletionsReached", "Complete:CompletionsReached"]);
    assert!(world.pods.iter().all(|pod| !tally::has_finalizer(pod)));
}

#[test]
fn a_pod_is_written_down_before_its_finalizer_goes() {
    let mut world = settle(world(json!({})));
    end(&mut world, "Succeeded");
    let actions = reconcile(&world).actions;
    let [Action::SetStatus(status), Action::RemoveFinalizers(pods)] = &actions[..] else { panic!("{actions:#?}") };
    assert_eq!(status.uncounted_terminated_pods.as_ref().unwrap().succeeded.as_deref(), pods[0].metadata.uid.clone().map(|uid| vec![uid]).as_deref());
    assert_eq!(status.succeeded, None);
}

#[test]
fn failures_back_off_and_end_in_failure_beyond_the_limit() {
    let mut world = settle(world(json!({"completions": 1, "parallelism": 1})));
    for wait in [10, 20] {
        end(&mut world, "Failed");
        world = settle(world);
        assert_eq!((active(&world), reconcile(&world).again_after), (0, Some(std::time::Duration::from_secs(wait))));
        world.now += SignedDuration::from_secs(wait as i64);
        world = settle(world);
        assert_eq!(active(&world), 1);
    }
    end(&mut world, "Failed");
    world = settle(world);
    assert_eq!(conditions(&world), ["FailureTarget:BackoffLimitExceeded", "Failed:BackoffLimitExceeded"]);
    assert_eq!(status(&world).failed, Some(3));
}

#[test]
fn the_deadline_ends_what_runs() {
    let mut world = settle(world(json!({"activeDeadlineSeconds": 30})));
    assert_eq!(reconcile(&world).again_after, Some(std::time::Duration::from_secs(30)));
    world.now += SignedDuration::from_secs(30);
    world = settle(world);
    assert_eq!((active(&world), conditions(&world)), (0, vec!["FailureTarget:DeadlineExceeded".into(), "Failed:DeadlineExceeded".into()]));
}

#[test]
fn suspended_jobs_have_no_pods_and_start_anew() {
    let mut world = settle(world(json!({})));
    Arc::make_mut(&mut world.job).spec.as_mut().unwrap().suspend = Some(true);
    world = settle(world);
    assert_eq!((active(&world), status(&world).start_time, conditions(&world)), (0, None, vec!["Suspended:JobSuspended".into()]));
    assert_eq!(status(&world).failed, None);
    Arc::make_mut(&mut world.job).spec.as_mut().unwrap().suspend = Some(false);
    world.now += SignedDuration::from_secs(100);
    world = settle(world);
    assert_eq!((active(&world), status(&world).start_time), (2, Some(Time(world.now))));
}

#[test]
fn indexed_jobs_complete_every_index() {
    let mut world = settle(world(json!({"completionMode": "Indexed", "completions": 4, "parallelism": 3})));
    let indexes = |world: &World| world.pods.iter().filter(|p| pods::is_active(p)).filter_map(|p| tally::index_of(p)).collect::<Vec<_>>();
    assert_eq!(indexes(&world), [0, 1, 2]);
    assert_eq!(world.pods[1].spec.as_ref().unwrap().hostname.as_deref(), Some("j-1"));
    end(&mut world, "Succeeded");
    world = settle(world);
    assert_eq!((indexes(&world), status(&world).completed_indexes.as_deref()), (vec![1, 2, 3], Some("0")));
    for _ in 0..3 {
        end(&mut world, "Succeeded");
        world = settle(world);
    }
    assert_eq!((status(&world).completed_indexes.as_deref(), status(&world).succeeded), (Some("0-3"), Some(4)));
    assert_eq!(conditions(&world)[1], "Complete:CompletionsReached");
}

#[test]
fn indexes_fail_alone_within_their_own_limit() {
    let mut world =
        settle(world(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimit": i32::MAX, "backoffLimitPerIndex": 0})));
    end(&mut world, "Failed");
    world = settle(world);
    assert_eq!((active(&world), status(&world).failed_indexes.as_deref()), (1, Some("0")));
    end(&mut world, "Succeeded");
    world = settle(world);
    assert_eq!(conditions(&world), ["FailureTarget:FailedIndexes", "Failed:FailedIndexes"]);
}

#[test]
fn the_failure_policy_ignores_or_fails_at_once() {
    let rule = |action: &str| json!({"podFailurePolicy": {"rules": [{"action": action, "onExitCodes": {"operator": "In", "values": [3]}}]}, "completions": 1, "parallelism": 1});
    let mut ignored = settle(world(rule("Ignore")));
    end(&mut ignored, "Failed");
    assert_eq!(status(&settle(ignored)).failed, None);
    let mut failed = settle(world(rule("FailJob")));
    end(&mut failed, "Failed");
    let failed = settle(failed);
    assert_eq!(conditions(&failed)[1], "Failed:PodFailurePolicy");
    let message = status(&failed).conditions.unwrap()[0].message.clone().unwrap();
    assert!(message.ends_with("failed with exit code 3 matching FailJob rule at index 0"), "{message}");
}

#[test]
fn a_work_queue_is_done_when_one_succeeded_and_none_works() {
    let mut world = settle(world(json!({"completions": null})));
    end(&mut world, "Succeeded");
    world = settle(world);
    assert_eq!((active(&world), conditions(&world).len()), (1, 0));
    end(&mut world, "Succeeded");
    assert_eq!(conditions(&settle(world))[1], "Complete:CompletionsReached");
}

#[test]
fn a_finished_or_dying_job_holds_no_pod() {
    let mut world = settle(world(json!({})));
    Arc::make_mut(&mut world.job).metadata.deletion_timestamp = Some(Time(start()));
    let end = settle(world);
    assert!(end.pods.iter().all(|pod| !tally::has_finalizer(pod)));
}

#[test]
fn fewer_in_parallel_ends_some() {
    let mut world = settle(world(json!({"completions": 5, "parallelism": 4})));
    Arc::make_mut(&mut world.job).spec.as_mut().unwrap().parallelism = Some(1);
    assert_eq!(active(&settle(world)), 1);
}

#[test]
fn an_index_keeps_its_failures_until_the_next_pod_knows_them() {
    let spec = json!({"completionMode": "Indexed", "completions": 1, "parallelism": 1, "backoffLimit": i32::MAX, "backoffLimitPerIndex": 1});
    let mut world = settle(world(spec));
    end(&mut world, "Failed");
    world = settle(world);
    assert!(active(&world) == 0 && tally::has_finalizer(&world.pods[0]));
    world.now += SignedDuration::from_secs(10);
    world = settle(world);
    assert!(active(&world) == 1 && !tally::has_finalizer(&world.pods[0]));
    assert_eq!((world.pods[1].metadata.annotations.as_ref().unwrap()[tally::FAILURE_COUNT].as_str(), status(&world).failed), ("1", Some(1)));
    end(&mut world, "Failed");
    assert_eq!(conditions(&settle(world))[1], "Failed:FailedIndexes");
}

#[test]
fn success_rules_end_the_job_without_counting_the_rest_as_failed() {
    let spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3, "successPolicy": {"rules": [{"succeededIndexes": "0"}]}});
    let mut world = settle(world(spec));
    end(&mut world, "Succeeded");
    world = settle(world);
    assert_eq!(conditions(&world), ["SuccessCriteriaMet:SuccessPolicy", "Complete:SuccessPolicy"]);
    assert_eq!((status(&world).failed, status(&world).succeeded), (None, Some(1)));
}

#[test]
fn pods_are_counted_although_no_more_can_be_started() {
    let mut world = settle(world(json!({"completions": 3, "parallelism": 1})));
    end(&mut world, "Succeeded");
    let actions = reconcile(&world).actions;
    assert!(matches!(&actions[..], [Action::SetStatus(_), Action::RemoveFinalizers(_), Action::CreatePods(1)]), "{actions:#?}");
}

#[test]
fn a_rule_may_fail_an_index_before_its_limit() {
    let rule = json!({"rules": [{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3]}}]});
    let spec =
        json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimit": i32::MAX, "backoffLimitPerIndex": 5, "podFailurePolicy": rule});
    let mut world = settle(world(spec));
    end(&mut world, "Failed");
    world = settle(world);
    world.now += SignedDuration::from_secs(600);
    world = settle(world);
    assert_eq!((active(&world), status(&world).failed_indexes.as_deref()), (1, Some("0")), "it is not tried again");
    end(&mut world, "Succeeded");
    assert_eq!(conditions(&settle(world)), ["FailureTarget:FailedIndexes", "Failed:FailedIndexes"]);
}

#[test]
fn too_many_failed_indexes_end_what_runs() {
    let spec =
        json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5, "backoffLimit": i32::MAX, "backoffLimitPerIndex": 0, "maxFailedIndexes": 1});
    let mut world = settle(world(spec));
    for left in [4, 0] {
        end(&mut world, "Failed");
        world = settle(world);
        assert_eq!(active(&world), left);
    }
    assert_eq!(conditions(&world), ["FailureTarget:MaxFailedIndexesExceeded", "Failed:MaxFailedIndexesExceeded"]);
}

#[test]
fn a_pod_that_goes_is_replaced_before_or_after_its_end_as_the_policy_says() {
    for (policy, meanwhile) in [("TerminatingOrFailed", 1), ("Failed", 0)] {
        let mut world = settle(world(json!({"completions": 1, "parallelism": 1, "podReplacementPolicy": policy})));
        let going = Time(world.now);
        Arc::make_mut(&mut world.pods[0]).metadata.deletion_timestamp = Some(going);
        world = settle(world);
        world.now += SignedDuration::from_secs(60);
        world = settle(world);
        assert_eq!(active(&world), meanwhile, "{policy}");
        // Here a pod that was let go is gone at once.
        let Some(going) = world.pods.iter().position(|pod| pods::is_terminating(pod)) else { continue };
        assert_eq!((policy, status(&world).terminating), ("Failed", Some(1)));
        Arc::make_mut(&mut world.pods[going]).status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
        world = settle(world);
        world.now += SignedDuration::from_secs(60);
        world = settle(world);
        assert_eq!((active(&world), status(&world).terminating.unwrap_or_default()), (1, 0), "{policy}");
    }
}
