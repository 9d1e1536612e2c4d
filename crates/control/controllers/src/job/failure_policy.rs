//! Failure policy: what a failed pod means for its job.
use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Counts towards the backoff limit.
    Count,
    Ignore,
    FailIndex,
    /// The job fails, with this message.
    FailJob(String),
}

/// The first rule that fits decides.
pub fn judge(job: &Job, pod: &Pod) -> Verdict {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    // Only a pod that failed by itself is judged; one deleted before is not.
    if crate::pods::phase(pod) != "Failed" {
        return Verdict::Count;
    }
    for (at, rule) in policy.iter().flat_map(|policy| policy.rules.iter().enumerate()) {
        let Some(what) = fits(rule, pod) else { continue };
        return match rule.action.as_str() {
            "FailJob" => Verdict::FailJob(format!("{what} matching FailJob rule at index {at}")),
            "FailIndex" => Verdict::FailIndex,
            "Ignore" => Verdict::Ignore,
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn fits(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let place = format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), crate::pods::name(pod));
    if let Some(codes) = &rule.on_exit_codes {
        let statuses = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
        for container in statuses.filter(|container| codes.container_name.as_ref().is_none_or(|name| *name == container.name)) {
            let Some(terminated) = container.state.as_ref().and_then(|state| state.terminated.as_ref()).filter(|t| t.exit_code != 0) else { continue };
            if codes.values.contains(&terminated.exit_code) == (codes.operator == "In") {
                return Some(format!("Container {} for pod {place} failed with exit code {}", container.name, terminated.exit_code));
            }
        }
        return None;
    }
    let conditions = status.conditions.iter().flatten();
    for pattern in rule.on_pod_conditions.iter().flatten() {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        if conditions.clone().any(|condition| condition.type_ == pattern.type_ && condition.status == wanted) {
            return Some(format!("Pod {place} has condition {}", pattern.type_));
        }
    }
    None
}
