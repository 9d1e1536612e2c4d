//! PATCH: JSON, merge and strategic merge patches, and server-side apply.
use crate::ApiServer;
use crate::body::Answer;
use crate::context::Context;
use crate::decode::{self, FieldValidation};
use crate::kinds::Kind;
use crate::write::{Change, reset_fields};
use crate::{errors, metadata};
use api_meta::Status;
use api_patch::Writer;
use api_resource::Subresource;
use bytes::Bytes;
use http::{StatusCode, header};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

impl PatchType {
    pub(crate) fn of(context: &Context) -> Result<Self, Status> {
        let media_type = context.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        match media_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            _ => Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }
}

/// Reads a patch body; apply bodies are YAML, the others JSON.
pub(crate) fn read(kind: PatchType, body: &Bytes) -> Result<Value, Status> {
    if kind == PatchType::Apply {
        let value: Value = serde_saphyr::from_slice(body).map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))?;
        return if value.is_object() { Ok(value) } else { Err(Status::bad_request("error decoding YAML: the body is not an object")) };
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
        let patch_type = PatchType::of(context)?;
        let validation = FieldValidation::of(context)?;
        if context.query.flag("force") && patch_type != PatchType::Apply {
            return Err(Status::new(422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"));
        }
        let patch = read(patch_type, body)?;
        if patch_type == PatchType::Apply {
            return self.apply(context, kind, part, patch, body, validation).await;
        }
        let schema = kind.schema();
        let change = Change { part, tracked: false, options: patch_options(context) };
        let name = &context.route.name;
        let mut problems = Vec::new();
        let written = self
            .change_object(context, kind, name, change, |old| {
                let mut new = patched(patch_type, old.clone(), patch.clone(), &schema)?;
                decode::check_kind(&mut new, kind)?;
                problems.clear();
                decode::checked(kind, &mut new, &mut problems)?;
                if validation == FieldValidation::Strict && !problems.is_empty() {
                    return Err(strict(kind, name, &problems));
                }
                // Patching metadata.resourceVersion is how a patch asks for a precondition; otherwise the
                // stored one came along with the document and says nothing.
                if patch_type == PatchType::Json || patch["metadata"]["resourceVersion"].is_null() {
                    let untouched = new["metadata"]["resourceVersion"] == old["metadata"]["resourceVersion"];
                    if untouched && kind.unconditional_update() {
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
        let name = &context.route.name;
        let manager = context.query.get("fieldManager").ok_or_else(|| {
            Status::new(422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch")
        })?;
        for field in ["apiVersion", "kind"] {
            if applied[field].as_str().unwrap_or_default().is_empty() {
                return Err(Status::bad_request(format!("invalid object type: /, Kind=: {field} must be set in an apply patch")));
            }
        }
        decode::check_kind(&mut applied, kind)?;
        metadata::check_namespace(&applied, context, kind)?;
        let sent_name = metadata::text(&applied, "name");
        if !sent_name.is_empty() && sent_name != name {
            return Err(Status::bad_request(format!("the name of the object ({sent_name}) does not match the name on the URL ({name})")));
        }
        if !applied["metadata"]["managedFields"].is_null() {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        // Only JSON text can repeat a key: YAML that does is refused by its decoder.
        let mut problems = if body.first() == Some(&b'{') {
            api_schema::decode(body, &api_schema::Schema::anything()).map(|d| d.strict).unwrap_or_default()
        } else {
            Vec::new()
        };
        decode::checked(kind, &mut applied, &mut problems)?;
        validation.judge(context, problems)?;
        metadata::of(&mut applied).insert("name".into(), name.as_str().into());
        if kind.namespaced() {
            metadata::of(&mut applied).insert("namespace".into(), context.route.namespace.as_str().into());
        }
        let (schema, force) = (kind.schema(), context.query.flag("force"));
        let writer = Writer { manager, subresource: part.map_or("", |p| p.name), reset: reset_fields(kind, part), now: context.now };
        let exists = self.store.get(&context.key(kind, name)).await.map_err(errors::from_store)?.is_some();
        if !exists {
            if part.is_some() {
                return Err(Status::not_found(&kind.names().group, &kind.names().plural, name));
            }
            if !metadata::text(&applied, "uid").is_empty() {
                let names = kind.names();
                let why = format!("uid mismatch: the provided object specified uid {}, and no existing object was found", metadata::text(&applied, "uid"));
                return Err(Status::conflict(&names.group, &names.plural, name, why));
            }
            let object = api_patch::apply(None, &applied, &schema, &writer, force)?;
            match self.create_object(context, kind, object, true).await {
                // Somebody created it meanwhile: then this is an update after all.
                Err(status) if status.reason == "AlreadyExists" => {}
                other => return self.answer_object(context, kind, StatusCode::CREATED, &other?),
            }
        }
        let change = Change { part, tracked: true, options: patch_options(context) };
        let keep_version = !metadata::text(&applied, "resourceVersion").is_empty();
        let written = self
            .change_object(context, kind, name, change, |old| {
                let mut new = api_patch::apply(Some(old), &applied, &schema, &writer, force)?;
                if !keep_version && kind.unconditional_update() {
                    metadata::of(&mut new).remove("resourceVersion");
                }
                Ok(new)
            })
            .await?;
        self.answer_object(context, kind, StatusCode::OK, &written)
    }
}

fn patch_options(context: &Context) -> Value {
    json!({ "kind": "PatchOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": context.manager() })
}

/// A strict patch answers 422 with the problems, as upstream does (PUT and POST answer 400).
fn strict(kind: &Kind, name: &str, problems: &[String]) -> Status {
    let names = kind.names();
    let path = api_meta::FieldPath::new("patch");
    let error = api_meta::FieldError::invalid(&path, "", format!("strict decoding error: {}", problems.join(", ")));
    Status::invalid(&names.group, &names.kind, name, &vec![error])
}
