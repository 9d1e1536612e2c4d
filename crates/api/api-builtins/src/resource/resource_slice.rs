//! ResourceSlice: devices of a pool.
use crate::cells::{NONE, text_or};
use crate::check::{At, Report, numbers, selectors};
use crate::fields::{Read, selectable};
use crate::resource::{counters, devices};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Field, Names, Resource, ResourceScope};
use serde_json::Value;

pub struct ResourceSlices;

impl Resource for ResourceSlices {
    const NAMES: Names = Names::new("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", "resourceslice");
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column::with("Node", |row| text_or(&row.object["spec"]["nodeName"], NONE)),
        Column::path("Driver", ".spec.driver"),
        Column::path("Pool", ".spec.pool.name"),
    ];
    const FIELDS: &'static [Field] = &[selectable("spec.nodeName", ""), selectable("spec.driver", "")];
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        const MOST_DEVICES: usize = 128;
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        devices::driver_name(&mut errors, &spec.field("driver"));
        devices::pool_name(&mut errors, &spec.field("pool.name"));
        errors.named_if_set(&spec.field("nodeName"), names::dns1123_subdomain);
        let selector = spec.field("nodeSelector");
        if selector.is_set() {
            selectors::node_selector(&mut errors, &selector);
            if selector["nodeSelectorTerms"].list().len() != 1 {
                errors.invalid(&selector.field("nodeSelectorTerms"), "must have exactly one node selector term");
            }
        }
        numbers::non_negative(&mut errors, &spec.field("pool.generation"));
        let count = spec.field("pool.resourceSliceCount");
        if count.int().unwrap_or_default() <= 0 {
            errors.invalid_as(&count, count.int().unwrap_or_default(), "must be greater than zero");
        }
        let where_to: Vec<&str> =
            ["nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection"].into_iter().filter(|field| !spec[*field].is_zero()).collect();
        match where_to.len() {
            0 => errors.required(&spec, "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"),
            1 => {}
            _ => errors.invalid_as(
                &spec,
                format!("{{{}}}", where_to.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ")),
                "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            ),
        }
        if spec["sharedCounters"].is_set() && spec["devices"].is_set() {
            errors.invalid_as(&spec, "", "only one of `sharedCounters` or `devices` is allowed");
        }
        counters::sets(&mut errors, &spec.field("sharedCounters"));
        let published = spec.field("devices");
        if published.list().len() > MOST_DEVICES {
            errors.too_many(&published, published.list().len(), MOST_DEVICES);
        }
        for (index, device) in published.items().enumerate() {
            errors.named(&device.field("name"), names::dns1123_label);
            if published.list()[..index].iter().any(|other| other["name"] == device["name"]) {
                errors.duplicate(&device.field("name"));
            }
            devices::device(&mut errors, &device, spec["perDeviceNodeSelection"].flag());
        }
        if let Some(old) = old {
            for field in ["driver", "nodeName"] {
                errors.immutable(&spec.field(field), &old["spec"][field]);
            }
            errors.immutable(&spec.field("pool.name"), &old["spec"]["pool"]["name"]);
        }
        errors
    }
}
