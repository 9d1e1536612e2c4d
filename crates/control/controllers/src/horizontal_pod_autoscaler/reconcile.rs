//! Decides: how many replicas an autoscaler's target shall have, and what the autoscaler says of itself.
use super::behavior::{self, Memory};
use super::facts::{Facts, Scale};
use super::other_metrics::{self, Answer, Question, Scaled};
use super::replicas::{Measured, Proposal, Target, Tolerances, propose};
use controller_kit::Plan;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerStatus, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ResourceMetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::sync::Arc;
use std::time::Duration;

/// How often a target is looked at (`--horizontal-pod-autoscaler-sync-period`).
pub const PERIOD: Duration = Duration::from_secs(15);
/// By how much a ratio may miss 1 unless the behavior says otherwise (`--horizontal-pod-autoscaler-tolerance`).
const TOLERANCE: f64 = 0.1;

pub struct World {
    pub autoscaler: Arc<HorizontalPodAutoscaler>,
    /// `None` before they were first measured.
    pub facts: Option<Facts>,
    /// Those the scale's selector selects.
    pub pods: Vec<Arc<Pod>>,
    pub memory: Memory,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// Looks at the target and its pods; the key comes back with what was found.
    Measure,
    Scale {
        replicas: i32,
        reason: String,
    },
    SetStatus(Box<HorizontalPodAutoscalerStatus>),
    Remember(Memory),
    Tell {
        warning: bool,
        reason: &'static str,
        message: String,
    },
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let age = world.facts.as_ref().map(|facts| Duration::try_from(world.now.duration_since(facts.taken)).unwrap_or_default());
    let decided = world.facts.as_ref().is_some_and(|facts| world.memory.decided == Some(facts.taken));
    match (&world.facts, age) {
        (Some(facts), Some(age)) if !(decided && age >= PERIOD) => {
            let mut plan = if decided { Plan::nothing() } else { decide(world, facts) };
            plan.look_again(PERIOD.saturating_sub(age));
            plan
        }
        _ => Plan { actions: vec![Action::Measure], again_after: Some(Duration::ZERO) },
    }
}

/// What is being found out: the status it leads to, and what is told on the way.
struct Finding<'a> {
    world: &'a World,
    status: HorizontalPodAutoscalerStatus,
    plan: Plan<Action>,
}

fn decide(world: &World, facts: &Facts) -> Plan<Action> {
    let mut finding = Finding { world, status: world.autoscaler.status.clone().unwrap_or_default(), plan: Plan::nothing() };
    let mut memory = world.memory.clone();
    memory.decided = Some(facts.taken);
    match &facts.scale {
        Ok(scale) => {
            finding.condition("AbleToScale", true, "SucceededGetScale", "the HPA controller was able to get the target's current scale");
            finding.follow(scale, facts, &mut memory);
        }
        Err(why) => {
            finding.tell(true, "FailedGetScale", why.clone());
            finding.condition("AbleToScale", false, "FailedGetScale", format!("the HPA controller was unable to get the target's current scale: {why}"));
        }
    }
    let Finding { mut plan, status, .. } = finding;
    if world.autoscaler.status.as_ref() != Some(&status) {
        plan.push(Action::SetStatus(Box::new(status)));
    }
    plan.push(Action::Remember(memory));
    plan
}

