//! Object metadata: system fields, and upstream's ValidateObjectMeta for every kind.
use crate::context::Context;
use crate::kinds::Kind;
use api_meta::{FieldError, FieldErrors, FieldPath, Status, names};
use api_resource::AnyResource;
use clock::rfc3339_seconds;
use serde_json::{Map, Value, json};

const ANNOTATIONS_LIMIT: usize = 256 << 10;

/// The object's metadata, put there if it is missing.
pub fn of(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("it was just made an object")
}

pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What the server alone sets on a new object.
pub fn fill_system_fields(object: &mut Value, context: &Context, kind: &Kind) {
    let namespace = context.namespace(kind).to_owned();
    let metadata = of(object);
    if namespace.is_empty() {
        metadata.remove("namespace");
    } else {
        metadata.insert("namespace".into(), namespace.into());
    }
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), rfc3339_seconds(context.now).into());
    if kind.generation() {
        metadata.insert("generation".into(), 1.into());
    } else {
        metadata.remove("generation");
    }
}

/// What an update may not change is taken from the stored object; what it must not even try is told.
pub fn keep_system_fields(new: &mut Value, old: &Value) -> FieldErrors {
    let metadata = of(new);
    let mut errors = FieldErrors::new();
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        let sent = metadata.get(field).filter(|sent| !sent.is_null());
        if let Some(sent) = sent.filter(|_| old["metadata"].get(field).is_none()) {
            errors.push(FieldError::invalid(&FieldPath::new("metadata").child(field), sent.clone(), "field is immutable"));
        }
    }
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "namespace", "name", "generateName"] {
        match old["metadata"].get(field) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
    metadata.remove("selfLink");
    errors
}

/// Whether anything but metadata and a status with a path of its own differs: what bumps the generation.
pub fn spec_changed(new: &Value, old: &Value, own_status: bool) -> bool {
    fn own(object: &Value, own_status: bool) -> impl Iterator<Item = (&String, &Value)> {
        let counts = move |key: &str| match key {
            "metadata" | "apiVersion" | "kind" => false,
            "status" => !own_status,
            _ => true,
        };
        object.as_object().into_iter().flatten().filter(move |(key, _)| counts(key))
    }
    !own(new, own_status).eq(own(old, own_status))
}

/// Upstream's ValidateObjectMeta.
pub fn validate(object: &Value, kind: &dyn AnyResource) -> FieldErrors {
    let path = FieldPath::new("metadata");
    let metadata = &object["metadata"];
    let mut errors = FieldErrors::new();
    let name = text(object, "name");
    if let Some(generate) = metadata["generateName"].as_str().filter(|g| !g.is_empty()) {
        // The suffix makes a trailing dash or dot fine.
        let probe = format!("{generate}x");
        errors.extend(kind.name_rule().check(&probe).into_iter().map(|why| FieldError::invalid(&path.child("generateName"), generate, why)));
    }
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name or generateName is required"));
    } else {
        errors.extend(kind.name_rule().check(name).into_iter().map(|why| FieldError::invalid(&path.child("name"), name, why)));
    }
    let entries = |field: &str| {
        metadata[field].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect::<Vec<_>>()
    };
    let labels = path.child("labels");
    for (key, value) in entries("labels") {
        errors.extend(names::qualified_name(&key).into_iter().map(|why| FieldError::invalid(&labels, key.as_str(), why)));
        errors.extend(names::label_value(&value).into_iter().map(|why| FieldError::invalid(&labels, value.as_str(), why)));
    }
    let annotations = path.child("annotations");
    let mut size = 0;
    for (key, value) in entries("annotations") {
        errors.extend(names::qualified_name(&key.to_lowercase()).into_iter().map(|why| FieldError::invalid(&annotations, key.as_str(), why)));
        size += key.len() + value.len();
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(&annotations, ANNOTATIONS_LIMIT));
    }
    let at = path.child("finalizers");
    for finalizer in finalizers(object) {
        errors.extend(names::qualified_name(finalizer).into_iter().map(|why| FieldError::invalid(&at, finalizer, why)));
        if !finalizer.contains('/') && !matches!(finalizer, "orphan" | "foregroundDeletion" | "kubernetes") {
            errors.push(FieldError::invalid(&at, finalizer, "name is neither a standard finalizer name nor is it fully qualified"));
        }
    }
    if finalizers(object).any(|f| f == "orphan") && finalizers(object).any(|f| f == "foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot both be set";
        errors.push(FieldError::invalid(&at, metadata["finalizers"].clone(), why));
    }
    errors.extend(owner_errors(metadata, &path.child("ownerReferences")));
    errors
}

