//! How fast a scale may follow what metrics ask for: stabilization, rates, and the least and the most.
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscalerBehavior};

/// Without a behavior of its own an autoscaler goes down to the most that was asked for in this time.
const DOWNSCALE_STABILIZATION: SignedDuration = SignedDuration::from_mins(5);

/// What an autoscaler's past decides of its present.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// The facts that were decided on last.
    pub decided: Option<Timestamp>,
    pub recommendations: Vec<(Timestamp, i32)>,
    /// Replicas that came and that went, and when.
    pub added: Vec<(Timestamp, i32)>,
    pub removed: Vec<(Timestamp, i32)>,
}

/// A condition's reason and message.
pub type Reason = (&'static str, &'static str);

/// The number to go to, with why it is not the one asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    pub replicas: i32,
    /// Of condition AbleToScale.
    pub stabilized: Reason,
    /// Of condition ScalingLimited; `None`: it is not.
    pub limit: Option<Reason>,
}

const READY: Reason = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: Reason = ("ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation");
const UP_STABILIZED: Reason = ("ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation");
const TOO_FEW: Reason = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Reason = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Reason = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Reason = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

/// Takes what metrics ask for into the memory, and says how far to go.
pub fn limit(
    memory: &mut Memory,
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    (current, desired): (i32, i32),
    (least, most): (i32, i32),
    now: Timestamp,
) -> Limited {
    if memory.recommendations.is_empty() {
        memory.recommendations.push((now, current));
    }
    let limited = match behavior {
        None => without_behavior(memory, (current, desired), (least, most), now),
        Some(behavior) => with_behavior(memory, behavior, (current, desired), (least, most), now),
    };
    memory.recommendations.push((now, desired));
    let longest = behavior.map_or(DOWNSCALE_STABILIZATION, |behavior| window(behavior.scale_up.as_ref(), 0).max(window(behavior.scale_down.as_ref(), 300)));
    memory.recommendations.retain(|(at, _)| *at + longest >= now);
    let longest_period = SignedDuration::from_secs(behavior.map_or(0, |behavior| {
        let rules = behavior.scale_up.iter().chain(&behavior.scale_down);
        rules.flat_map(|rules| rules.policies.iter().flatten()).map(|policy| i64::from(policy.period_seconds)).max().unwrap_or(0)
    }));
    for events in [&mut memory.added, &mut memory.removed] {
        events.retain(|(at, _)| *at + longest_period > now);
    }
    limited
}

/// Notes that the number of replicas was changed.
pub fn scaled(memory: &mut Memory, current: i32, desired: i32, now: Timestamp) {
    if desired > current {
        memory.added.push((now, desired - current));
    } else if desired < current {
        memory.removed.push((now, current - desired));
    }
}

fn without_behavior(memory: &Memory, (current, desired): (i32, i32), (least, most): (i32, i32), now: Timestamp) -> Limited {
    let recent = memory.recommendations.iter().filter(|(at, _)| *at + DOWNSCALE_STABILIZATION >= now).map(|(_, replicas)| *replicas);
    let stable = recent.fold(desired, i32::max);
    // Twice as many at a time, or four if that is more.
    let rate = current.saturating_mul(2).max(4);
    let (most, too_many) = if most > rate { (rate, UP_LIMIT) } else { (most, TOO_MANY) };
    let (replicas, limit) = match stable {
        _ if stable < least => (least, Some(TOO_FEW)),
        _ if stable > most => (most, Some(too_many)),
        _ => (stable, None),
    };
    Limited { replicas, stabilized: if stable == desired { READY } else { DOWN_STABILIZED }, limit }
}

fn with_behavior(
    memory: &Memory,
    behavior: &HorizontalPodAutoscalerBehavior,
    (current, desired): (i32, i32),
    (least, most): (i32, i32),
    now: Timestamp,
) -> Limited {
    let (up, down) = (behavior.scale_up.as_ref(), behavior.scale_down.as_ref());
    let (mut lowest, mut highest) = (desired, desired);
    for (at, replicas) in &memory.recommendations {
        if *at > now - window(up, 0) {
            lowest = lowest.min(*replicas);
        }
        if *at > now - window(down, 300) {
            highest = highest.max(*replicas);
        }
    }
    let mut stable = current;
    if stable < lowest {
        stable = lowest;
    }
    if stable > highest {
        stable = highest;
    }
    let stabilized = match () {
        () if stable == desired => READY,
        () if desired >= current => UP_STABILIZED,
        () => DOWN_STABILIZED,
    };
    let (replicas, limit) = if stable > current {
        let rate = up_limit(memory, up, current, now).max(current);
        let (most, reason) = if most > rate { (rate, UP_LIMIT) } else { (most, TOO_MANY) };
        if stable > most { (most, Some(reason)) } else { (stable, None) }
    } else if stable < current {
        let rate = down_limit(memory, down, current, now).min(current);
        let (least, reason) = if least < rate { (rate, DOWN_LIMIT) } else { (least, TOO_FEW) };
        if stable < least { (least, Some(reason)) } else { (stable, None) }
    } else {
        (stable, None)
    };
    Limited { replicas, stabilized, limit }
}

fn window(rules: Option<&HPAScalingRules>, default: i32) -> SignedDuration {
    SignedDuration::from_secs(rules.and_then(|rules| rules.stabilization_window_seconds).unwrap_or(default).into())
}

/// How many there were when a period began: what came and went since is undone.
fn at_start(memory: &Memory, current: i32, period: i32, now: Timestamp) -> i32 {
    let within = |events: &[(Timestamp, i32)]| -> i32 {
        events.iter().filter(|(at, _)| *at > now - SignedDuration::from_secs(period.into())).map(|(_, change)| change).sum()
    };
    current - within(&memory.added) + within(&memory.removed)
}

fn up_limit(memory: &Memory, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
    let Some(rules) = rules else { return i32::MAX };
    let proposals = rules.policies.iter().flatten().map(|policy| {
        let start = at_start(memory, current, policy.period_seconds, now);
        if policy.type_ == "Pods" { start + policy.value } else { (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32 }
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => proposals.min().unwrap_or(i32::MAX),
        _ => proposals.max().unwrap_or(i32::MIN),
    }
}

fn down_limit(memory: &Memory, rules: Option<&HPAScalingRules>, current: i32, now: Timestamp) -> i32 {
    let Some(rules) = rules else { return i32::MIN };
    let proposals = rules.policies.iter().flatten().map(|policy| {
        let start = at_start(memory, current, policy.period_seconds, now);
        if policy.type_ == "Pods" { start - policy.value } else { (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32 }
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        // The policy that changes least leaves most.
        Some("Min") => proposals.max().unwrap_or(i32::MIN),
        _ => proposals.min().unwrap_or(i32::MAX),
    }
}
