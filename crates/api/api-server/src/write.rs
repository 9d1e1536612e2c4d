//! The one write pipeline: decode, default, mutating admission, prepare, validate, validating admission, commit.
//!
//! Create (`create.rs`) and every kind of update (`update.rs`: PUT, the patches, apply, status, scale,
//! other parts) go through here; dry-run stops only at the commit.
use crate::ApiServer;
use crate::context::Context;
use crate::kinds::Kind;
use crate::view::View;
use api_admission::{About, AdmissionRequest, Operation};
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
        let resource = kind.stored_as();
        self.policy.caught_up(&resource, committed.revision).await;
        self.definitions.caught_up(&resource, committed.revision).await;
        Ok(committed)
    }

    /// An operation on something that is not stored (an eviction, a stream): both halves of admission, and what they made of it.
    #[expect(clippy::too_many_arguments, reason = "an admission request has this many facts")]
    pub(crate) async fn admit(
        &self,
        context: &Context<'_>,
        kind: &Kind,
        speaks: (&str, &str, &str),
        operation: Operation,
        name: &str,
        object: Value,
        options: &Value,
        dry_run: bool,
    ) -> Result<Value, Status> {
        let mut request = self.admission_request(context, kind, operation, name, Some(object), None, options, dry_run);
        (request.kind_group_version, request.kind) = ((speaks.0, speaks.1), speaks.2);
        self.mutate(context, &mut request).await?;
        self.validate(context, &mut request).await?;
        Ok(request.object.take().unwrap_or_default())
    }

    /// The mutating half of admission.
    pub(crate) async fn mutate(&self, context: &Context<'_>, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let admitted = self.admission.mutate(request, self).await;
        context.told(request);
        admitted
    }

    /// The validating half of admission.
    pub(crate) async fn validate(&self, context: &Context<'_>, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let admitted = self.admission.validate(request, self).await;
        context.told(request);
        admitted
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
        &'r self,
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
        let about = About {
            cluster: context.cluster,
            group: &names.group,
            version: &names.version,
            resource: &names.plural,
            subresource: &context.route.subresource,
            namespace: context.namespace(kind),
            name,
            user: context.user,
            now: context.now,
            host: self,
            kind: (&names.group, &names.version, &names.kind),
        };
        AdmissionRequest::new(about, operation, object, old, options, dry_run)
    }

    /// The validating half: nothing wrong with the object, nobody grants more than they hold, no plugin objects.
    pub(crate) async fn judge(
        &self,
        context: &Context<'_>,
        kind: &Kind,
        errors: FieldErrors,
        mut request: AdmissionRequest<'_>,
        object: Value,
        view: &View,
    ) -> Result<Value, Status> {
        let names = kind.names();
        if !errors.is_empty() {
            return Err(Status::invalid(&names.group, &names.kind, crate::metadata::text(&object, "name"), &errors));
        }
        self.check_escalation(context, kind, &object, request.old).await?;
        let (shown, kept_back) = view.given(object)?;
        request.object = Some(shown);
        if !matches!(view, View::Admitted) {
            self.validate(context, &mut request).await?;
        }
        // Whoever validates changes nothing: a Scale is not read back.
        Ok(match view {
            View::Whole => request.object.take().expect("validating admission keeps the object"),
            View::Scale(_) | View::Admitted => kept_back,
        })
    }
}

/// A write's options, as admission sees them.
pub(crate) fn options(context: &Context) -> Result<Value, Status> {
    // A patch is an update once it has been worked out.
    let kind = if context.route.verb == "patch" { "UpdateOptions" } else { context.options_kind() };
    let mut options = json!({ "kind": kind, "apiVersion": "meta.k8s.io/v1" });
    if let Some(manager) = context.query.value("fieldManager") {
        options["fieldManager"] = manager.into();
    }
    if let Some(validation) = context.query.value("fieldValidation") {
        options["fieldValidation"] = validation.into();
    }
    if context.dry_run()? {
        options["dryRun"] = json!(["All"]);
    }
    Ok(options)
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
