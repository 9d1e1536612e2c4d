//! Namespace: a named part of a cluster that other objects live in.
use crate::check::{At, Report};
use crate::fields::{Fill, Read, selectable};
use crate::subresources::FINALIZE;
use api_meta::{FieldErrors, names};
use api_resource::{Column, Field, NameRule, Names, Resource, ResourceScope, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct Namespaces;

impl Resource for Namespaces {
    const NAMES: Names = Names::with("", "v1", "Namespace", "namespaces", "namespace", const { &[text("ns")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::path("Status", ".status.phase")];
    const NAME_RULE: NameRule = NameRule::Label;
    // Not all at once: upstream serves no deletecollection of namespaces.
    const VERBS: &'static [&'static str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, FINALIZE];
    const FIELDS: &'static [Field] = &[selectable("status.phase", "")];
    const GENERATION: bool = false;
    fn default(object: &mut Value) {
        let name = object["metadata"]["name"].text().to_owned();
        if !name.is_empty() {
            object.open("metadata").open("labels").put(NAME_LABEL, name);
        }
        object.open("spec");
        object.open("status").zero("phase", "Active");
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"phase": "Active"}));
        let spec = object.open("spec");
        let mut finalizers = spec["finalizers"].list().to_vec();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        spec.put("finalizers", finalizers);
    }
    fn prepare_update(new: &mut Value, old: &Value, _context: &WriteContext) {
        match old["spec"].get("finalizers") {
            Some(finalizers) => new.open("spec").put("finalizers", finalizers.clone()),
            None => drop(new.open("spec").remove("finalizers")),
        }
    }
    fn held(object: &Value) -> bool {
        !object["spec"]["finalizers"].list().is_empty()
    }
    fn validate(new: &Value, _old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        finalizers(&mut errors, new);
        errors
    }
    fn validate_part(subresource: &str, new: &Value, _old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        if subresource == "finalize" {
            finalizers(&mut errors, new);
        } else {
            let phase = root.field("status.phase");
            let deleted = root["metadata"]["deletionTimestamp"].is_set();
            let (wanted, state) = if deleted { ("Terminating", "not empty") } else { ("Active", "empty") };
            if phase.text() != wanted {
                errors.invalid_as(&root.field("status.Phase"), phase.text(), format!("may only be '{wanted}' if `deletionTimestamp` is {state}"));
            }
        }
        errors
    }
    fn prepare_delete(object: &mut Value) {
        object.open("status").put("phase", "Terminating");
    }
}

/// The label that makes a namespace selectable by its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Held by the namespace controller until the namespace is empty.
const FINALIZER: &str = "kubernetes";

/// Finalizers have a domain, but for the one upstream knows.
fn finalizers(errors: &mut FieldErrors, namespace: &Value) {
    let root = At::root(namespace);
    let finalizers = root.field("spec.finalizers");
    for finalizer in finalizers.items() {
        errors.reasons(&finalizer, names::qualified_name(finalizer.text()));
        if !finalizer.text().contains('/') && !matches!(finalizer.text(), FINALIZER | "orphan" | "foregroundDeletion") {
            errors.invalid(&finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
}
