//! Statuses by table: what the API is told in which world.
use super::fixture::{Fixture, at};
use super::plan::Ending;
use super::probe_results::ProbeKind;
use super::runtime_state::RunState;
use super::start_history::Waiting;
use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Value, json};

fn spec(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "b", "image": "i:1"}, {"name": "a", "image": "i:1"}]})
}

fn with_init(policy: &str) -> Value {
    json!({"restartPolicy": policy, "initContainers": [{"name": "i"}, {"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "a"}]})
}

fn phase(fixture: &Fixture) -> String {
    fixture.status().phase.unwrap()
}

/// `Type=status reason: message` of the conditions.
fn conditions(status: &PodStatus) -> Vec<String> {
    let one = |c: &k8s_openapi::api::core::v1::PodCondition| {
        let rest = [c.reason.clone(), c.message.clone()].into_iter().flatten().collect::<Vec<_>>().join(": ");
        format!("{}={} {rest}", c.type_, c.status).trim_end().to_owned()
    };
    status.conditions.iter().flatten().map(one).collect()
}

fn container(status: &PodStatus, name: &str) -> Value {
    let lists = [&status.container_statuses, &status.init_container_statuses];
    let found = lists.into_iter().flatten().flatten().find(|s| s.name == name).expect("the status has this container");
    serde_json::to_value(found).unwrap()
}

#[test]
fn addresses_are_of_each_family_the_pod_and_the_node_have() {
    let shown = |fixture: Fixture| {
        let status = fixture.status();
        let pods = status.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect::<Vec<_>>().join(",");
        let hosts = status.host_ips.iter().flatten().map(|ip| ip.ip.clone()).collect::<Vec<_>>().join(",");
        format!("{} {pods} {} {hosts}", status.pod_ip.unwrap_or_default(), status.host_ip.unwrap_or_default())
    };
    let both = |spec: Value, addresses: &[&str]| {
        let mut fixture = Fixture::bare(spec).sandbox(true);
        fixture.runtime.sandboxes[0].addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        fixture.host_ips = vec!["192.0.2.1".into(), "2001:db8::1".into()];
        fixture
    };
    assert_eq!(shown(both(spec("Always"), &["fd42::2", "10.42.0.2"])), "10.42.0.2 10.42.0.2,fd42::2 192.0.2.1 192.0.2.1,2001:db8::1");
    assert_eq!(shown(both(spec("Always"), &["10.42.0.2"])), "10.42.0.2 10.42.0.2 192.0.2.1 192.0.2.1,2001:db8::1");
    let mut of_host = spec("Always");
    of_host["hostNetwork"] = true.into();
    assert_eq!(shown(both(of_host.clone(), &[])), "192.0.2.1 192.0.2.1,2001:db8::1 192.0.2.1 192.0.2.1,2001:db8::1");
    // Before its sandbox is made, a pod has none.
    assert_eq!(shown(Fixture::bare(of_host)), "  192.0.2.1 192.0.2.1");
}

#[test]
fn phases_follow_containers_and_policy() {
    for (fixture, want) in [
        (Fixture::bare(spec("Always")), "Pending"),
        (Fixture::new(spec("Always")).running("a"), "Pending"),
        (Fixture::new(spec("Always")).running("a").running("b"), "Running"),
        (Fixture::new(spec("Always")).exited("a", 1).exited("b", 0), "Running"),
        (Fixture::new(spec("Never")).exited("a", 0).running("b"), "Running"),
        (Fixture::new(spec("Never")).exited("a", 0).exited("b", 0), "Succeeded"),
        (Fixture::new(spec("Never")).exited("a", 0).exited("b", 2), "Failed"),
        (Fixture::new(spec("OnFailure")).exited("a", 0).exited("b", 2), "Running"),
        (Fixture::new(spec("OnFailure")).exited("a", 0).exited("b", 0), "Succeeded"),
        (Fixture::new(with_init("Never")).exited("i", 1), "Failed"),
        (Fixture::new(with_init("Always")).exited("i", 1), "Pending"),
        (Fixture::new(with_init("Always")).exited("i", 0).running("side"), "Pending"),
        (Fixture::new(with_init("Always")).exited("i", 0).running("side").running("a"), "Running"),
        (Fixture::new(spec("Always")).exited("a", 0).exited("b", 0).deleted(), "Succeeded"),
        (Fixture::new(spec("Always")).exited("a", 0).exited("b", 143).deleted(), "Failed"),
    ] {
        assert_eq!(phase(&fixture), want, "{:?}", fixture.runtime.containers);
    }
}

#[test]
fn a_terminal_phase_waits_until_nothing_runs_and_then_stays() {
    let done = || Fixture::new(with_init("Never")).exited("i", 0).running("side").exited("a", 0).with(|f| f.old.phase = Some("Running".into()));
    assert_eq!(phase(&done()), "Running");
    let stopped = done().with(|f| f.runtime.containers.iter_mut().for_each(|c| c.state = RunState::Exited));
    assert_eq!(phase(&stopped), "Succeeded");
    assert_eq!(phase(&Fixture::new(spec("Always")).running("a").running("b").with(|f| f.old.phase = Some("Failed".into()))), "Failed");
    let deadline = Ending { grace: None, failure: Some(Waiting { reason: "DeadlineExceeded".into(), message: "late".into() }) };
    let late = Fixture::new(spec("Always")).running("a").exited("b", 0).with(|f| f.ending = Some(deadline));
    assert_eq!((phase(&late), late.status().reason), ("Pending".into(), None));
    let late = late.with(|f| f.runtime.containers.iter_mut().for_each(|c| c.state = RunState::Exited)).status();
    assert_eq!((late.phase.as_deref(), late.reason.as_deref(), late.message.as_deref()), (Some("Failed"), Some("DeadlineExceeded"), Some("late")));
}

#[test]
fn a_pod_is_over_once_its_regular_containers_ended_for_good() {
    let with_sidecar = |policy: &str| Fixture::new(with_init(policy)).with(|f| f.old.phase = Some("Running".into())).exited("i", 0).running("side");
    for (fixture, want) in [
        (with_sidecar("Never").running("a"), false),
        (with_sidecar("Never").exited("a", 0), true),
        (with_sidecar("Never").exited("a", 1), true),
        (with_sidecar("OnFailure").exited("a", 0), true),
        (with_sidecar("OnFailure").exited("a", 1), false),
        (with_sidecar("Always").exited("a", 0), false),
        (Fixture::new(spec("Never")).running("a").with(|f| f.old.phase = Some("Succeeded".into())), true),
    ] {
        assert_eq!(fixture.is_over(), want, "{:?}", fixture.runtime.containers);
    }
    // Its sidecars then end with whatever code: the phase is that of the regular containers.
    let ended = |code: i32| {
        with_sidecar("Never").exited("a", code).with(|f| {
            f.ending = Some(Ending { grace: None, failure: None });
            f.runtime.containers.iter_mut().filter(|c| c.name == "side").for_each(|c| (c.state, c.exit_code) = (RunState::Exited, 137));
        })
    };
    assert_eq!((phase(&ended(0)), phase(&ended(1))), ("Succeeded".into(), "Failed".into()));
}

#[test]
fn conditions_name_what_is_missing() {
    assert_eq!(
        conditions(&Fixture::bare(with_init("Always")).status()),
        [
            "PodReadyToStartContainers=False",
            "Initialized=False ContainersNotInitialized: containers with incomplete status: [i side]",
            "Ready=False ContainersNotReady: containers with unready status: [side a]",
            "ContainersReady=False ContainersNotReady: containers with unready status: [side a]",
            "PodScheduled=True",
        ]
    );
    let ready = Fixture::new(spec("Always")).running("a").running("b");
    assert_eq!(conditions(&ready.status()), ["PodReadyToStartContainers=True", "Initialized=True", "Ready=True", "ContainersReady=True", "PodScheduled=True"]);
    let gated = ready.with(|f| {
        f.pod.spec.as_mut().unwrap().readiness_gates = serde_json::from_value(json!([{"conditionType": "x/y"}])).unwrap();
        f.old.conditions = serde_json::from_value(json!([{"type": "z", "status": "True"}])).unwrap();
    });
    let gated = conditions(&gated.status());
    assert_eq!(gated[0], "z=True");
    assert_eq!(gated[3], "Ready=False ReadinessGatesNotReady: corresponding condition of pod readiness gate \"x/y\" does not exist.");
    let done = conditions(&Fixture::new(spec("Never")).exited("a", 0).exited("b", 0).status());
    assert_eq!(done[1..4], ["Initialized=True PodCompleted", "Ready=False PodCompleted", "ContainersReady=False PodCompleted"]);
    let failed = conditions(&Fixture::new(spec("Never")).exited("a", 1).exited("b", 0).status());
    assert_eq!(failed[2], "Ready=False PodFailed");
}

#[test]
fn conditions_keep_their_time_while_they_stay() {
    let first = Fixture::new(spec("Always")).running("a").status();
    let second = Fixture::new(spec("Always")).running("a").running("b").with(|f| (f.old, f.now) = (first.clone(), 2000)).status();
    let time = |status: &PodStatus, type_: &str| status.conditions.iter().flatten().find(|c| c.type_ == type_).unwrap().last_transition_time.clone().unwrap().0;
    assert_eq!((time(&second, "Initialized"), time(&second, "Ready")), (at(1000), at(2000)));
    assert_eq!(second.start_time.unwrap().0, at(1000));
}

#[test]
fn containers_show_state_last_state_and_why_they_wait() {
    let status = Fixture::new(spec("Always")).exited("a", 3).running("a").exited("b", 1).waiting("b", "CrashLoopBackOff").status();
    let names: Vec<&str> = status.container_statuses.iter().flatten().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let a = container(&status, "a");
    assert_eq!((&a["restartCount"], &a["lastState"]["terminated"]["exitCode"], &a["containerID"]), (&json!(1), &json!(3), &json!("containerd://a1")));
    assert_eq!((&a["started"], &a["ready"]), (&json!(true), &json!(true)));
    let b = container(&status, "b");
    assert_eq!(b["state"]["waiting"], json!({"reason": "CrashLoopBackOff", "message": "why"}));
    assert_eq!((&b["lastState"]["terminated"]["reason"], &b["started"]), (&json!("Error"), &json!(false)));
    let new = Fixture::bare(spec("Always")).status();
    assert_eq!(container(&new, "a")["state"]["waiting"], json!({"reason": "ContainerCreating"}));
    let init = Fixture::new(with_init("Always")).running("i").status();
    assert_eq!(container(&init, "a")["state"]["waiting"], json!({"reason": "PodInitializing"}));
    assert_eq!(container(&Fixture::new(with_init("Always")).exited("i", 0).status(), "i")["ready"], true);
}

#[test]
fn probes_make_ready_and_started() {
    let probed = json!({"containers": [{"name": "a", "startupProbe": {"exec": {}}, "readinessProbe": {"exec": {}}}]});
    let shown = |fixture: Fixture| {
        let a = container(&fixture.status(), "a");
        (a["started"] == true, a["ready"] == true)
    };
    let running = || Fixture::new(probed.clone()).running("a");
    assert_eq!(shown(running()), (false, false));
    assert_eq!(shown(running().probe("a0", ProbeKind::Startup, true)), (true, false));
    assert_eq!(shown(running().probe("a0", ProbeKind::Startup, true).probe("a0", ProbeKind::Readiness, true)), (true, true));
    assert_eq!(shown(running().probe("a0", ProbeKind::Readiness, true)), (false, false));
}

#[test]
fn what_the_runtime_lost_is_told_as_lost() {
    let old: PodStatus = serde_json::from_value(json!({"phase": "Running", "podIP": "10.0.0.9", "containerStatuses": [
        {"name": "a", "restartCount": 4, "image": "", "imageID": "", "ready": true, "containerID": "containerd://x", "state": {"running": {}}}]}))
    .unwrap();
    let lost = Fixture::bare(spec("Always")).with(|f| f.old = old.clone()).status();
    let a = container(&lost, "a");
    assert_eq!((&a["restartCount"], &a["lastState"]["terminated"]["exitCode"]), (&json!(5), &json!(137)));
    assert_eq!(a["lastState"]["terminated"]["reason"], "ContainerStatusUnknown");
    // The same is told the next time.
    let again = Fixture::bare(spec("Always")).with(|f| f.old = lost.clone()).status();
    assert_eq!(container(&again, "a"), a);
    assert_eq!(again, lost);
    let finished = Fixture::bare(spec("Always")).with(|f| (f.old, f.finished) = (old, true)).deleted().status();
    assert_eq!((finished.phase.as_deref(), &container(&finished, "a")["state"]["terminated"]["exitCode"]), (Some("Failed"), &json!(137)));
}

#[test]
fn a_refused_pod_has_no_containers() {
    let failure = Waiting { reason: "OutOfcpu".into(), message: "Pod was rejected: ...".into() };
    let refused = Fixture::bare(spec("Always")).with(|f| (f.ending, f.finished) = (Some(Ending { grace: None, failure: Some(failure) }), true)).status();
    assert_eq!((refused.phase.as_deref(), refused.reason.as_deref(), refused.container_statuses), (Some("Failed"), Some("OutOfcpu"), None));
}

#[test]
fn a_status_follows_from_itself() {
    for fixture in [
        Fixture::new(with_init("Always")).exited("i", 0).running("side").running("a"),
        Fixture::new(spec("Never")).exited("a", 0).exited("b", 1),
        Fixture::new(spec("Always")).exited("a", 0).waiting("a", "CrashLoopBackOff").running("b"),
    ] {
        let first = fixture.status();
        let second = fixture.with(|f| (f.old, f.now) = (first.clone(), 5000)).status();
        assert_eq!(first, second);
    }
}
