//! The one write pipeline: decode, default, mutating admission, prepare, validate, validating admission, commit.
//!
//! Create and every kind of update (PUT, the patches, apply, status, scale, other parts) go through here;
//! dry-run stops only at the commit.
use crate::allocate::Claims;
use crate::body::Answer;
use crate::context::Context;
use crate::decode::{self, FieldValidation};
use crate::kinds::Kind;
use crate::{ApiServer, errors, metadata};
use api_admission::{AdmissionRequest, Operation};
use api_meta::{Status, object};
use api_patch::Writer;
use api_resource::{Subresource, SubresourceKind};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use store::{Op, Precondition, StoreError, Txn};

/// How often an update that named no resourceVersion is tried again when somebody was faster.
const ATTEMPTS: usize = 5;
/// How many generated names are tried.
const NAME_ATTEMPTS: usize = 8;

/// How an update comes by the new object.
pub(crate) struct Change<'a> {
    /// The part written, or the whole object.
    pub part: Option<&'a Subresource>,
    /// Whether managed fields are already worked out (apply does that itself).
    pub tracked: bool,
    /// The update's options, as admission sees them.
    pub options: Value,
}

impl ApiServer {
    pub(crate) async fn create(&self, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
        let text = decode::json_text(context, body)?;
        let object = decode::object(context, kind, &text, FieldValidation::of(context)?)?;
        let written = self.create_object(context, kind, object, false).await?;
        self.answer_object(context, kind, StatusCode::CREATED, &written)
    }

