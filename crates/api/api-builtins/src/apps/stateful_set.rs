//! StatefulSet: pods with stable names and storage.
use api_resource::{ALL, Names, Resource, SCALE, STATUS, Subresource, text};

pub struct StatefulSets;

impl Resource for StatefulSets {
    const NAMES: Names = Names::with("apps", "v1", "StatefulSet", "statefulsets", "statefulset", const { &[text("sts")] }, ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
}
