//! Plans by table: what is decided in which world.
use crate::pod::fixture::{Fixture, at};
use crate::pod::plan::{Ending, VolumesState};
use crate::pod::probe_results::ProbeKind;
use crate::pod::runtime_state::RunState;
use crate::pod::start_history::Waiting;
use serde_json::{Value, json};
use std::time::Duration;

fn one(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i:1"}]})
}

fn two(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]})
}

fn with_init() -> Value {
    json!({"initContainers": [{"name": "i1"}, {"name": "side", "restartPolicy": "Always"}, {"name": "i2"}], "containers": [{"name": "a"}]})
}

#[track_caller]
fn check(fixture: Fixture, want: &[&str]) {
    assert_eq!(fixture.plan(), want);
}

#[test]
fn volumes_then_sandbox_then_containers_in_order() {
    check(Fixture::bare(two("Always")), &["mount"]);
    check(Fixture::bare(two("Always")).with(|f| f.busy.volumes = true), &[]);
    check(Fixture::bare(two("Always")).with(|f| f.volumes = VolumesState::Failed(at(1004))), &["wake +4s"]);
    check(Fixture::bare(two("Always")).with(|f| f.volumes = VolumesState::Failed(at(1000))), &["mount"]);
    check(Fixture::bare(two("Always")).with(|f| f.volumes = VolumesState::Mounted), &["sandbox 0"]);
    check(Fixture::new(two("Always")), &["start a 0"]);
    check(Fixture::new(two("Always")).with(|f| f.busy.start = Some("a".into())), &[]);
    check(Fixture::new(two("Always")).running("a"), &["start b 0"]);
    check(Fixture::new(two("Always")).running("a").running("b"), &[]);
}

