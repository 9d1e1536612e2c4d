//! ControllerRevision: a snapshot of a controller's template.
use api_resource::{Names, Resource};

pub struct ControllerRevisions;

impl Resource for ControllerRevisions {
    const NAMES: Names = Names::new("apps", "v1", "ControllerRevision", "controllerrevisions", "controllerrevision");
    const GENERATION: bool = false;
}
