//! StorageClass: how volumes of a kind are made.
use crate::cells::{AGE, text_or};
use crate::check::{At, Report, metadata};
use crate::fields::{Fill, Read};
use api_meta::{FieldErrors, names};
use api_resource::{Column, Names, Resource, ResourceScope, Row, text};
use serde_json::Value;

pub struct StorageClasses;

impl Resource for StorageClasses {
    const NAMES: Names = Names::with("storage.k8s.io", "v1", "StorageClass", "storageclasses", "storageclass", const { &[text("sc")] }, &[]);
    const RETURNS_DELETED: bool = true;
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[
        Column { format: "name", ..Column::with("Name", name) },
        Column::path("Provisioner", ".provisioner"),
        Column::with("ReclaimPolicy", |row| text_or(&row.object["reclaimPolicy"], "Delete")),
        Column::with("VolumeBindingMode", |row| text_or(&row.object["volumeBindingMode"], "<unset>")),
        Column::with("AllowVolumeExpansion", |row| row.object["allowVolumeExpansion"].flag().into()),
        AGE,
    ];
    const OWN_COLUMNS: bool = true;
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        object.absent("reclaimPolicy", "Delete");
        object.absent("volumeBindingMode", "Immediate");
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let provisioner = root.field("provisioner");
        if provisioner.text().is_empty() {
            errors.required(&provisioner, "");
        }
        errors.reasons(&provisioner, names::qualified_name(&provisioner.text().to_lowercase()));
        parameters(&mut errors, &root.field("parameters"));
        errors.one_of_if_set(&root.field("reclaimPolicy"), &["Delete", "Retain"]);
        errors.one_of(&root.field("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"]);
        let topologies = root.field("allowedTopologies");
        for topology in topologies.items() {
            let expressions = topology.field("matchLabelExpressions");
            for expression in expressions.items() {
                let (key, values) = (expression.field("key"), expression.field("values"));
                metadata::label_key(&mut errors, &key, key.text());
                if values.list().is_empty() {
                    errors.required(&values, "");
                }
                for (index, value) in values.items().enumerate() {
                    if values.list()[..index].contains(&value) {
                        errors.duplicate(&value);
                    }
                }
            }
        }
        if let Some(old) = old {
            for field in ["parameters", "provisioner", "reclaimPolicy"] {
                if new[field] != old[field] && !(new[field].is_zero() && old[field].is_zero()) {
                    errors.forbidden(&root.field(field), format!("updates to {field} are forbidden."));
                }
            }
            errors.immutable(&root.field("volumeBindingMode"), &old["volumeBindingMode"]);
        }
        errors
    }
}

/// The default class is marked beside its name.
fn name(row: &Row) -> Value {
    let (name, annotations) = (row.object["metadata"]["name"].text(), &row.object["metadata"]["annotations"]);
    let is_default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"].iter().any(|key| annotations[*key] == "true");
    if is_default { format!("{name} (default)").into() } else { name.into() }
}

/// Parameters go to the provisioner as they are, but not without end.
fn parameters(errors: &mut FieldErrors, at: &At) {
    const MOST: usize = 512;
    const LARGEST: usize = 256 << 10;
    let count = at.entries().count();
    if count > MOST {
        errors.too_long(at, MOST);
    }
    let mut size = 0;
    for (key, value) in at.entries() {
        if key.is_empty() {
            errors.invalid_as(at, key, "field can not be empty.");
        }
        size += key.len() + value.text().len();
    }
    if size > LARGEST {
        errors.too_long(at, LARGEST);
    }
}