#[test]
fn restart_policies_decide_who_starts_again() {
    check(Fixture::new(one("Always")).exited("a", 0), &["start a 1"]);
    check(Fixture::new(one("OnFailure")).exited("a", 1), &["start a 1"]);
    check(Fixture::new(one("OnFailure")).exited("a", 0), &[]);
    check(Fixture::new(one("Never")).exited("a", 1), &[]);
    check(Fixture::new(two("Never")).exited("a", 1).running("b"), &[]);
    let own = json!({"restartPolicy": "Never", "containers": [
        {"name": "a", "restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}, {"name": "b"}]});
    check(Fixture::new(own.clone()).exited("a", 42).running("b"), &["start a 1"]);
    check(Fixture::new(own).exited("a", 1).running("b"), &[]);
}

#[test]
fn crashes_back_off() {
    let crashed = |now: i64| {
        let mut fixture = Fixture::new(one("Always")).exited("a", 1).exited("a", 1);
        let hash = fixture.runtime.containers[0].hash.clone();
        fixture.history.restarting("a", &hash, at(980), at(981));
        fixture.now = now;
        fixture
    };
    check(crashed(991), &["hold a: CrashLoopBackOff", "wake +9s"]);
    check(crashed(1000), &["start a 2"]);
    let told = crashed(991).with(|f| {
        let message = "back-off 10s restarting failed container=a pod=p_ns(u)".into();
        f.history.set_waiting("a", Waiting { reason: "CrashLoopBackOff".into(), message });
    });
    check(told, &["wake +9s"]);
    // The other container need not wait.
    let mut two = Fixture::new(two("Always")).exited("a", 1);
    let hash = two.runtime.containers[0].hash.clone();
    two.history.restarting("a", &hash, at(980), at(981));
    two.now = 991;
    check(two, &["hold a: CrashLoopBackOff", "wake +9s", "start b 0"]);
}

#[test]
fn failed_pulls_are_shown_then_backed_off() {
    let failed = |now: i64| {
        let mut fixture = Fixture::new(one("Always"));
        let waiting = Waiting { reason: "ErrImagePull".into(), message: "no such host".into() };
        fixture.history.failed("a", waiting, Some("i:1".into()), at(1000));
        fixture.now = now;
        fixture
    };
    check(failed(1000), &["wake +1s"]);
    check(failed(1001), &["hold a: ImagePullBackOff", "wake +9s"]);
    check(failed(1010), &["start a 0"]);
    let config = Fixture::new(one("Always"))
        .with(|f| f.history.failed("a", Waiting { reason: "CreateContainerConfigError".into(), message: String::new() }, None, at(1000)));
    check(config, &["wake +1s"]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    check(Fixture::new(with_init()), &["start i1 0"]);
    check(Fixture::new(with_init()).running("i1"), &[]);
    check(Fixture::new(with_init()).exited("i1", 1), &["start i1 1"]);
    check(Fixture::new(with_init()).exited("i1", 0), &["start side 0"]);
    check(Fixture::new(with_init()).exited("i1", 0).running("side"), &["start i2 0"]);
    check(Fixture::new(with_init()).exited("i1", 0).running("side").exited("i2", 0), &["start a 0"]);
    // Once a regular container is there, finished ones are not run again, even if their records are gone.
    check(Fixture::new(with_init()).running("side").running("a"), &[]);
    check(Fixture::new(with_init()).exited("side", 0).running("a"), &["start side 1"]);
    let never = Fixture::new(with_init()).with(|f| f.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into()));
    check(never.exited("i1", 1), &[]);
}

#[test]
fn a_new_sandbox_starts_from_the_beginning() {
    let lost = Fixture::new(with_init()).exited("i1", 0).running("side").exited("i2", 0).running("a").with(|f| f.runtime.sandboxes[0].ready = false);
    check(lost, &["stop s0 to replace it"]);
    let stopped =
        || Fixture::new(with_init()).exited("i1", 0).exited("side", 0).exited("i2", 0).exited("a", 137).with(|f| f.runtime.sandboxes[0].ready = false);
    check(stopped(), &["sandbox 1"]);
    check(stopped().sandbox(true), &["start i1 1"]);
    // One that died before anything ran in it goes; the next is above all there are, in whatever order they come.
    let failed = || Fixture::bare(one("Always")).with(|f| f.volumes = VolumesState::Mounted).sandbox(false).sandbox(false);
    check(failed(), &["sandbox 2 instead of s1 s0"]);
    check(failed().with(|f| f.runtime.sandboxes.reverse()), &["sandbox 2 instead of s0 s1"]);
    // A pod that never restarts is not given a new one.
    check(Fixture::new(one("Never")).exited("a", 1).with(|f| f.runtime.sandboxes[0].ready = false), &[]);
    check(Fixture::new(one("Never")).exited("a", 1).with(|f| f.runtime.sandboxes[0].addresses.clear()), &["stop s0"]);
}

#[test]
fn sidecars_gate_by_their_startup_probe() {
    let probed = || json!({"initContainers": [{"name": "side", "restartPolicy": "Always", "startupProbe": {"exec": {}}}], "containers": [{"name": "a"}]});
    check(Fixture::new(probed()).running("side"), &[]);
    check(Fixture::new(probed()).running("side").probe("side0", ProbeKind::Startup, true), &["start a 0"]);
    check(Fixture::new(probed()).running("side").probe("side0", ProbeKind::Startup, false), &["kill side0 in 30s to restart"]);
}

#[test]
fn probes_and_changes_end_containers() {
    let spec = |policy: &str| {
        json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 7, "containers": [
        {"name": "a", "image": "i:1", "livenessProbe": {"exec": {}, "terminationGracePeriodSeconds": 3}}]})
    };
    check(Fixture::new(spec("Always")).running("a").probe("a0", ProbeKind::Liveness, false), &["kill a0 in 3s to restart"]);
    check(Fixture::new(spec("Never")).running("a").probe("a0", ProbeKind::Liveness, false), &["kill a0 in 3s"]);
    check(Fixture::new(spec("Never")).running("a").with(|f| f.runtime.containers[0].hash = "other".into()), &["kill a0 in 7s to restart"]);
    let killing = Fixture::new(spec("Always")).running("a").probe("a0", ProbeKind::Liveness, false).with(|f| {
        f.busy.kills.insert("a0".into());
    });
    check(killing, &[]);
    // What was ended to start again does so whatever its policy.
    let ended = Fixture::new(spec("Never")).exited("a", 0).with(|f| {
        f.to_restart.insert("a0".into());
    });
    check(ended, &["start a 1"]);
}

#[test]
fn ending_goes_from_containers_to_volumes() {
    let full = || Fixture::new(with_init()).exited("i1", 0).running("side").exited("i2", 0).running("a").deleted();
    check(full(), &["kill a0 in 30s", "kill side0 in 30s after a0"]);
    check(full().with(|f| f.ending = Some(Ending { grace: Some(Duration::from_secs(1)), failure: None })), &["kill a0 in 1s", "kill side0 in 1s after a0"]);
    check(full().with(|f| f.busy.kills = ["a0".into(), "side0".into()].into()), &[]);
    let dead = || Fixture::new(one("Always")).exited("a", 137).deleted();
    check(dead(), &["stop s0"]);
    check(dead().with(|f| f.busy.start = Some("a".into())), &[]);
    check(dead().with(|f| f.runtime.sandboxes[0].ready = false), &["clean up"]);
    check(dead().with(|f| (f.runtime.sandboxes[0].ready, f.volumes) = (false, VolumesState::Unmounted)), &[]);
    // An agent that just started does not know whether volumes are mounted.
    check(Fixture::bare(one("Always")).with(|f| f.volumes = VolumesState::Unknown).deleted(), &["clean up"]);
}

#[test]
fn what_an_earlier_agent_left_half_done_is_done_anew() {
    check(Fixture::new(one("Always")).container("a", RunState::Created, 0), &["start a 1"]);
    check(Fixture::new(with_init()).container("i1", RunState::Created, 0), &["start i1 1"]);
    check(Fixture::new(one("Always")).container("a", RunState::Unknown, 0), &["kill a0 in 30s to restart"]);
}

#[test]
fn ephemeral_containers_start_once_at_any_time() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]});
    check(Fixture::new(spec.clone()).running("i"), &["start e 0"]);
    check(Fixture::new(spec).running("i").exited("e", 1), &[]);
}

#[test]
fn every_plan_converges() {
    // Carrying out a plan makes a world in which it is not decided again.
    let mut fixture = Fixture::bare(with_init());
    let mut steps = Vec::new();
    for _ in 0..20 {
        let Some(action) = fixture.plan().into_iter().next() else { break };
        let words: Vec<&str> = action.split(' ').collect();
        fixture = match words[..] {
            ["mount"] => fixture.with(|f| f.volumes = VolumesState::Mounted),
            ["sandbox", _] => fixture.sandbox(true),
            ["start", name @ ("i1" | "i2"), _] => fixture.exited(name, 0),
            ["start", name, _] => fixture.running(name),
            _ => panic!("{action} is not expected"),
        };
        steps.push(action);
    }
    assert_eq!(steps, ["mount", "sandbox 0", "start i1 0", "start side 0", "start i2 0", "start a 0"]);
}
