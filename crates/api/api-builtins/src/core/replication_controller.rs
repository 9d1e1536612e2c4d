//! ReplicationController: keeps a number of pods running (the elder of ReplicaSet).
use crate::fields::selectable;
use api_resource::{ALL, Field, Names, Resource, SCALE, STATUS, Subresource, text};

pub struct ReplicationControllers;

impl Resource for ReplicationControllers {
    const NAMES: Names = Names::with("", "v1", "ReplicationController", "replicationcontrollers", "replicationcontroller", const { &[text("rc")] }, ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
    const FIELDS: &'static [Field] = &[selectable("status.replicas", "0")];
    const ORPHANS_BY_DEFAULT: bool = true;
}
