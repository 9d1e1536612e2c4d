//! PodTemplate: a template of pods, stored by itself.
use crate::cells::{container_images, container_names, labels};
use crate::check::At;
use crate::fields::Fill;
use crate::pod_spec::defaults;
use crate::pod_spec::template;
use crate::pod_spec::warnings;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource};
use serde_json::Value;

pub struct PodTemplates;

impl Resource for PodTemplates {
    const NAMES: Names = Names::new("", "v1", "PodTemplate", "podtemplates", "podtemplate");
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[
        Column::NAME,
        Column::with("Containers", |row| container_names(&row.object["template"])),
        Column::with("Images", |row| container_images(&row.object["template"])),
        Column::with("Pod Labels", |row| labels(&row.object["template"]["metadata"]["labels"]).into()),
    ];
    const OWN_COLUMNS: bool = true;
    fn default(object: &mut Value) {
        defaults::template(object.open("template"));
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        template::template(&mut errors, &At::root(new).field("template"));
        errors
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "template.spec")
    }
}