impl Finding<'_> {
    fn follow(&mut self, scale: &Scale, facts: &Facts, memory: &mut Memory) {
        let spec = self.world.autoscaler.spec.clone();
        let (least, most, current) = (spec.min_replicas.unwrap_or(1), spec.max_replicas, scale.replicas);
        self.status.current_replicas = Some(current);
        let (desired, reason) = if current == 0 && least != 0 {
            self.condition("ScalingActive", false, "ScalingDisabled", "scaling is disabled since the replica count of the target is zero");
            (0, String::new())
        } else if current > most {
            (most, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < least {
            (least, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            let Some((asked, metric)) = self.metrics(scale, facts) else { return };
            let reason = if asked > current { format!("{metric} above target") } else { "All metrics below target".to_owned() };
            let limited = behavior::limit(memory, spec.behavior.as_ref(), (current, asked), (least, most), self.world.now);
            self.condition("AbleToScale", true, limited.stabilized.0, limited.stabilized.1);
            match limited.limit {
                Some((reason, message)) => self.condition("ScalingLimited", true, reason, message),
                None => self.condition("ScalingLimited", false, "DesiredWithinRange", "the desired count is within the acceptable range"),
            }
            (limited.replicas, reason)
        };
        self.status.desired_replicas = desired;
        self.status.observed_generation = self.world.autoscaler.metadata.generation;
        if desired != current {
            self.condition("AbleToScale", true, "SucceededRescale", format!("the HPA controller was able to update the target scale to {desired}"));
            self.status.last_scale_time = Some(Time(self.world.now));
            behavior::scaled(memory, current, desired, self.world.now);
            self.plan.push(Action::Scale { replicas: desired, reason: reason.clone() });
            self.tell(false, "SuccessfulRescale", format!("New size: {desired}; reason: {reason}"));
        }
    }

    /// The most that a metric asks for, and which it is. `None` where nothing can be said; the status says why then.
    fn metrics(&mut self, scale: &Scale, facts: &Facts) -> Option<(i32, String)> {
        if scale.selector.is_empty() {
            let why = "selector is required";
            self.tell(true, "SelectorRequired", why.into());
            self.condition("ScalingActive", false, "InvalidSelector", "the HPA target's scale is missing a selector");
            return None;
        }
        let metrics = self.world.autoscaler.spec.metrics.clone().unwrap_or_default();
        let (mut best, mut invalid, mut statuses): (Option<(i32, String)>, Vec<Unknown>, Vec<MetricStatus>) = (None, Vec::new(), Vec::new());
        for metric in &metrics {
            match self.metric(metric, scale, facts) {
                Ok((replicas, name, status)) => {
                    statuses.push(status);
                    if best.as_ref().is_none_or(|(most, _)| replicas > *most) {
                        best = Some((replicas, name));
                    }
                }
                Err(unknown) => {
                    self.tell(true, unknown.reason, unknown.why.clone());
                    invalid.push(unknown);
                }
            }
        }
        self.status.current_metrics = (!statuses.is_empty()).then_some(statuses);
        let first = invalid.first().cloned();
        match (best, first) {
            // With one metric unknown it may go up by what the others say, but not down.
            (best, Some(first)) if best.as_ref().is_none_or(|(replicas, _)| *replicas < scale.replicas) => {
                self.condition("ScalingActive", false, first.reason, format!("the HPA was unable to compute the replica count: {}", first.why));
                let message = format!(
                    "invalid metrics ({} invalid out of {}), first error is: failed to get {}: {}",
                    invalid.len(),
                    metrics.len(),
                    first.what,
                    first.why
                );
                self.tell(true, "FailedComputeMetricsReplicas", message);
                None
            }
            (Some((replicas, name)), _) => {
                let message = format!("the HPA was able to successfully calculate a replica count from {name}");
                self.condition("ScalingActive", true, "ValidMetricFound", message);
                Some((replicas, name))
            }
            (None, _) => None,
        }
    }

    fn metric(&self, metric: &MetricSpec, scale: &Scale, facts: &Facts) -> Result<(i32, String, MetricStatus), Unknown> {
        if let Some(source) = &metric.resource {
            let (proposal, name) = self.resource(scale, facts, &source.name, None, &source.target, "FailedGetResourceMetric")?;
            let status = ResourceMetricStatus { name: source.name.clone(), current: current(&source.name, proposal) };
            return Ok((proposal.replicas, name, MetricStatus { type_: metric.type_.clone(), resource: Some(status), ..MetricStatus::default() }));
        }
        if let Some(source) = &metric.container_resource {
            let container = Some(source.container.as_str());
            let (proposal, name) = self.resource(scale, facts, &source.name, container, &source.target, "FailedGetContainerResourceMetric")?;
            let current = current(&source.name, proposal);
            let status = ContainerResourceMetricStatus { name: source.name.clone(), container: source.container.clone(), current };
            return Ok((proposal.replicas, name, MetricStatus { type_: metric.type_.clone(), container_resource: Some(status), ..MetricStatus::default() }));
        }
        let (reason, what) = match metric.type_.as_str() {
            "Pods" => ("FailedGetPodsMetric", "pods metric value".to_owned()),
            "Object" => ("FailedGetObjectMetric", "object metric value".to_owned()),
            "External" => {
                let name = metric.external.as_ref().map(|source| source.metric.name.clone()).unwrap_or_default();
                ("FailedGetExternalMetric", format!("{name} external metric value"))
            }
            other => return Err(Unknown { reason: "InvalidMetricSourceType", what: "metric".into(), why: format!("unknown metric source type {other:?}") }),
        };
        // Asked for a moment ago; a metric that came since is asked for the next time.
        let question = Question::of(metric, &scale.selector);
        let unasked: Answer = Err("it is asked for now".into());
        let answer = question.and_then(|question| facts.others.get(&question)).unwrap_or(&unasked);
        let scaled = Scaled { wanted: scale.replicas, running: scale.running, pods: &self.world.pods, tolerances: self.tolerances(), now: self.world.now };
        other_metrics::decide(metric, answer, &scaled).map_err(|why| Unknown { reason, what, why })
    }

    fn resource(
        &self,
        scale: &Scale,
        facts: &Facts,
        resource: &str,
        container: Option<&str>,
        target: &MetricTarget,
        reason: &'static str,
    ) -> Result<(Proposal, String), Unknown> {
        let what = format!("{resource}{} metric value", if container.is_some() { " container" } else { " resource" });
        let unknown = |why: String| Unknown { reason, what: what.clone(), why: format!("failed to get {resource} utilization: {why}") };
        let usage = facts.usage.as_ref().map_err(|why| unknown(format!("unable to get metrics for resource {resource}: {why}")))?;
        let wanted = match (target.average_utilization, target.average_value.as_ref().and_then(super::facts::milli)) {
            (_, Some(value)) => Target::AverageValue(value),
            (Some(percent), None) => Target::Utilization(percent),
            (None, None) => {
                return Err(unknown(
                    "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into(),
                ));
            }
        };
        let measured =
            Measured { replicas: scale.replicas, pods: &self.world.pods, usage, resource, container, tolerances: self.tolerances(), now: self.world.now };
        let proposal = propose(&measured, wanted).map_err(unknown)?;
        let of = if container.is_some() { "container resource" } else { "resource" };
        let name = match wanted {
            Target::Utilization(_) => format!("{resource} {of} utilization (percentage of request)"),
            Target::AverageValue(_) => format!("{resource} {of}"),
        };
        Ok((proposal, name))
    }

    fn tolerances(&self) -> Tolerances {
        let behavior = self.world.autoscaler.spec.behavior.as_ref();
        let of = |rules: Option<&HPAScalingRules>| {
            let own = rules.and_then(|rules| rules.tolerance.as_ref()).and_then(super::facts::milli);
            own.map_or(TOLERANCE, |milli| milli as f64 / 1000.0)
        };
        Tolerances { up: of(behavior.and_then(|b| b.scale_up.as_ref())), down: of(behavior.and_then(|b| b.scale_down.as_ref())) }
    }

    fn tell(&mut self, warning: bool, reason: &'static str, message: String) {
        self.plan.push(Action::Tell { warning, reason, message });
    }

    fn condition(&mut self, kind: &str, holds: bool, reason: &str, message: impl Into<String>) {
        let status = if holds { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let place = conditions.iter().position(|condition| condition.type_ == kind).unwrap_or_else(|| {
            conditions.push(HorizontalPodAutoscalerCondition { type_: kind.into(), ..HorizontalPodAutoscalerCondition::default() });
            conditions.len() - 1
        });
        let condition = &mut conditions[place];
        if condition.status != status {
            condition.last_transition_time = Some(Time(self.world.now));
        }
        condition.status = status.into();
        condition.reason = Some(reason.into());
        condition.message = Some(message.into());
    }
}

/// A metric that could not be had.
#[derive(Clone)]
struct Unknown {
    reason: &'static str,
    what: String,
    why: String,
}

fn current(resource: &str, proposal: Proposal) -> MetricValueStatus {
    let average = match resource {
        "memory" => api_meta::Quantity::from_bytes(proposal.average / 1000),
        _ => api_meta::Quantity::from_millis(proposal.average),
    };
    MetricValueStatus { average_utilization: proposal.utilization, average_value: Some(WireQuantity(average.to_string())), value: None }
}
