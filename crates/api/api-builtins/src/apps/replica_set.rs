//! ReplicaSet: keeps a number of pods running.
use crate::fields::selectable;
use api_resource::{ALL, Field, Names, Resource, SCALE, STATUS, Subresource, text};

pub struct ReplicaSets;

impl Resource for ReplicaSets {
    const NAMES: Names = Names::with("apps", "v1", "ReplicaSet", "replicasets", "replicaset", const { &[text("rs")] }, ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
    const FIELDS: &'static [Field] = &[selectable("status.replicas", "0")];
}
