//! PATCH: JSON, merge and strategic merge patches, and server-side apply.
use crate::ApiServer;
use crate::body::Answer;
use crate::context::Context;
use crate::decode::{self, FieldValidation};
use crate::kinds::Kind;
use crate::update::Change;
use crate::write::{ATTEMPTS, options, reset_fields};
use crate::{errors, metadata, negotiate};
use api_meta::{FieldError, FieldPath, Status};
use api_patch::{OtherVersions, Writer};
use api_resource::Subresource;
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchType {
    pub(crate) fn of(context: &Context, kind: &Kind) -> Result<Self, Status> {
        let media_type = context.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        match media_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" if kind.strategic_patches() => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => {
                let strategic = if kind.strategic_patches() { "application/strategic-merge-patch+json, " } else { "" };
                Err(Status::unsupported_media_type(format!(
                    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, {strategic}application/apply-patch+yaml",
                )))
            }
        }
    }
}

/// Reads a patch body; apply bodies are YAML, the others JSON.
pub(crate) fn read(kind: PatchType, body: &Bytes) -> Result<Value, Status> {
    if kind == PatchType::Apply {
        let bad = |why: &str| Status::bad_request(format!("error decoding YAML: {why}"));
        let value: Value = serde_saphyr::from_slice(body).map_err(|error| bad(&negotiate::first_line(&error)))?;
        return if value.is_object() { Ok(value) } else { Err(bad("the body is not an object")) };
    }
    serde_json::from_slice(body).map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))
}

/// What a JSON, merge or strategic patch makes of a document.
pub(crate) fn patched(kind: PatchType, document: Value, patch: Value, schema: &api_schema::Schema) -> Result<Value, Status> {
    match kind {
        PatchType::Json => api_patch::json_patch(document, patch),
        PatchType::Merge => api_patch::merge_patch(document, patch),
        PatchType::Strategic => api_patch::strategic_merge(document, patch, schema),
        PatchType::Apply => Err(Status::bad_request("an apply patch has no document to be applied to")),
    }
}

impl ApiServer {
    pub(crate) async fn patch(&self, context: &Context<'_>, kind: &Kind, part: Option<&Subresource>, body: &Bytes) -> Result<Answer, Status> {
        let patch_type = PatchType::of(context, kind)?;
        let validation = FieldValidation::of(context)?;
        let force = FieldPath::new("force");
        if context.query.get("force").is_some() && patch_type != PatchType::Apply {
            return Err(errors::options("PatchOptions", FieldError::forbidden(&force, "may not be specified for non-apply patch")));
        }
        let patch = read(patch_type, body)?;
        if patch_type == PatchType::Apply {
            return self.apply(context, kind, part, patch, body, validation).await;
        }
        let schema = kind.schema();
        let change = Change { part, tracked: false, options: options(context)? };
        let name = &context.route.name;
        let mut problems = Vec::new();
        let written = self
            .change_object(context, kind, name, change, |old| {
                let mut new = patched(patch_type, old.clone(), patch.clone(), &schema)?;
                problems.clear();
                typed(kind, &mut new, &mut problems).map_err(|why| refused(patch_type, &patch, &new, &why))?;
                if validation == FieldValidation::Strict && !problems.is_empty() {
                    return Err(refused(patch_type, &patch, &new, &format!("strict decoding error: {}", problems.join(", "))));
                }
                metadata::check_name(&new, context, kind)?;
                // Patching metadata.resourceVersion is how a patch asks for a precondition; otherwise the
                // stored one came along with the document and says nothing.
                if patch_type == PatchType::Json || patch["metadata"]["resourceVersion"].is_null() {
                    let untouched = new["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"];
                    if untouched {
                        metadata::of(&mut new).remove("resourceVersion");
                    }
                }
                Ok(new)
            })
            .await?;
        if validation == FieldValidation::Warn {
            problems.into_iter().for_each(|problem| context.warn(problem));
        }
        self.answer_object(context, kind, StatusCode::OK, &written)
    }

