//! DaemonSet: a pod on every node.
use api_resource::{ALL, Names, Resource, STATUS, Subresource, text};

pub struct DaemonSets;

impl Resource for DaemonSets {
    const NAMES: Names = Names::with("apps", "v1", "DaemonSet", "daemonsets", "daemonset", const { &[text("ds")] }, ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
}
