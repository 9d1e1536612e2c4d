//! Rollout: a deployment and its ReplicaSets in the making; each step changes it, the end is compared with the start.
use super::limits::Limits;
use super::revision;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, ReplicaSet};
use std::sync::Arc;

pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

/// A ReplicaSet as it is and as it shall be.
#[derive(Clone, Debug)]
pub struct Set {
    /// `None` when it is yet to be created.
    pub was: Option<Arc<ReplicaSet>>,
    pub now: ReplicaSet,
}

impl Set {
    pub fn replicas(&self) -> i32 {
        self.now.spec.replicas.unwrap_or(1)
    }
    pub fn available(&self) -> i32 {
        self.now.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
    }
    /// The pods it really has.
    pub fn actual(&self) -> i32 {
        self.now.status.as_ref().map(|status| status.replicas).unwrap_or_default()
    }
    pub fn name(&self) -> &str {
        self.now.metadata.name.as_deref().unwrap_or_default()
    }
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.now.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }
    pub fn annotate(&mut self, name: &str, value: String) {
        self.now.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value);
    }
    pub fn is_active(&self) -> bool {
        self.replicas() > 0
    }
    fn age(&self) -> (Option<jiff::Timestamp>, &str) {
        (self.now.metadata.creation_timestamp.as_ref().map(|time| time.0), self.name())
    }
    /// Scales it and writes down how many the deployment wants.
    pub fn scale(&mut self, replicas: i32, limits: &Limits) {
        self.now.spec.replicas = Some(replicas);
        self.annotate(DESIRED_REPLICAS, limits.replicas.to_string());
        self.annotate(MAX_REPLICAS, (limits.replicas + limits.max_surge).to_string());
    }
}

/// The state of one decision.
pub struct Rollout {
    pub deployment: Deployment,
    pub limits: Limits,
    pub new: Option<Set>,
    /// Oldest first.
    pub old: Vec<Set>,
}

impl Rollout {
    /// Splits the deployment's sets into the one of the current template and the others.
    pub fn new(deployment: Deployment, owned: &[Arc<ReplicaSet>]) -> Self {
        let mut old: Vec<Set> = owned.iter().map(|set| Set { was: Some(set.clone()), now: (**set).clone() }).collect();
        old.sort_by(|a, b| a.age().cmp(&b.age()));
        let limits = Limits::of(&deployment);
        let at = old.iter().position(|set| revision::same(set.now.spec.template.as_ref(), &deployment.spec.template));
        let new = at.map(|at| old.remove(at));
        Self { deployment, limits, new, old }
    }

