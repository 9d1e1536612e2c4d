//! One webhook is asked about one request.
use super::client::{WebhookClient, WebhookError};
use super::configuration::Webhook;
use crate::matching::Matched;
use crate::review::{self, Verdict};
use crate::{AdmissionRequest, cel};
use api_meta::Status;
use api_resource::Lookup;
use serde_json::Value;

/// Why a webhook gave no verdict.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be asked, or its answer is none: its failure policy decides.
    Call(String),
    /// The request can't be, whatever the policy says.
    Refused(Status),
}

/// Whether a webhook is to be asked, and as what. Errors refuse the request.
pub(crate) async fn wanted(hook: &Webhook, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Option<Matched>, Status> {
    let Some(matched) = hook.criteria.matches(request, lookup).await? else { return Ok(None) };
    if hook.conditions.is_empty() {
        return Ok(Some(matched));
    }
    let namespace = cel::namespace_object(request, lookup).await?;
    let inputs = cel::Inputs::new(request, &matched, &namespace).map_err(Status::internal)?;
    match hook.conditions.hold(&inputs, hook.ignores_failure) {
        Ok(true) => Ok(Some(matched)),
        Ok(false) => Ok(None),
        Err(why) => Err(Status::forbidden(request.group, request.resource, request.name, why)),
    }
}

/// Asks, within the webhook's time.
pub(crate) async fn ask(
    client: &WebhookClient,
    hook: &Webhook,
    matched: &Matched,
    request: &AdmissionRequest<'_>,
    lookup: &dyn Lookup,
    mutating: bool,
) -> Result<Verdict, Failure> {
    if request.dry_run {
        match hook.side_effects.as_deref() {
            None => return Err(Failure::Call("Webhook SideEffects is nil".into())),
            Some("None" | "NoneOnDryRun") => {}
            Some(_) => return Err(Failure::Refused(Status::bad_request(format!("admission webhook {:?} does not support dry run", hook.name)))),
        }
    }
    let Some(version) = hook.version else {
        return Err(Failure::Call("could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)".into()));
    };
    let versioned = |object: &Value| match object {
        Value::Null => Ok(Value::Null),
        object if matched.version == request.version => Ok(object.clone()),
        object => request.host.convert(request.cluster, object, &matched.version),
    };
    let conversion = |why: String| Failure::Refused(Status::internal(why));
    let (object, old) = (versioned(request.object()).map_err(conversion)?, versioned(request.old()).map_err(conversion)?);
    let uid = random_uid();
    let body = review::review(review::request(request, matched), version, &uid, &object, &old);
    let way = request.host.way(request.cluster);
    let answer = client.ask(&hook.client, (request.cluster, way), lookup, body, hook.timeout).await.map_err(|error| match error {
        WebhookError::NoClient(why) => Failure::Call(format!("could not get REST client: {why}")),
        WebhookError::Call(why) => Failure::Call(format!("failed to call webhook: {why}")),
    })?;
    review::verdict(&hook.name, &answer, version, &uid, mutating).map_err(|why| Failure::Call(format!("received invalid webhook response: {why}")))
}

/// 500 for a webhook that had to be asked and couldn't; `None` when its policy passes over that.
pub(crate) fn refusal(hook: &Webhook, failure: Failure) -> Option<Status> {
    match failure {
        Failure::Refused(status) => Some(status),
        Failure::Call(why) if hook.ignores_failure => {
            tracing::warn!(webhook = hook.name, why, "failed calling webhook, failing open");
            None
        }
        Failure::Call(why) => Some(Status::internal(format!("failed calling webhook {:?}: {why}", hook.name))),
    }
}

fn random_uid() -> String {
    let bytes: [u8; 16] = clock::random_bytes();
    let mut hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Version 4, variant 1.
    hex.replace_range(12..13, "4");
    hex.replace_range(16..17, ["8", "9", "a", "b"][usize::from(bytes[8] & 3)]);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
