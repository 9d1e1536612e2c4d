//! PodTemplate: a template of pods, stored by itself.
use api_resource::{Names, Resource};

pub struct PodTemplates;

impl Resource for PodTemplates {
    const NAMES: Names = Names::new("", "v1", "PodTemplate", "podtemplates", "podtemplate");
}