    pub fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }
    pub fn total(&self) -> i32 {
        self.all().map(Set::replicas).sum()
    }
    pub fn condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.deployment.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(kind))
    }

    /// How many the new set should have by the strategy.
    pub fn wanted_of_new(&self, current: i32) -> i32 {
        let limits = &self.limits;
        if !limits.rolling {
            return limits.replicas;
        }
        let max_total = limits.replicas + limits.max_surge;
        let total = self.total();
        if total >= max_total {
            return current;
        }
        current + (max_total - total).min(limits.replicas - current)
    }

    /// Brings the new set to its size: true if that changes it.
    pub fn scale_new(&mut self) -> bool {
        let Some(current) = self.new.as_ref().map(Set::replicas) else { return false };
        let limits = self.limits.clone();
        let wanted = if current > limits.replicas { limits.replicas } else { self.wanted_of_new(current) };
        let Some(new) = &mut self.new else { return false };
        if wanted == current {
            return false;
        }
        new.scale(wanted, &limits);
        true
    }

    /// Takes old pods away as far as enough stay available; the unhealthy go first.
    pub fn roll_old(&mut self) -> bool {
        let limits = self.limits.clone();
        let old_pods: i32 = self.old.iter().map(Set::replicas).sum();
        if old_pods == 0 {
            return false;
        }
        let min_available = limits.replicas - limits.max_unavailable;
        let new_unavailable = self.new.as_ref().map(|set| set.replicas() - set.available()).unwrap_or_default();
        let max_scaled_down = self.total() - min_available - new_unavailable;
        if max_scaled_down <= 0 {
            return false;
        }
        let mut changed = false;
        let mut cleaned = 0;
        for set in self.old.iter_mut().filter(|set| set.is_active()) {
            let by = (max_scaled_down - cleaned).min(set.replicas() - set.available());
            if by > 0 {
                set.scale(set.replicas() - by, &limits);
                cleaned += by;
                changed = true;
            }
        }
        let available: i32 = self.all().map(Set::available).sum();
        let mut spare = available - min_available;
        for set in self.old.iter_mut().filter(|set| set.is_active()) {
            let by = spare.min(set.replicas());
            if by > 0 {
                set.scale(set.replicas() - by, &limits);
                spare -= by;
                changed = true;
            }
        }
        changed
    }

    /// All old sets to zero: true if that changes any.
    pub fn stop_old(&mut self) -> bool {
        let limits = self.limits.clone();
        let mut changed = false;
        for set in self.old.iter_mut().filter(|set| set.is_active()) {
            set.scale(0, &limits);
            changed = true;
        }
        changed
    }

    /// Whether the deployment's size was changed since its sets were last scaled.
    pub fn is_scaling(&self) -> bool {
        let desired = |set: &Set| set.annotation(DESIRED_REPLICAS).and_then(|text| text.parse::<i32>().ok());
        self.all().filter(|set| set.is_active()).any(|set| desired(set).is_some_and(|desired| desired != self.limits.replicas))
    }

    /// Follows a changed size without rolling: the one active set takes it all, several share in proportion.
    pub fn scale(&mut self) {
        let limits = self.limits.clone();
        if let Some(only) = self.active_or_latest() {
            if only.replicas() != limits.replicas {
                only.scale(limits.replicas, &limits);
            }
            return;
        }
        if self.is_saturated() {
            self.stop_old();
            return;
        }
        if limits.rolling {
            self.scale_in_proportion();
        }
    }

    fn active_or_latest(&mut self) -> Option<&mut Set> {
        let active = self.all().filter(|set| set.is_active()).count();
        match active {
            0 if self.new.is_some() => self.new.as_mut(),
            0 => self.old.last_mut(),
            1 => self.old.iter_mut().chain(&mut self.new).find(|set| set.is_active()),
            _ => None,
        }
    }

    /// The new set already has all pods, available, and was told so.
    fn is_saturated(&self) -> bool {
        let wanted = self.limits.replicas;
        self.new.as_ref().is_some_and(|new| {
            let desired = new.annotation(DESIRED_REPLICAS).and_then(|text| text.parse::<i32>().ok());
            new.replicas() == wanted && desired == Some(wanted) && new.available() == wanted
        })
    }

    fn scale_in_proportion(&mut self) {
        let limits = self.limits.clone();
        let status_replicas = self.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default();
        let allowed = if limits.replicas > 0 { limits.replicas + limits.max_surge } else { 0 };
        let add = allowed - self.total();
        let mut sets: Vec<&mut Set> = self.old.iter_mut().chain(&mut self.new).filter(|set| set.is_active()).collect();
        // The larger first; of equals the newer gets more when growing and the older loses more when shrinking.
        sets.sort_by(|a, b| b.replicas().cmp(&a.replicas()).then_with(|| if add > 0 { b.age().cmp(&a.age()) } else { a.age().cmp(&b.age()) }));
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
        for set in &sets {
            let share = if add == 0 || add == added {
                0
            } else {
                let fraction = fraction(set, &limits, status_replicas);
                if add > 0 { fraction.min(add - added) } else { fraction.max(add - added) }
            };
            sizes.push(set.replicas() + share);
            added += share;
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + add - added).max(0);
        }
        for (set, size) in sets.into_iter().zip(sizes) {
            set.scale(size, &limits);
        }
    }
}

/// How many a set should gain or lose to keep its part of the whole.
fn fraction(set: &Set, limits: &Limits, status_replicas: i32) -> i32 {
    if limits.replicas == 0 {
        return -set.replicas();
    }
    let before = set.annotation(MAX_REPLICAS).and_then(|text| text.parse::<i32>().ok()).filter(|n| *n != 0).unwrap_or(status_replicas);
    if before == 0 {
        return 0;
    }
    let size = f64::from(set.replicas()) * f64::from(limits.replicas + limits.max_surge) / f64::from(before);
    size.round() as i32 - set.replicas()
}
