//! Conditions: what a namespace's deletion has come to, as its status tells it.
use controller_kit::whole_seconds;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use std::collections::BTreeMap;

/// How one round of deleting a namespace's content went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub discovery_failures: Vec<String>,
    pub deletion_failures: Vec<String>,
    /// By `resource.group`.
    pub remaining: BTreeMap<String, usize>,
    /// By finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// How many seconds the rest may still take.
    pub estimate_seconds: u64,
}

impl Outcome {
    pub fn is_empty(&self) -> bool {
        self.remaining.is_empty() && self.discovery_failures.is_empty() && self.deletion_failures.is_empty()
    }

    /// The conditions after this round; what did not change keeps its transition time.
    pub fn conditions(&self, old: &[NamespaceCondition], now: Timestamp) -> Vec<NamespaceCondition> {
        let list = |counts: &BTreeMap<String, usize>, what: &str| {
            counts.iter().map(|(name, n)| format!("{name} {what} {n} resource instances")).collect::<Vec<_>>().join(", ")
        };
        let all = [
            self.one(
                "NamespaceDeletionDiscoveryFailure",
                (!self.discovery_failures.is_empty()).then(|| {
                    (
                        "DiscoveryFailed",
                        format!("Discovery failed for some groups, {} failing: {}", self.discovery_failures.len(), self.discovery_failures.join(", ")),
                    )
                }),
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            self.one("NamespaceDeletionGroupVersionParsingFailure", None, ("ParsedGroupVersions", "All legacy kube types successfully parsed")),
            self.one(
                "NamespaceDeletionContentFailure",
                (!self.deletion_failures.is_empty()).then(|| {
                    let message =
                        format!("Failed to delete all resource types, {} remaining: {}", self.deletion_failures.len(), self.deletion_failures.join(", "));
                    ("ContentDeletionFailed", message)
                }),
                ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            ),
            self.one(
                "NamespaceContentRemaining",
                (!self.remaining.is_empty()).then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", list(&self.remaining, "has")))),
                ("ContentRemoved", "All content successfully removed"),
            ),
            self.one(
                "NamespaceFinalizersRemaining",
                (!self.finalizers.is_empty())
                    .then(|| ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {}", list(&self.finalizers, "in")))),
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ];
        let mut conditions: Vec<NamespaceCondition> = old.iter().filter(|c| all.iter().all(|new| new.type_ != c.type_)).cloned().collect();
        for mut new in all {
            let current = old.iter().find(|c| c.type_ == new.type_);
            new.last_transition_time = match current {
                Some(current) if current.status == new.status => current.last_transition_time.clone(),
                _ => Some(whole_seconds(now)),
            };
            conditions.push(new);
        }
        conditions
    }

    fn one(&self, kind: &str, trouble: Option<(&str, String)>, fine: (&str, &str)) -> NamespaceCondition {
        let status = if trouble.is_some() { "True" } else { "False" };
        let (reason, message) = trouble.unwrap_or_else(|| (fine.0, fine.1.to_owned()));
        NamespaceCondition { type_: kind.into(), status: status.into(), reason: Some(reason.into()), message: Some(message), last_transition_time: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_told_and_unchanged_times_stay() {
        let then = Timestamp::UNIX_EPOCH;
        let clean = Outcome::default().conditions(&[], then);
        assert!(clean.len() == 5 && clean.iter().all(|c| c.status == "False"));
        let rest = Outcome { remaining: [("pods.".to_owned(), 2)].into(), finalizers: [("x/y".to_owned(), 1)].into(), ..Default::default() };
        let later = "2026-01-01T00:00:00Z".parse().unwrap();
        let conditions = rest.conditions(&clean, later);
        let of = |kind: &str| conditions.iter().find(|c| c.type_ == kind).unwrap();
        assert_eq!(of("NamespaceContentRemaining").message.as_deref(), Some("Some resources are remaining: pods. has 2 resource instances"));
        assert_eq!(
            of("NamespaceFinalizersRemaining").message.as_deref(),
            Some("Some content in the namespace has finalizers remaining: x/y in 1 resource instances")
        );
        assert_eq!(of("NamespaceContentRemaining").last_transition_time, Some(whole_seconds(later)));
        assert_eq!(of("NamespaceDeletionContentFailure").last_transition_time, Some(whole_seconds(then)));
    }
}
