//! `/scale`: autoscaling/v1 Scale over a kind's replica fields.
use crate::ApiServer;
use crate::body::{self, Answer};
use crate::context::Context;
use crate::kinds::Kind;
use crate::patch::{self, PatchType};
use crate::stored::stored;
use crate::update::Change;
use crate::write::options;
use crate::{decode, metadata};
use api_meta::{FieldError, FieldPath, LabelSelector, Status};
use api_resource::{Subresource, SubresourceKind, Text, at_path};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

/// What is read and written here.
pub(crate) const SCALE: (&str, &str, &str) = ("autoscaling", "v1", "Scale");

pub(crate) struct Paths {
    replicas: Text,
    status_replicas: Text,
    selector: Text,
}

pub(crate) fn paths(subresource: &Subresource) -> Result<Paths, Status> {
    match subresource.kind.clone() {
        SubresourceKind::Scale { replicas, status_replicas, selector } => Ok(Paths { replicas, status_replicas, selector }),
        _ => Err(Status::no_such_resource()),
    }
}

impl ApiServer {
    pub(crate) async fn scale(&self, context: &Context<'_>, kind: &Kind, subresource: &Subresource, body: &Bytes) -> Result<Answer, Status> {
        let paths = paths(subresource)?;
        let name = &context.route.name;
        if context.route.verb == "get" {
            let record = self.record(context, kind, name).await?;
            let object = stored(&record).object.to_value();
            if at_path(&object, &paths.replicas).is_none_or(Value::is_null) {
                return Err(Status::internal(format!("the spec replicas field {:?} does not exist", paths.replicas)));
            }
            return Ok(body::json(StatusCode::OK, &scale_of(&object, &paths)?));
        }
        let patch_type = if context.route.verb == "patch" { Some(PatchType::of(context, kind)?) } else { None };
        let sent = match patch_type {
            Some(patch_type) => patch::read(patch_type, body)?,
            None => decode::foreign(&decode::json_text(context, body)?, SCALE)?,
        };
        let schema = decode::foreign_schema(SCALE.0, SCALE.1, SCALE.2)?;
        let change = Change { part: None, tracked: false, options: options(context)? };
        let written = self
            .change_object(context, kind, name, change, |old| {
                let current = scale_of(old, &paths)?;
                let mut scale = match patch_type {
                    // Applying a Scale owns its replicas; the other fields are the object's.
                    Some(PatchType::Apply) => api_patch::merge_patch(current, sent.clone())?,
                    Some(patch_type) => patch::patched(patch_type, current, sent.clone(), &schema)?,
                    None => sent.clone(),
                };
                // The version came along with what is patched, unless the patch says it.
                if patch_type.is_some()
                    && sent["metadata"]["resourceVersion"].is_null()
                    && scale["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"]
                {
                    metadata::of(&mut scale).remove("resourceVersion");
                }
                decode::bounded(&scale).map_err(Status::bad_request)?;
                api_schema::decode_types(&mut scale, &schema, "Scale", "v1")?;
                metadata::check_name(&scale, context, kind)?;
                changed(old, &scale, &paths, kind)
            })
            .await?;
        let object: Value = serde_json::from_slice(&written).map_err(Status::internal)?;
        Ok(body::json(StatusCode::OK, &scale_of(&object, &paths)?))
    }
}

fn changed(old: &Value, scale: &Value, paths: &Paths, kind: &Kind) -> Result<Value, Status> {
    let names = kind.names();
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    if replicas < 0 {
        let error = FieldError::invalid(&FieldPath::new("spec.replicas"), replicas, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", name, &vec![error]));
    }
    let version = scale["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if !version.is_empty() && version != old["metadata"]["resourceVersion"] {
        return Err(Status::stale(&names.group, &names.plural, name));
    }
    let mut new = old.clone();
    if version.is_empty() {
        metadata::of(&mut new).remove("resourceVersion");
    }
    set_replicas(&mut new, replicas, paths);
    Ok(new)
}

pub(crate) fn set_replicas(object: &mut Value, replicas: i64, paths: &Paths) {
    let mut at = object;
    for key in paths.replicas.trim_start_matches('.').split('.') {
        at = &mut at[key];
    }
    *at = replicas.into();
}

pub(crate) fn scale_of(object: &Value, paths: &Paths) -> Result<Value, Status> {
    let metadata = &object["metadata"];
    let mut own = json!({ "name": metadata["name"], "uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"], "creationTimestamp": metadata["creationTimestamp"] });
    if !metadata["namespace"].is_null() {
        own["namespace"] = metadata["namespace"].clone();
    }
    let count = |path: &str| at_path(object, path).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({ "replicas": count(&paths.status_replicas) });
    if let Some(selector) = at_path(object, &paths.selector).and_then(selector_text) {
        status["selector"] = selector.into();
    }
    Ok(json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own, "spec": { "replicas": count(&paths.replicas) }, "status": status }))
}

/// A LabelSelector, a map of labels or a string, in query form.
fn selector_text(selector: &Value) -> Option<String> {
    if let Some(text) = selector.as_str() {
        return Some(text.to_owned());
    }
    let fields = selector.as_object()?;
    let map = |value: &Value| -> std::collections::BTreeMap<String, String> {
        value.as_object().into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    };
    if !fields.contains_key("matchLabels") && !fields.contains_key("matchExpressions") {
        return Some(LabelSelector::from_map(&map(selector)).to_string());
    }
    let labels = map(&selector["matchLabels"]);
    let expressions: Vec<(String, String, Vec<String>)> = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| {
            let values = e["values"].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
            (e["key"].as_str().unwrap_or_default().to_owned(), e["operator"].as_str().unwrap_or_default().to_owned(), values)
        })
        .collect();
    LabelSelector::from_parts(&labels, expressions.iter().map(|(k, o, v)| (k.as_str(), o.as_str(), v.as_slice()))).ok().map(|s| s.to_string())
}