/// Keeps of owner references that are wholly alike one, as upstream does before and after mutating admission.
/// Gives the warning of it.
pub fn dedup_owners(object: &mut Value, after_admission: bool) -> Option<String> {
    let owners = object.get_mut("metadata")?.get_mut("ownerReferences")?.as_array_mut()?;
    let (mut kept, mut repeated) = (Vec::with_capacity(owners.len()), Vec::new());
    for owner in owners.drain(..) {
        if kept.contains(&owner) {
            repeated.push(owner["uid"].as_str().unwrap_or_default().to_owned());
        } else {
            kept.push(owner);
        }
    }
    *owners = kept;
    let when = if after_admission { " after mutating admission happens" } else { "" };
    (!repeated.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        )
    })
}

fn owner_errors(metadata: &Value, path: &FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut controller: Option<String> = None;
    for (index, owner) in metadata["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        let at = path.index(index);
        for (field, what) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "kind must not be empty"),
            ("name", "name must not be empty"),
            ("uid", "uid must not be empty"),
        ] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                errors.push(FieldError::invalid(&at.child(field), owner[field].as_str().unwrap_or_default(), what));
            }
        }
        if owner["controller"] == true {
            let this = format!("{}/{}", owner["kind"].as_str().unwrap_or_default(), owner["name"].as_str().unwrap_or_default());
            match &controller {
                Some(first) => errors.push(FieldError::invalid(
                    path,
                    owner.clone(),
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"),
                )),
                None => controller = Some(this),
            }
        }
    }
    errors
}

/// Upstream's ValidateObjectMetaUpdate, for what `keep_system_fields` does not settle.
pub fn validate_update(new: &Value, old: &Value) -> FieldErrors {
    let path = FieldPath::new("metadata");
    let mut errors = FieldErrors::new();
    if !text(old, "deletionTimestamp").is_empty() {
        let before: Vec<&str> = finalizers(old).collect();
        let added: Vec<Value> = finalizers(new).filter(|f| !before.contains(f)).map(Into::into).collect();
        if !added.is_empty() {
            let names: Vec<String> = added.iter().map(|f| format!("{f}")).collect();
            errors.push(FieldError::forbidden(
                &path.child("finalizers"),
                format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}", names.join(", ")),
            ));
        }
    }
    errors
}

/// The name a create asks for: given, or generated from generateName.
pub fn generate_name(object: &mut Value) -> bool {
    if !text(object, "name").is_empty() {
        return false;
    }
    let Some(base) = object["metadata"]["generateName"].as_str().filter(|g| !g.is_empty()) else { return false };
    // Upstream cuts the base so that base and five characters fit a label.
    let cut: String = base.chars().take(58).collect();
    let name = format!("{cut}{}", clock::random_suffix(5));
    of(object).insert("name".into(), name.into());
    true
}

/// The name and namespace of what an update sends, or makes of the object, must be those in the path.
pub fn check_name(object: &Value, context: &Context, kind: &Kind) -> Result<(), Status> {
    let (name, sent) = (&context.route.name, text(object, "name"));
    if sent.is_empty() {
        return Err(Status::bad_request(format!("the name of the object ({name} based on URL) was undeterminable: name must be provided")));
    }
    if sent != name {
        return Err(Status::bad_request(format!("the name of the object ({sent}) does not match the name on the URL ({name})")));
    }
    let (namespace, sent) = (context.namespace(kind), text(object, "namespace"));
    if !sent.is_empty() && sent != namespace {
        let why = format!("the namespace of the object ({sent}) does not match the namespace on the request ({namespace})");
        return Err(Status::bad_request(why));
    }
    Ok(())
}

/// The namespace in a new object must be the one in the path.
pub fn check_namespace(object: &Value, context: &Context, kind: &Kind) -> Result<(), Status> {
    let sent = text(object, "namespace");
    let own = context.namespace(kind);
    if !sent.is_empty() && sent != own {
        return Err(Status::bad_request("the namespace of the provided object does not match the namespace sent on the request"));
    }
    Ok(())
}
