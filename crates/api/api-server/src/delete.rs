//! Delete: preconditions, grace, finalizers, propagation; one object or a collection.
use crate::body::{self, Answer};
use crate::context::Context;
use crate::delete_options::DeleteOptions;
use crate::kinds::Kind;
use crate::stored::stored;
use crate::write::ATTEMPTS;
use crate::{ApiServer, errors, metadata};
use api_admission::Operation;
use api_meta::{Status, object};
use api_resource::AnyResource;
use bytes::Bytes;
use clock::rfc3339_seconds;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::StatusCode;
use serde_json::{Value, json};
use store::{Op, Precondition, StoreError, Txn};

/// How many objects of a collection are deleted at once: they share the store's commits, and one after the other each waits for its own.
const AT_ONCE: usize = 32;
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Whether nothing holds an object that is being deleted any longer.
pub(crate) fn may_go(kind: &dyn AnyResource, object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    metadata::finalizers(object).next().is_none() && !kind.held(object) && grace == 0
}

enum Deleted {
    Gone(Bytes),
    /// Held by finalizers or grace; the object as it is now.
    Waiting(Bytes),
}

impl ApiServer {
    pub(crate) async fn delete(&self, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
        let options = DeleteOptions::read(context, body)?;
        let name = &context.route.name;
        match self.delete_object(context, kind, name, &options).await? {
            Deleted::Gone(bytes) if kind.returns_deleted() => self.answer_object(context, kind, StatusCode::OK, &bytes),
            Deleted::Gone(bytes) => {
                let object: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
                let names = kind.names();
                let mut details = json!({ "name": name, "kind": names.plural, "uid": metadata::text(&object, "uid") });
                if !names.group.is_empty() {
                    details["group"] = names.group.as_ref().into();
                }
                let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details });
                Ok(body::json(StatusCode::OK, &status))
            }
            Deleted::Waiting(bytes) => {
                // Upstream says "accepted" only to those who ask in the old way.
                let code = if options.orphan_dependents == Some(false) { StatusCode::ACCEPTED } else { StatusCode::OK };
                self.answer_object(context, kind, code, &bytes)
            }
        }
    }

    pub(crate) async fn delete_collection(&self, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
        let options = DeleteOptions::read(context, body)?;
        let selected = self.select(context, kind).await?;
        let mut deletions = FuturesUnordered::new();
        for record in &selected.records {
            if deletions.len() == AT_ONCE {
                deletions.next().await.transpose()?;
            }
            deletions.push(self.delete_selected(context, kind, stored(record).object.meta().name.to_string(), &options));
        }
        while deletions.next().await.transpose()?.is_some() {}
        drop(deletions);
        Ok(selected.answer(kind))
    }

    /// Deletes one object of many. It may have gone meanwhile.
    async fn delete_selected(&self, context: &Context<'_>, kind: &Kind, name: String, options: &DeleteOptions) -> Result<(), Status> {
        let route = crate::route::ResourceRoute { name, ..context.route.clone() };
        let one = Context { route: &route, warnings: Default::default(), ..*context };
        let deleted = self.delete_object(&one, kind, &route.name, options).await;
        context.warnings.lock().append(&mut one.warnings.into_inner());
        deleted.map(|_| ()).or_else(|status| if status.code == 404 { Ok(()) } else { Err(status) })
    }

    /// Deletes one object, for a handler that answers in its own way.
    pub(crate) async fn delete_with(&self, context: &Context<'_>, kind: &Kind, options: &DeleteOptions) -> Result<(), Status> {
        self.delete_object(context, kind, &context.route.name, options).await.map(|_| ())
    }

    async fn delete_object(&self, context: &Context<'_>, kind: &Kind, name: &str, options: &DeleteOptions) -> Result<Deleted, Status> {
        let names = kind.names();
        let dry_run = context.dry_run()? || options.is_dry_run();
        let admission_options = options.to_value();
        for attempt in 1.. {
            let record = self.record(context, kind, name).await?;
            let old = stored(&record).object.to_value();
            options.check(&**kind, name, &old)?;
            let mut request = self.admission_request(context, kind, Operation::Delete, name, None, Some(&old), &admission_options, dry_run);
            // An eviction was admitted as one.
            if context.route.subresource.is_empty() {
                self.mutate(context, &mut request).await?;
                self.validate(context, &mut request).await?;
            }
            drop(request);

            let Some(next) = marked(&**kind, &old, options, context.now) else {
                return Ok(Deleted::Waiting(record.value.clone()));
            };
            let gone = may_go(&**kind, &next);
            if dry_run {
                return Ok(if gone { Deleted::Gone(record.value.clone()) } else { Deleted::Waiting(object::stamp(&encode(&next), record.mod_revision)) });
            }
            let mut txn = Txn { preconditions: vec![Precondition::AtRevision(record.key.clone(), record.mod_revision)], ops: Vec::new() };
            if gone {
                txn.ops.push(Op::Delete { key: record.key.clone() });
                self.release(context, kind, &next).join(&mut txn);
            } else {
                let value = self.converter.to_store(context.cluster, kind, &next).await?;
                txn.ops.push(Op::Put { key: record.key.clone(), value });
            }
            match self.commit(kind, txn).await {
                Ok(committed) => {
                    let event = committed.events.iter().find(|e| e.record.key == record.key).expect("the object is among the events");
                    let bytes = self.converter.record(context.cluster, kind, event.record.clone()).await?.value.clone();
                    return Ok(if gone { Deleted::Gone(bytes) } else { Deleted::Waiting(bytes) });
                }
                Err(StoreError::PreconditionFailed { .. }) if attempt < ATTEMPTS => {}
                Err(StoreError::PreconditionFailed { .. }) => return Err(Status::stale(&names.group, &names.plural, name)),
                Err(error) => return Err(errors::from_store(error)),
            }
        }
        unreachable!("the last attempt returns")
    }
}

