//! FitError: why a pod fits nowhere, in upstream's words.
use crate::{Plugin, Plugins};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Why one node is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether fewer pods on the node might help.
    pub resolvable: bool,
}

impl Rejection {
    pub fn resolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct FitError {
    pub all_nodes: usize,
    /// What refuses the pod whatever the node.
    pub pre_filter: Option<String>,
    /// How many nodes were refused for each reason.
    pub reasons: BTreeMap<Cow<'static, str>, usize>,
    /// Places in the snapshot of the nodes where fewer pods might help.
    pub resolvable: Vec<usize>,
    /// What refused it: only their changes can help.
    pub plugins: Plugins,
    /// What came of trying to make room.
    pub post_filter: String,
}

impl FitError {
    pub fn before_nodes(all_nodes: usize, plugin: Plugin, message: String) -> Self {
        Self { all_nodes, pre_filter: Some(message), plugins: Plugins::of(&[plugin]), ..Self::default() }
    }

    pub fn reject(&mut self, node: usize, plugin: Plugin, rejection: Rejection) {
        if rejection.resolvable {
            self.resolvable.push(node);
        }
        for reason in rejection.reasons {
            *self.reasons.entry(reason).or_default() += 1;
        }
        self.plugins.insert(plugin);
    }
}

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: ..`
impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.all_nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.all_nodes)?;
        match &self.pre_filter {
            Some(message) => write!(f, " {message}.")?,
            None if self.reasons.is_empty() => {}
            None => write!(f, " {}.", histogram(&self.reasons))?,
        }
        if !self.post_filter.is_empty() {
            write!(f, " {}", self.post_filter)?;
        }
        Ok(())
    }
}

impl std::error::Error for FitError {}

fn histogram(reasons: &BTreeMap<Cow<'static, str>, usize>) -> String {
    let mut counted: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    counted.sort();
    counted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_upstreams() {
        let mut error = FitError { all_nodes: 3, ..Default::default() };
        error.reject(0, Plugin::NodeResourcesFit, Rejection::resolvable("Insufficient cpu"));
        error.reject(1, Plugin::NodeUnschedulable, Rejection::unresolvable("node(s) were unschedulable"));
        error.reject(2, Plugin::NodeUnschedulable, Rejection::unresolvable("node(s) were unschedulable"));
        error.post_filter = "preemption: x".into();
        assert_eq!(error.to_string(), "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: x");
        assert_eq!(error.resolvable, [0]);
        let before = FitError::before_nodes(2, Plugin::VolumeBinding, "pod has unbound immediate PersistentVolumeClaims".into());
        assert_eq!(before.to_string(), "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.");
        assert_eq!(FitError::default().to_string(), "no nodes available to schedule pods");
    }
}
