//! Create: a new object, by POST, by apply or by a PUT to a name that isn't there.
use crate::allocate::Claims;
use crate::body::Answer;
use crate::context::Context;
use crate::decode::{self, FieldValidation};
use crate::kinds::Kind;
use crate::stored::stored;
use crate::view::View;
use crate::write::{options, reset_fields};
use crate::{ApiServer, errors, metadata};
use api_admission::Operation;
use api_meta::{GroupResource, Status, object};
use api_patch::Writer;
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use store::{Key, Op, Precondition, StoreError, Txn};

/// How many generated names, addresses and ports are tried.
const ATTEMPTS: usize = 8;

impl ApiServer {
    pub(crate) async fn create(&self, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
        let text = decode::json_text(context, body)?;
        let object = decode::object(context, kind, &text, FieldValidation::of(context)?)?;
        let written = self.create_object(context, kind, object, false).await?;
        self.answer_object(context, kind, StatusCode::CREATED, &written)
    }

    /// Creates a decoded object and gives it as a reader would see it. `tracked`: its managed fields are already set.
    pub(crate) async fn create_object(&self, context: &Context<'_>, kind: &Kind, mut object: Value, tracked: bool) -> Result<Bytes, Status> {
        let dry_run = context.dry_run()?;
        metadata::check_namespace(&object, context, kind)?;
        if !metadata::text(&object, "resourceVersion").is_empty() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        kind.default(&mut object);
        let namespace = context.namespace(kind);
        if !namespace.is_empty() {
            metadata::of(&mut object).insert("namespace".into(), namespace.into());
        }
        if !tracked {
            metadata::dedup_owners(&mut object, false).into_iter().for_each(|warning| context.warn(warning));
            let manager = context.manager()?;
            let writer = Writer { manager: &manager, subresource: "", reset: reset_fields(kind, None), now: context.now };
            api_patch::track_update(None, &mut object, &kind.schema(), &writer);
        }
        let mut options = options(context)?;
        options["kind"] = "CreateOptions".into();
        let name = metadata::text(&object, "name").to_owned();
        let mut request = self.admission_request(context, kind, Operation::Create, &name, Some(object), None, &options, dry_run);
        self.mutate(context, &mut request).await?;
        let mut object = request.object.take().expect("mutating admission keeps the object");
        metadata::dedup_owners(&mut object, true).into_iter().for_each(|warning| context.warn(warning));
        metadata::check_namespace(&object, context, kind)?;
        let generated = metadata::generate_name(&mut object);
        metadata::fill_system_fields(&mut object, context, kind);
        if kind.has_status() && !kind.status_on_create() {
            object.as_object_mut().map(|fields| fields.remove("status"));
        }
        kind.prepare_create(&mut object, &context.write_context());
        let mut errors = metadata::validate(&object, &**kind);
        errors.extend(kind.validate(&object, None));
        if errors.is_empty() {
            kind.warnings(&object, None).into_iter().for_each(|warning| context.warn(warning));
        }
        let object = self.judge(context, kind, errors, request, object, &View::Whole).await?;
        self.insert(context, kind, object, generated, dry_run).await
    }

    /// Commits a new object under its name, or under another generated one while that is taken.
    async fn insert(&self, context: &Context<'_>, kind: &Kind, mut object: Value, generated: bool, dry_run: bool) -> Result<Bytes, Status> {
        let names = kind.names();
        for attempt in 1.. {
            let name = metadata::text(&object, "name").to_owned();
            let key = context.key(kind, &name);
            let home = self.home(context, kind, &name).await?;
            let claims = self.allocate(context, kind, &mut object, None).await?;
            if dry_run {
                if self.store.get(&key).await.map_err(errors::from_store)?.is_some() {
                    return Err(Status::already_exists(&names.group, &names.plural, &name));
                }
                return Ok(object::encode(object.as_object().expect("a decoded object")));
            }
            let encoded = self.converter.to_store(context.cluster, kind, &object).await?;
            let mut txn = Txn { preconditions: vec![Precondition::Absent(key.clone())], ops: vec![Op::Put { key: key.clone(), value: encoded }] };
            txn.preconditions.extend(home);
            // Nothing slips in behind those who empty a kind that goes, either.
            txn.preconditions.extend(self.definition_of(context, kind).await?);
            claims.join(&mut txn);
            match self.commit(kind, txn).await {
                Ok(committed) => {
                    let event = committed.events.iter().find(|e| e.record.key == key).expect("the put is among the events");
                    return Ok(self.converter.record(context.cluster, kind, event.record.clone()).await?.value.clone());
                }
                Err(StoreError::PreconditionFailed { key: failed, .. }) if failed == key => {
                    if !generated || attempt >= ATTEMPTS {
                        return Err(Status::already_exists(&names.group, &names.plural, &name));
                    }
                    metadata::of(&mut object).remove("name");
                    metadata::generate_name(&mut object);
                }
                // The namespace changed, or an address or port was taken meanwhile: look again. What the user chose stays.
                Err(StoreError::PreconditionFailed { .. }) if attempt < ATTEMPTS => Claims::forget_chosen(&mut object, &claims),
                Err(error) => return Err(errors::from_store(error)),
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The namespace a new object goes to must at its commit be as it is now: there, and not being deleted.
    /// So nothing slips in behind those who empty a namespace.
    async fn home(&self, context: &Context<'_>, kind: &Kind, name: &str) -> Result<Option<Precondition>, Status> {
        let namespace = context.namespace(kind);
        if namespace.is_empty() {
            return Ok(None);
        }
        let key = Key::new(context.cluster, &GroupResource::new("", "namespaces"), "", namespace);
        let Some(record) = self.store.get(&key).await.map_err(errors::from_store)? else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        if stored(&record).object.meta().deletion_timestamp.is_some() {
            let names = kind.names();
            return Err(api_admission::namespace_terminating(&names.group, &names.plural, name, namespace));
        }
        Ok(Some(Precondition::AtRevision(key, record.mod_revision)))
    }
}