fn encode(object: &Value) -> Bytes {
    object::encode(object.as_object().expect("a stored object"))
}

/// The object marked as being deleted; `None` when it already is, as far as these options go.
fn marked(kind: &dyn AnyResource, old: &Value, options: &DeleteOptions, now: jiff::Timestamp) -> Option<Value> {
    let mut next = old.clone();
    set_propagation(kind, &mut next, options);
    let deleting = !metadata::text(old, "deletionTimestamp").is_empty();
    let mut grace = kind.grace(old, options.grace_period_seconds).unwrap_or(0);
    if deleting {
        let left = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        // A later deletion can only shorten the grace.
        if options.grace_period_seconds.is_none() || grace >= left {
            grace = left;
        }
        if grace == left && next == *old && !may_go(kind, old) {
            return None;
        }
    }
    let asked: jiff::Timestamp = metadata::text(old, "deletionTimestamp").parse().unwrap_or(now);
    let left = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let start = if deleting { asked.saturating_sub(jiff::SignedDuration::from_secs(left)).unwrap_or(asked) } else { now };
    let at = start.saturating_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(start);
    let bump = kind.generation() && !deleting;
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
    let metadata = metadata::of(&mut next);
    metadata.insert("deletionTimestamp".into(), rfc3339_seconds(at).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if bump {
        metadata.insert("generation".into(), generation.into());
    }
    kind.prepare_delete(&mut next);
    Some(next)
}

/// The finalizers that make the garbage collector orphan dependants or wait for them.
fn set_propagation(kind: &dyn AnyResource, object: &mut Value, options: &DeleteOptions) {
    let present: Vec<String> = metadata::finalizers(object).map(str::to_owned).collect();
    let has = |name: &str| present.iter().any(|f| f == name);
    let (orphan, foreground) = match options.policy() {
        Some("Orphan") => (true, false),
        Some("Foreground") => (false, true),
        Some(_) => (false, false),
        // Without a policy what was asked for before stands.
        None if has(ORPHAN) || has(FOREGROUND) => return,
        None => (kind.orphans_by_default(), false),
    };
    let mut finalizers: Vec<String> = present.into_iter().filter(|f| f != ORPHAN && f != FOREGROUND).collect();
    if orphan {
        finalizers.push(ORPHAN.into());
    }
    if foreground {
        finalizers.push(FOREGROUND.into());
    }
    let metadata = metadata::of(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}
