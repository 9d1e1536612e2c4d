//! CustomResourceDefinition: declares a kind of a cluster's own.
use super::{approval, names, spec};
use crate::cells::CREATED_AT;
use crate::check::{At, Report};
use crate::fields::{Fill, Read};
use api_custom::CLEANUP;
use api_meta::FieldErrors;
use api_resource::{Column, Names, Resource, ResourceScope, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct CustomResourceDefinitions;

impl Resource for CustomResourceDefinitions {
    const NAMES: Names = Names::with(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "customresourcedefinition",
        const { &[text("crd"), text("crds")] },
        const { &[text("api-extensions")] },
    );
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::NAME, CREATED_AT];
    const OWN_COLUMNS: bool = true;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const UNCONDITIONAL_UPDATE: bool = false;
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        let names = spec.open("names");
        let kind = names["kind"].text().to_owned();
        if !kind.is_empty() {
            names.zero("singular", kind.to_lowercase());
            names.zero("listKind", format!("{kind}List"));
        }
        let conversion = spec.open("conversion");
        conversion.zero("strategy", "None");
        if let Some(service) = conversion.child("webhook").and_then(|webhook| webhook.child("clientConfig")).and_then(|config| config.child("service")) {
            service.absent("port", 443);
        }
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        let stored: Vec<&str> =
            object["spec"]["versions"].list().iter().filter(|version| version["storage"].flag()).map(|version| version["name"].text()).collect();
        let status = json!({ "acceptedNames": { "kind": "", "plural": "" }, "conditions": [], "storedVersions": stored });
        object.put("status", status);
    }
    fn prepare_update(new: &mut Value, old: &Value, _context: &WriteContext) {
        let mut stored: Vec<Value> = old["status"]["storedVersions"].list().to_vec();
        for version in new["spec"]["versions"].list().iter().filter(|version| version["storage"].flag()) {
            if !stored.contains(&version["name"]) {
                stored.push(version["name"].clone());
            }
        }
        new.open("status").put("storedVersions", stored);
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let name = root.field("metadata.name");
        let wanted = format!("{}.{}", new["spec"]["names"]["plural"].text(), new["spec"]["group"].text());
        if old.is_none() && name.text() != wanted {
            errors.invalid(&name, "must be spec.names.plural+\".\"+spec.group");
        }
        spec::validate(&mut errors, &root.field("spec"), old);
        names::validate(&mut errors, &root.field("status.acceptedNames"));
        stored_versions(&mut errors, &root.field("status.storedVersions"), new["spec"]["versions"].list());
        approval::validate(&mut errors, new, old);
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, _old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        names::validate(&mut errors, &root.field("status.acceptedNames"));
        stored_versions(&mut errors, &root.field("status.storedVersions"), new["spec"]["versions"].list());
        errors
    }
    fn prepare_delete(object: &mut Value) {
        let conditions = object["status"]["conditions"].list();
        if conditions.iter().any(|condition| condition["type"] == "Terminating") {
            return;
        }
        let condition = json!({
            "type": "Terminating", "status": "True", "lastTransitionTime": object["metadata"]["deletionTimestamp"],
            "reason": "InstanceDeletionPending", "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        });
        let conditions: Vec<Value> = conditions.iter().cloned().chain([condition]).collect();
        object.open("status").put("conditions", conditions);
        let finalizers = &object["metadata"]["finalizers"];
        if !finalizers.texts().any(|finalizer| finalizer == CLEANUP) {
            let all: Vec<Value> = finalizers.list().iter().cloned().chain([CLEANUP.into()]).collect();
            object.open("metadata").put("finalizers", all);
        }
    }
}

/// Every version that objects were ever stored in must still be there.
fn stored_versions(errors: &mut FieldErrors, stored: &At, versions: &[Value]) {
    if stored.list().is_empty() {
        let empty: Vec<Value> = Vec::new();
        return errors.invalid_as(stored, empty, "must have at least one stored version");
    }
    for version in versions.iter().filter(|version| version["storage"].flag()) {
        let name = version["name"].text();
        if !stored.texts().any(|stored| stored == name) {
            errors.invalid(stored, format!("must have the storage version {name}"));
        }
    }
    for at in stored.items() {
        let name = at.text();
        if !versions.iter().any(|version| version["name"] == name) {
            errors.invalid(&at, format!("missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"));
        }
    }
}
