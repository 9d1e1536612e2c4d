//! MutatingAdmissionWebhook: webhooks are asked one after the other; each sees what the one before made of the object.
use super::call::{ask, refusal, wanted};
use super::client::WebhookClient;
use super::configuration::Webhook;
use crate::matching::Matched;
use crate::review::Verdict;
use crate::{AdmissionRequest, Plugin, Registry, matching};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

const NAME: &str = "MutatingAdmissionWebhook";

pub struct MutatingAdmissionWebhook {
    registry: Arc<Registry>,
    client: WebhookClient,
}

impl MutatingAdmissionWebhook {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, client: WebhookClient::default() }
    }

    async fn ask_all(&self, hooks: &[Arc<Webhook>], request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        for hook in hooks {
            if request.reinvocation.skips(NAME, &hook.id) {
                continue;
            }
            let Some(matched) = wanted(hook, request, lookup).await? else { continue };
            let asked = ask(&self.client, hook, &matched, request, lookup, true).await;
            let changed = match asked {
                Ok(verdict) => take(hook, &matched, verdict, request)?,
                Err(failure) => match refusal(hook, failure) {
                    Some(status) => return Err(status),
                    None => false,
                },
            };
            if changed {
                request.reinvocation.changed(NAME);
            }
            if hook.reinvoke {
                request.reinvocation.called(NAME, &hook.id);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let hooks = self.registry.mutating_webhooks(request.cluster);
        if hooks.is_empty() || matching::is_exempt(request) {
            return Ok(());
        }
        request.reinvocation.begin(NAME, request.object.as_ref());
        let asked = self.ask_all(&hooks, request, lookup).await;
        request.reinvocation.end(NAME, request.object.as_ref());
        asked
    }
}

/// Does as a webhook says. Gives whether that changed the object.
fn take(hook: &Webhook, matched: &Matched, verdict: Verdict, request: &mut AdmissionRequest<'_>) -> Result<bool, Status> {
    request.warnings.extend(verdict.warnings);
    request.annotate(&hook.name, verdict.audit);
    verdict.allowed.map_err(|status| *status)?;
    let Some(patch) = verdict.patch else { return Ok(false) };
    let patch: Value = serde_json::from_slice(&patch).map_err(|error| Status::internal(format!("invalid JSON patch: {error}")))?;
    if patch.as_array().is_some_and(Vec::is_empty) {
        return Ok(false);
    }
    let Some(object) = &request.object else {
        let why = format!("admission webhook {:?} attempted to modify the object, which is not supported for this operation", hook.name);
        return Err(Status::internal(why));
    };
    let other_version = matched.version != request.version;
    let convert = |object: &Value, version: &str| request.host.convert(request.cluster, object, version).map_err(Status::internal);
    let before = if other_version { convert(object, &matched.version)? } else { object.clone() };
    let mut after = api_patch::json_patch_of_admission(before.clone(), patch).map_err(Status::internal)?;
    if !after.is_object() {
        return Err(Status::internal("the patched object is no object"));
    }
    // What the object is can't be patched away: it is decoded as what was asked for.
    for field in ["apiVersion", "kind"] {
        if after[field] != before[field] {
            let why = format!("admission webhook {:?} changed {field} of the object, which is not supported", hook.name);
            return Err(Status::internal(why));
        }
    }
    request.host.settle(request.cluster, &mut after).map_err(Status::internal)?;
    let after = if other_version { convert(&after, request.version)? } else { after };
    let changed = request.object.as_ref() != Some(&after);
    request.object = Some(after);
    Ok(changed)
}
