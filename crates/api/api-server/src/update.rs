//! Update: a stored object becomes what a PUT, a patch, an apply or a write to one of its parts makes of it.
use crate::body::Answer;
use crate::context::Context;
use crate::convert::Others;
use crate::decode::{self, FieldValidation};
use crate::kinds::Kind;
use crate::stored::stored;
use crate::view::View;
use crate::write::{ATTEMPTS, options, reset_fields};
use crate::{ApiServer, errors, metadata};
use api_admission::Operation;
use api_meta::{FieldError, FieldPath, Status, object};
use api_patch::{OtherVersions, Writer};
use api_resource::{Subresource, SubresourceKind};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use store::{Op, Precondition, Record, StoreError, Txn};

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
    pub(crate) async fn update(&self, context: &Context<'_>, kind: &Kind, part: Option<&Subresource>, body: &Bytes) -> Result<Answer, Status> {
        let text = decode::json_text(context, body)?;
        let sent = decode::object(context, kind, &text, FieldValidation::of(context)?)?;
        metadata::check_name(&sent, context, kind)?;
        let name = &context.route.name;
        if kind.create_on_update() && part.is_none() && self.store.get(&context.key(kind, name)).await.map_err(errors::from_store)?.is_none() {
            self.may_create(context)?;
            let mut object = sent.clone();
            metadata::of(&mut object).remove("resourceVersion");
            match self.create_object(context, kind, object, false).await {
                // Somebody created it meanwhile: then this is an update after all.
                Err(status) if status.reason == "AlreadyExists" => {}
                created => return self.answer_object(context, kind, StatusCode::CREATED, &created?),
            }
        }
        let change = Change { part, tracked: false, options: options(context)? };
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
        let told = context.warnings.lock().len();
        for attempt in 1.. {
            let kept = self.stored_record(context, kind, name).await?;
            let record = self.converter.record(context.cluster, kind, kept.clone()).await?;
            let old = stored(&record).object.to_value();
            let sent = make(&old)?;
            let conditional = check_preconditions(context, kind, name, &sent, &old)?;
            // Of several attempts only the last one's warnings count.
            context.warnings.lock().truncate(told);
            let mut new = match self.settle(context, kind, &change, sent, &old, dry_run).await? {
                Some(new) => new,
                // What is stored in a form of old is stored in today's, though nobody sees a difference.
                None if self.is_behind(context, kind, &kept, &old).await? => old.clone(),
                None => return Ok(record.value.clone()),
            };
            let claims = self.allocate(context, kind, &mut new, Some(&old)).await?;
            let ends = !metadata::text(&new, "deletionTimestamp").is_empty() && crate::delete::may_go(&**kind, &new);
            let seen = |revision| object::stamp(&object::encode(new.as_object().expect("a decoded object")), revision);
            if dry_run {
                return Ok(seen(record.mod_revision));
            }
            let encoded = self.converter.to_store(context.cluster, kind, &new).await?;
            let op = if ends { Op::Delete { key: record.key.clone() } } else { Op::Put { key: record.key.clone(), value: encoded } };
            let mut txn = Txn { preconditions: vec![Precondition::AtRevision(record.key.clone(), record.mod_revision)], ops: vec![op] };
            if ends {
                // What is stored is what was claimed, whatever this last write would have changed.
                self.release(context, kind, &old).join(&mut txn);
            } else {
                claims.join(&mut txn);
            }
            match self.commit(kind, txn).await {
                Ok(committed) if ends => return Ok(seen(committed.revision)),
                Ok(committed) => {
                    let event = committed.events.iter().find(|e| e.record.key == record.key).expect("the put is among the events");
                    return Ok(self.converter.record(context.cluster, kind, event.record.clone()).await?.value.clone());
                }
                // Another object's key is one that was to be claimed: there may be others.
                Err(StoreError::PreconditionFailed { key, .. }) if attempt < ATTEMPTS && (!conditional || key != record.key) => {}
                Err(StoreError::PreconditionFailed { .. }) => return Err(Status::stale(&names.group, &names.plural, name)),
                Err(error) => return Err(errors::from_store(error)),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The versions of a kind besides the one that is written, where there are any.
    pub(crate) fn others<'o>(&'o self, context: &'o Context<'_>, kind: &'o Kind) -> Option<Others<'o>> {
        kind.versions().map(|versions| Others { converter: &self.converter, cluster: context.cluster, versions })
    }

    /// Whether an object (as this kind serves it) would be stored otherwise today than it is.
    async fn is_behind(&self, context: &Context<'_>, kind: &Kind, kept: &Record, object: &Value) -> Result<bool, Status> {
        if kind.versions().is_none() {
            return Ok(false);
        }
        let today = self.converter.to_store(context.cluster, kind, object).await?;
        Ok(object::stamp(&today, kept.mod_revision) != kept.value)
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
        let name = metadata::text(old, "name").to_owned();
        kind.default(&mut new);
        let subresource = change.part.map_or("", |part| part.name);
        new = kept(kind, change, new, old);
        let mut errors = metadata::keep_system_fields(&mut new, old);
        // What patches make is looked at after admission alone.
        if context.route.verb == "update" {
            metadata::dedup_owners(&mut new, false).into_iter().for_each(|warning| context.warn(warning));
        }
        if !change.tracked {
            let manager = context.manager()?;
            let writer = Writer { manager: &manager, subresource, reset: reset_fields(kind, change.part), now: context.now };
            let others = self.others(context, kind);
            api_patch::track_update_among(Some(old), &mut new, &kind.schema(), &writer, others.as_ref().map(|others| others as &dyn OtherVersions));
        }
        let view = View::of(context, kind, change);
        let old_shown = view.shown(old)?;
        let (shown, kept_back) = view.given(new)?;
        let mut request = self.admission_request(context, kind, Operation::Update, &name, Some(shown), Some(&old_shown), &change.options, dry_run);
        view.names(&mut request);
        if !matches!(view, View::Admitted) {
            self.mutate(context, &mut request).await?;
        }
        let mut new = view.taken(request.object.take().expect("mutating admission keeps the object"), kept_back);
        let warning = metadata::dedup_owners(&mut new, true);
        warning.into_iter().for_each(|warning| context.warn(warning));
        // What this write can't change, webhooks and policies can't change through it either.
        let mut new = kept(kind, change, new, old);
        for error in metadata::keep_system_fields(&mut new, old) {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        if subresource.is_empty() {
            kind.prepare_update(&mut new, old, &context.write_context());
        } else {
            kind.prepare_part(subresource, &mut new, old, &context.write_context());
        }
        if kind.generation() && metadata::spec_changed(&new, old, kind.has_status()) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            metadata::of(&mut new).insert("generation".into(), generation.into());
        }
        errors.extend(metadata::validate(&new, &**kind));
        errors.extend(metadata::validate_update(&new, old));
        errors.extend(if subresource.is_empty() { kind.validate(&new, Some(old)) } else { kind.validate_part(subresource, &new, old) });
        if errors.is_empty() && subresource.is_empty() {
            kind.warnings(&new, Some(old)).into_iter().for_each(|warning| context.warn(warning));
        }
        let new = self.judge(context, kind, errors, request, new, &view).await?;
        Ok((!same(&new, old)).then_some(new))
    }
}

/// The part of the object that a write is about is the new one's, everything else the stored one's.
fn kept(kind: &Kind, change: &Change<'_>, mut new: Value, old: &Value) -> Value {
    match change.part.map(|part| &part.kind) {
        Some(SubresourceKind::Part(merge)) => return merge(old, &new),
        _ if kind.has_status() => match old.get("status") {
            Some(status) => new["status"] = status.clone(),
            None => {
                new.as_object_mut().map(|fields| fields.remove("status"));
            }
        },
        _ => {}
    }
    new
}

/// Refuses what was made of another state than the stored one. Gives whether the write is bound to that state.
fn check_preconditions(context: &Context, kind: &Kind, name: &str, sent: &Value, old: &Value) -> Result<bool, Status> {
    let names = kind.names();
    let (sent_uid, uid) = (metadata::text(sent, "uid"), metadata::text(old, "uid"));
    if !sent_uid.is_empty() && sent_uid != uid {
        let why = format!("Precondition failed: UID in precondition: {sent_uid}, UID in object meta: {uid}");
        return Err(Status::conflict(&names.group, &names.plural, name, why));
    }
    let path = FieldPath::new("metadata.resourceVersion");
    let invalid = |error: FieldError| Err(Status::invalid(&names.group, &names.kind, name, &vec![error]));
    match metadata::text(sent, "resourceVersion") {
        // A patch is of whatever is there.
        "" | "0" if kind.unconditional_update() || context.route.verb == "patch" => Ok(false),
        "" | "0" => invalid(FieldError::invalid(&path, 0, "must be specified for an update")),
        sent if sent == metadata::text(old, "resourceVersion") => Ok(true),
        sent if sent.parse::<u64>().is_err() => invalid(FieldError::invalid(&path, sent, format!("strconv.ParseUint: parsing {sent:?}: invalid syntax"))),
        _ => Err(Status::stale(&names.group, &names.plural, name)),
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