    async fn apply(
        &self,
        context: &Context<'_>,
        kind: &Kind,
        part: Option<&Subresource>,
        mut applied: Value,
        body: &Bytes,
        validation: FieldValidation,
    ) -> Result<Answer, Status> {
        let (names, name) = (kind.names(), &context.route.name);
        if context.query.value("fieldManager").is_none() {
            return Err(errors::options("PatchOptions", FieldError::required(&FieldPath::new("fieldManager"), "is required for apply patch")));
        }
        let manager = context.manager()?;
        for field in ["apiVersion", "kind"] {
            if applied[field].as_str().unwrap_or_default().is_empty() {
                return Err(Status::bad_request(format!("{field} must be set in an apply patch")));
            }
        }
        // Only JSON text can repeat a key: YAML that does is refused by its decoder.
        let mut problems = if body.first() == Some(&b'{') {
            api_schema::decode(body, api_schema::Schema::anything()).map(|d| d.strict).unwrap_or_default()
        } else {
            Vec::new()
        };
        decode::check_kind(&mut applied, kind)?;
        // Before decoding, which would leave out what the schema does not have.
        api_patch::fits(&applied, &kind.schema())?;
        typed(kind, &mut applied, &mut problems).map_err(|why| decode::unfit(kind, &why))?;
        validation.judge(context, kind, problems)?;
        if !applied["metadata"]["managedFields"].is_null() {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        if metadata::text(&applied, "name").is_empty() {
            metadata::of(&mut applied).insert("name".into(), name.as_str().into());
        }
        metadata::check_name(&applied, context, kind)?;
        if kind.namespaced() {
            metadata::of(&mut applied).insert("namespace".into(), context.route.namespace.as_str().into());
        }
        let (schema, force) = (kind.schema(), context.query.flag("force"));
        let writer = Writer { manager: &manager, subresource: part.map_or("", |p| p.name), reset: reset_fields(kind, part), now: context.now };
        let keep_version = !metadata::text(&applied, "resourceVersion").is_empty();
        for attempt in 1.. {
            if part.is_none() && self.store.get(&context.key(kind, name)).await.map_err(errors::from_store)?.is_none() {
                self.may_create(context)?;
                let uid = metadata::text(&applied, "uid");
                if !uid.is_empty() {
                    let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                    return Err(Status::conflict(&names.group, &names.plural, name, why));
                }
                let object = api_patch::apply(None, &applied, &schema, &writer, force)?;
                match self.create_object(context, kind, object, true).await {
                    // Somebody created it meanwhile: then this is an update after all.
                    Err(status) if status.reason == "AlreadyExists" => {}
                    created => return self.answer_object(context, kind, StatusCode::CREATED, &created?),
                }
            }
            let change = Change { part, tracked: true, options: options(context)? };
            let make = |old: &Value| {
                let others = self.others(context, kind);
                let others = others.as_ref().map(|others| others as &dyn OtherVersions);
                let mut new = api_patch::apply_among(Some(old), &applied, &schema, &writer, force, others)?;
                if !keep_version {
                    metadata::of(&mut new).remove("resourceVersion");
                }
                Ok(new)
            };
            match self.change_object(context, kind, name, change, make).await {
                // Somebody deleted it meanwhile: then it is to be created after all.
                Err(status) if status.code == 404 && part.is_none() && attempt < ATTEMPTS => {}
                written => return self.answer_object(context, kind, StatusCode::OK, &written?),
            }
        }
        unreachable!("the last attempt returns")
    }
}

/// Makes a patched document an object of its kind; the error is the decoder's.
fn typed(kind: &Kind, new: &mut Value, problems: &mut Vec<String>) -> Result<(), String> {
    if !new.is_object() {
        return Err(decode::not_an_object(new));
    }
    decode::check_kind(new, kind).map_err(|status| status.message)?;
    decode::checked(&kind.schema(), new, problems)
}

/// What a patch would make of the object is none: upstream's 422, which shows the outcome, or the
/// strategic patch itself as Go prints it.
fn refused(patch_type: PatchType, patch: &Value, outcome: &Value, why: &str) -> Status {
    let shown = if patch_type == PatchType::Strategic { go_value(patch) } else { outcome.to_string() };
    Status::invalid("", "", "", &vec![FieldError::invalid(&FieldPath::new("patch"), shown, why)])
}

/// Go's `%+v` of decoded JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => format!("map[{}]", fields.iter().map(|(key, value)| format!("{key}:{}", go_value(value))).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refused_strategic_patch_is_shown_as_go_prints_it() {
        let patch = json!({"spec": {"replicas": "x", "list": [1, {"a": null}]}});
        assert_eq!(go_value(&patch), "map[spec:map[list:[1 map[a:<nil>]] replicas:x]]");
        let status = refused(PatchType::Strategic, &patch, &json!({}), "bad");
        assert_eq!(status.message, " \"\" is invalid: patch: Invalid value: \"map[spec:map[list:[1 map[a:<nil>]] replicas:x]]\": bad");
    }
}
