//! DeviceTaintRule: a taint on all devices that a selector finds.
use crate::check::metadata::label_key;
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use crate::resource::devices;
use api_meta::{FieldErrors, names};
use api_resource::{Names, Resource, ResourceScope, STATUS, Subresource, WriteContext};
use serde_json::Value;

pub struct DeviceTaintRules;

impl Resource for DeviceTaintRules {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "DeviceTaintRule", "devicetaintrules", "devicetaintrule");
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    fn prepare_create(object: &mut Value, context: &WriteContext) {
        object.open("spec").open("taint").absent("timeAdded", now(context));
    }
    fn prepare_update(new: &mut Value, old: &Value, context: &WriteContext) {
        let before = &old["spec"]["taint"];
        let taint = new.open("spec").open("taint");
        if taint["timeAdded"] == before["timeAdded"] && taint["effect"] != before["effect"] {
            taint.put("timeAdded", now(context));
        }
        taint.absent("timeAdded", now(context));
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let selector = root.field("spec.deviceSelector");
        for (field, check) in [("driver", devices::driver_name as fn(&mut FieldErrors, &At)), ("pool", devices::pool_name)] {
            let name = selector.field(field);
            if name.is_set() {
                check(&mut errors, &name);
            }
        }
        let device = selector.field("device");
        if device.is_set() {
            errors.named(&device, names::dns1123_label);
        }
        taint(&mut errors, &root.field("spec.taint"));
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, _old: &Value) -> FieldErrors {
        const MOST_CONDITIONS: usize = 8;
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let conditions = root.field("status.conditions");
        if conditions.list().len() > MOST_CONDITIONS {
            errors.too_many(&conditions, conditions.list().len(), MOST_CONDITIONS);
        }
        errors
    }
}

fn now(context: &WriteContext) -> String {
    context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The taint of a rule, or of a device itself.
pub fn taint(errors: &mut FieldErrors, at: &At) {
    let (key, value) = (at.field("key"), at.field("value"));
    if key.text().is_empty() {
        errors.required(&key, "");
    } else {
        label_key(errors, &key, key.text());
    }
    if !value.text().is_empty() {
        errors.reasons(&value, names::label_value(value.text()));
    }
    errors.one_of(&at.field("effect"), &["NoExecute", "NoSchedule", "None"]);
}
