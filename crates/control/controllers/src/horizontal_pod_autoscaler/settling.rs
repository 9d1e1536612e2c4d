//! An autoscaler settles: in each period it measures and decides once, and over the periods it finds the number its load needs.
use super::facts::{Facts, Scale};
use super::reconcile::{Action, PERIOD, World, reconcile};
use super::tests::{apply, conditions, now, pod, usage, world};
use controller_kit::converges;
use jiff::SignedDuration;
use std::collections::BTreeMap;

/// What pods use together, or why nobody can tell.
type Load = Result<i64, &'static str>;

/// An autoscaler that has not looked at its target yet, which has `replicas`.
fn begin(replicas: i32) -> (World, i32) {
    (World { facts: None, ..world(&[], replicas) }, replicas)
}

/// One period: the pods are measured, and what is decided is done. `failures` writes of the scale fail first.
fn period((world, mut replicas): (World, i32), load: Load, mut failures: usize) -> (World, i32) {
    let rounds = 2 + failures;
    let mut ended = false;
    let mut end = converges(world, rounds, reconcile, |world, action| match action {
        Action::Measure => {
            ended = false;
            let count = usize::try_from(replicas).unwrap();
            world.pods = (0..count).map(|number| pod(number, "1", "ready")).collect();
            let used = load.map(|load| usage("cpu", &vec![load / i64::from(replicas.max(1)); count])).map_err(str::to_owned);
            let scale = Ok(Scale { replicas, running: replicas, selector: "app=web".into() });
            world.facts = Some(Facts { taken: world.now, scale, usage: used, others: BTreeMap::new() });
        }
        Action::Scale { .. } if failures > 0 => {
            failures -= 1;
            ended = true;
        }
        // The first error ends a run; what is remembered is what it would have ended with.
        Action::Remember(_) if ended => ended = false,
        _ if ended => {}
        action => {
            if let Action::Scale { replicas: asked, .. } = &action {
                replicas = *asked;
            }
            apply(world, action);
        }
    });
    end.now += SignedDuration::try_from(PERIOD).unwrap();
    (end, replicas)
}

#[test]
fn the_replicas_follow_the_load_and_settle() {
    let (mut at, mut path) = (begin(2), Vec::new());
    for _ in 0..3 {
        at = period(at, Ok(1900), 0);
        path.push(at.1);
    }
    assert_eq!(path, [4, 4, 4], "half of what each pod asks for is aimed at");
    let steady = at.0.autoscaler.status.clone();
    at = period(at, Ok(1900), 0);
    assert_eq!(at.0.autoscaler.status, steady, "nothing is written in a period without news");
    at = period(at, Ok(9000), 0);
    assert_eq!((at.1, conditions(&at.0)[2].as_str()), (5, "ScalingLimited=True TooManyReplicas"));
    // Less load takes pods away only after five minutes.
    let since = at.0.now;
    while at.0.now < since + SignedDuration::from_secs(270) {
        at = period(at, Ok(400), 0);
        assert_eq!(at.1, 5, "{}", at.0.now);
    }
    assert!(conditions(&at.0)[0].ends_with("ScaleDownStabilized"));
    for _ in 0..4 {
        at = period(at, Ok(400), 0);
    }
    assert_eq!((at.1, at.0.autoscaler.status.as_ref().unwrap().desired_replicas), (1, 1));
    assert_eq!(now().duration_until(at.0.now), SignedDuration::try_from(PERIOD).unwrap() * 27);
}

#[test]
fn what_failed_at_first_is_done_then() {
    let unknown = Err("unable to fetch metrics from resource metrics API: the server is gone");
    let blind = period(begin(2), unknown, 0);
    assert_eq!((blind.1, conditions(&blind.0)[1].as_str()), (2, "ScalingActive=False FailedGetResourceMetric"));
    let seeing = period(blind, Ok(1900), 0);
    assert_eq!((seeing.1, conditions(&seeing.0)[1].as_str()), (4, "ScalingActive=True ValidMetricFound"));
    // A scale that can't be written is written again, and told of only then.
    let refused = period(begin(2), Ok(1900), 2);
    assert_eq!((refused.1, conditions(&refused.0)[0].as_str()), (4, "AbleToScale=True SucceededRescale"));
    // One without pods is scaled by hand alone.
    let off = period(begin(0), Ok(0), 0);
    assert_eq!((off.1, conditions(&off.0)[1].as_str()), (0, "ScalingActive=False ScalingDisabled"));
}