    /// Creates a decoded object and gives it as a reader would see it. `tracked`: its managed fields are already set.
    pub(crate) async fn create_object(&self, context: &Context<'_>, kind: &Kind, mut object: Value, tracked: bool) -> Result<Bytes, Status> {
        let names = kind.names();
        let dry_run = context.dry_run()?;
        metadata::check_namespace(&object, context, kind)?;
        if !metadata::text(&object, "resourceVersion").is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if kind.namespaced() && context.route.namespace.is_empty() {
            return Err(Status::bad_request("an empty namespace may not be set during creation"));
        }
        kind.default(&mut object);
        let generated = metadata::generate_name(&mut object);
        if !tracked {
            api_patch::track_update(
                None,
                &mut object,
                &kind.schema(),
                &Writer { manager: &context.manager(), subresource: "", reset: reset_fields(kind, None), now: context.now },
            );
        }
        let options = json!({ "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": context.manager() });
        let name = metadata::text(&object, "name").to_owned();
        let mut request = self.admission_request(context, kind, Operation::Create, &name, Some(object), None, &options, dry_run);
        self.admission.mutate(&mut request, self).await?;
        let mut object = request.object.take().expect("mutating admission keeps the object");
        metadata::fill_system_fields(&mut object, context, kind);
        if kind.has_status() {
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
        kind.prepare_create(&mut object, &context.write_context());
        let mut errors = metadata::validate(&object, &**kind);
        errors.extend(kind.validate(&object, None));
        if !errors.is_empty() {
            return Err(Status::invalid(&names.group, &names.kind, metadata::text(&object, "name"), &errors));
        }
        kind.warnings(&object, None).into_iter().for_each(|warning| context.warn(warning));
        request.object = Some(object);
        self.admission.validate(&mut request, self).await?;
        let warnings = std::mem::take(&mut request.warnings);
        let mut object = request.object.take().expect("validating admission keeps the object");
        warnings.into_iter().for_each(|warning| context.warn(warning));

        for attempt in 1.. {
            let name = metadata::text(&object, "name").to_owned();
            let key = context.key(kind, &name);
            let claims = self.allocate(context, kind, &mut object, None).await?;
            let encoded = object::encode(object.as_object().expect("a decoded object"));
            if dry_run {
                if self.store.get(&key).await.map_err(errors::from_store)?.is_some() {
                    return Err(Status::already_exists(&names.group, &names.plural, &name));
                }
                return Ok(encoded);
            }
            let mut txn = Txn { preconditions: vec![Precondition::Absent(key.clone())], ops: vec![Op::Put { key: key.clone(), value: encoded }] };
            claims.join(&mut txn);
            match self.store.txn(txn).await {
                Ok(committed) => {
                    let event = committed.events.iter().find(|e| e.record.key == key).expect("the put is among the events");
                    return Ok(event.record.value.clone());
                }
                Err(StoreError::PreconditionFailed { key: failed, .. }) if failed == key => {
                    if !generated || attempt >= NAME_ATTEMPTS {
                        return Err(Status::already_exists(&names.group, &names.plural, &name));
                    }
                    metadata::of(&mut object).remove("name");
                    metadata::generate_name(&mut object);
                }
                // A claimed address or port was taken meanwhile: choose another, unless the user chose it.
                Err(StoreError::PreconditionFailed { .. }) if attempt < NAME_ATTEMPTS => Claims::forget_chosen(&mut object, &claims),
                Err(error) => return Err(errors::from_store(error)),
            }
        }
        unreachable!("the last attempt returns")
    }

    pub(crate) async fn update(&self, context: &Context<'_>, kind: &Kind, part: Option<&Subresource>, body: &Bytes) -> Result<Answer, Status> {
        let text = decode::json_text(context, body)?;
        let sent = decode::object(context, kind, &text, FieldValidation::of(context)?)?;
        metadata::check_namespace(&sent, context, kind)?;
        let name = &context.route.name;
        let sent_name = metadata::text(&sent, "name");
        if sent_name.is_empty() && part.is_none() {
            return Err(Status::bad_request(format!(
                "the name of the object (namespace: {}, name: ) was undeterminable: name must be provided",
                context.namespace(kind)
            )));
        }
        if !sent_name.is_empty() && sent_name != name {
            return Err(Status::bad_request(format!("the name of the object ({sent_name}) does not match the name on the URL ({name})")));
        }
        if kind.create_on_update() && part.is_none() && self.store.get(&context.key(kind, name)).await.map_err(errors::from_store)?.is_none() {
            let mut object = sent;
            metadata::of(&mut object).remove("resourceVersion");
            let written = self.create_object(context, kind, object, false).await?;
            return self.answer_object(context, kind, StatusCode::CREATED, &written);
        }
        let change =
            Change { part, tracked: false, options: json!({ "kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": context.manager() }) };
        let written = self.change_object(context, kind, name, change, |_| Ok(sent.clone())).await?;
        self.answer_object(context, kind, StatusCode::OK, &written)
    }

    /// Changes a stored object to what `make` says it should be, and gives it as a reader would see it.
    pub(crate) async fn change_object(
        &self,
        context: &Context<'_>,
        kind: &Kind,
        name: &str,
        change: Change<'_>,
        mut make: impl FnMut(&Value) -> Result<Value, Status>,
    ) -> Result<Bytes, Status> {
        let names = kind.names();
        let dry_run = context.dry_run()?;
        for attempt in 1.. {
            let record = self.record(context, kind, name).await?;
            let old = crate::stored::stored(&record).object.to_value();
            let sent = make(&old)?;
            let sent_version = metadata::text(&sent, "resourceVersion").to_owned();
            self.check_preconditions(kind, name, &sent, &old, &sent_version)?;
            let new = self.settle(context, kind, &change, sent, &old, dry_run).await?;
            let Some(mut new) = new else {
                return Ok(record.value.clone());
            };
            let claims = self.allocate(context, kind, &mut new, Some(&old)).await?;
            let ends = !metadata::text(&new, "deletionTimestamp").is_empty() && crate::delete::may_go(&**kind, &new);
            let encoded = object::encode(new.as_object().expect("a decoded object"));
            if dry_run {
                let bytes = object::stamp(&encoded, record.mod_revision);
                return Ok(bytes);
            }
            let op = if ends { Op::Delete { key: record.key.clone() } } else { Op::Put { key: record.key.clone(), value: encoded.clone() } };
            let mut txn = Txn { preconditions: vec![Precondition::AtRevision(record.key.clone(), record.mod_revision)], ops: vec![op] };
            if ends {
                self.release(context, kind, &new).join(&mut txn);
            } else {
                claims.join(&mut txn);
            }
            match self.store.txn(txn).await {
                Ok(committed) if ends => return Ok(object::stamp(&encoded, committed.revision)),
                Ok(committed) => {
                    let event = committed.events.iter().find(|e| e.record.key == record.key).expect("the put is among the events");
                    return Ok(event.record.value.clone());
                }
                Err(StoreError::PreconditionFailed { .. }) if attempt < ATTEMPTS && sent_version.is_empty() => {}
                Err(StoreError::PreconditionFailed { .. }) => return Err(Status::stale(&names.group, &names.plural, name)),
                Err(error) => return Err(errors::from_store(error)),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn check_preconditions(&self, kind: &Kind, name: &str, sent: &Value, old: &Value, sent_version: &str) -> Result<(), Status> {
        let names = kind.names();
        let (sent_uid, uid) = (metadata::text(sent, "uid"), metadata::text(old, "uid"));
        if !sent_uid.is_empty() && sent_uid != uid {
            return Err(Status::conflict(
                &names.group,
                &names.plural,
                name,
                format!("Precondition failed: UID in precondition: {sent_uid}, UID in object meta: {uid}"),
            ));
        }
        if sent_version.is_empty() {
            if !kind.unconditional_update() {
                let path = api_meta::FieldPath::new("metadata.resourceVersion");
                let error = api_meta::FieldError::invalid(&path, 0, "must be specified for an update");
                return Err(Status::invalid(&names.group, &names.kind, name, &vec![error]));
            }
        } else if sent_version != metadata::text(old, "resourceVersion") {
            return Err(Status::stale(&names.group, &names.plural, name));
        }
        Ok(())
    }

    /// The middle of the pipeline for updates; `None` when nothing would change.
    async fn settle(
        &self,
        context: &Context<'_>,
        kind: &Kind,
        change: &Change<'_>,
        mut new: Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<Option<Value>, Status> {
        let names = kind.names();
        let name = metadata::text(old, "name").to_owned();
        let sent_name = metadata::text(&new, "name").to_owned();
        kind.default(&mut new);
        let subresource = change.part.map_or("", |part| part.name);
        match change.part.map(|part| &part.kind) {
            Some(SubresourceKind::Part(merge)) => new = merge(old, &new),
            _ if kind.has_status() => match old.get("status") {
                Some(status) => new["status"] = status.clone(),
                None => {
                    new.as_object_mut().map(|fields| fields.remove("status"));
                }
            },
            _ => {}
        }
        metadata::keep_system_fields(&mut new, old);
        if !change.tracked {
            api_patch::track_update(
                Some(old),
                &mut new,
                &kind.schema(),
                &Writer { manager: &context.manager(), subresource, reset: reset_fields(kind, change.part), now: context.now },
            );
        }
        let mut request = self.admission_request(context, kind, Operation::Update, &name, Some(new), Some(old), &change.options, dry_run);
        self.admission.mutate(&mut request, self).await?;
        let mut new = request.object.take().expect("mutating admission keeps the object");
        if subresource.is_empty() {
            kind.prepare_update(&mut new, old, &context.write_context());
        } else {
            kind.prepare_part(subresource, &mut new, old, &context.write_context());
        }
        if kind.generation() && metadata::spec_changed(&new, old) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            metadata::of(&mut new).insert("generation".into(), generation.into());
        }
        let mut errors = metadata::validate(&new, &**kind);
        errors.extend(metadata::validate_update(&new, old, &sent_name));
        errors.extend(if subresource.is_empty() { kind.validate(&new, Some(old)) } else { kind.validate_part(subresource, &new, old) });
        if !errors.is_empty() {
            return Err(Status::invalid(&names.group, &names.kind, &name, &errors));
        }
        if subresource.is_empty() {
            kind.warnings(&new, Some(old)).into_iter().for_each(|warning| context.warn(warning));
        }
        request.object = Some(new);
        self.admission.validate(&mut request, self).await?;
        let warnings = std::mem::take(&mut request.warnings);
        let new = request.object.take().expect("validating admission keeps the object");
        warnings.into_iter().for_each(|warning| context.warn(warning));
        Ok((!same(&new, old)).then_some(new))
    }

    #[expect(clippy::too_many_arguments, reason = "an admission request has this many facts")]
    pub(crate) fn admission_request<'r>(
        &self,
        context: &'r Context<'_>,
        kind: &'r Kind,
        operation: Operation,
        name: &'r str,
        object: Option<Value>,
        old: Option<&'r Value>,
        options: &'r Value,
        dry_run: bool,
    ) -> AdmissionRequest<'r> {
        let names = kind.names();
        AdmissionRequest {
            cluster: context.cluster,
            operation,
            group: &names.group,
            version: &names.version,
            kind: &names.kind,
            resource: &names.plural,
            subresource: &context.route.subresource,
            namespace: context.namespace(kind),
            name,
            object,
            old,
            options,
            user: context.user,
            dry_run,
            warnings: Vec::new(),
            now: context.now,
        }
    }
}

/// Fields a write through this path can't change, and so never owns.
pub(crate) fn reset_fields(kind: &Kind, part: Option<&Subresource>) -> &'static [&'static str] {
    match part {
        Some(part) if part.name == "status" => &["spec"],
        Some(_) => &[],
        None if kind.has_status() => &["status"],
        None => &[],
    }
}

/// Whether an update changes nothing worth a revision: times of managed fields alone don't count.
fn same(new: &Value, old: &Value) -> bool {
    let strip = |object: &Value| {
        let mut object = object.clone();
        let metadata = metadata::of(&mut object);
        metadata.remove("resourceVersion");
        for entry in metadata.get_mut("managedFields").and_then(Value::as_array_mut).into_iter().flatten() {
            entry.as_object_mut().map(|entry| entry.remove("time"));
        }
        object
    };
    new == old || strip(new) == strip(old)
}
