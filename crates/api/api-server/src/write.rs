//! The one write pipeline: decode, default, mutating admission, prepare, validate, validating admission, commit.
//!
//! Create (`create.rs`) and every kind of update (`update.rs`: PUT, the patches, apply, status, scale,
//! other parts) go through here; dry-run stops only at the commit.
use crate::ApiServer;
use crate::context::Context;
use crate::kinds::Kind;
use api_admission::{AdmissionRequest, Operation};
use api_auth::{Decision, forbidden};
use api_meta::{FieldErrors, Status};
use api_resource::Subresource;
use serde_json::{Value, json};
use store::{Committed, StoreError, Txn};

/// How often a write that named no resourceVersion is tried again when somebody was faster. Someone
/// wins each time, so this many others have to be faster in a row before a client hears of it.
pub(crate) const ATTEMPTS: usize = 100;

impl ApiServer {
    /// Commits a change of this kind. What it says about permissions holds from the moment this returns.
    pub(crate) async fn commit(&self, kind: &Kind, txn: Txn) -> Result<Committed, StoreError> {
        let committed = self.store.txn(txn).await?;
        self.policy.caught_up(&kind.names().resource(), committed.revision).await;
        Ok(committed)
    }

    /// A write that may create what isn't there needs the permission to create it.
    pub(crate) fn may_create(&self, context: &Context<'_>) -> Result<(), Status> {
        let attributes = context.route.attributes(context.cluster, context.user, "create");
        match self.authorizer.authorize(&attributes) {
            Decision::Allow(_) => Ok(()),
            decision => Err(forbidden(&attributes, decision.reason())),
        }
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

    /// The validating half: nothing wrong with the object, nobody grants more than they hold, no plugin objects.
    pub(crate) async fn judge(
        &self,
        context: &Context<'_>,
        kind: &Kind,
        errors: FieldErrors,
        mut request: AdmissionRequest<'_>,
        object: Value,
    ) -> Result<Value, Status> {
        let names = kind.names();
        if !errors.is_empty() {
            return Err(Status::invalid(&names.group, &names.kind, crate::metadata::text(&object, "name"), &errors));
        }
        self.check_escalation(context, kind, &object, request.old).await?;
        request.object = Some(object);
        self.admission.validate(&mut request, self).await?;
        std::mem::take(&mut request.warnings).into_iter().for_each(|warning| context.warn(warning));
        Ok(request.object.take().expect("validating admission keeps the object"))
    }
}

/// A write's options, as admission sees them.
pub(crate) fn options(context: &Context) -> Result<Value, Status> {
    Ok(json!({ "kind": context.options_kind(), "apiVersion": "meta.k8s.io/v1", "fieldManager": context.manager()? }))
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
