//! ValidatingAdmissionWebhook: all webhooks that are about a request are asked at once; each may refuse it.
use super::call::{ask, refusal, wanted};
use super::client::WebhookClient;
use crate::{AdmissionRequest, Plugin, Registry, matching};
use api_meta::Status;
use api_resource::Lookup;
use async_trait::async_trait;
use futures::future::join_all;
use std::sync::Arc;

pub struct ValidatingAdmissionWebhook {
    registry: Arc<Registry>,
    client: WebhookClient,
}

impl ValidatingAdmissionWebhook {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, client: WebhookClient::default() }
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionWebhook {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let hooks = self.registry.validating_webhooks(request.cluster);
        if hooks.is_empty() || matching::is_exempt(request) {
            return Ok(());
        }
        let mut asked = Vec::new();
        for hook in &hooks {
            if let Some(matched) = wanted(hook, request, lookup).await? {
                asked.push((hook.clone(), matched));
            }
        }
        let about = &*request;
        let verdicts = join_all(asked.iter().map(|(hook, matched)| ask(&self.client, hook, matched, about, lookup, false))).await;
        // The first in order decides, so that the same request is always refused in the same words.
        let mut refused = None;
        for ((hook, _), verdict) in asked.iter().zip(verdicts) {
            match verdict {
                Ok(verdict) => {
                    request.warnings.extend(verdict.warnings);
                    request.annotate(&hook.name, verdict.audit);
                    if let Err(status) = verdict.allowed {
                        refused.get_or_insert(*status);
                    }
                }
                Err(failure) => refused = refused.or_else(|| refusal(hook, failure)),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}
