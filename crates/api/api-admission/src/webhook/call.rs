//! One webhook is asked about one request.
use super::client::{Answer, Client};
use super::configuration::Webhook;
use super::target::Target;
use crate::matching::Matched;
use crate::review::{self, Verdict};
use crate::{AdmissionRequest, cel};
use api_meta::Status;
use api_resource::Lookup;
use serde_json::Value;
use std::time::Duration;

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
    client: &Client,
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
    let target = Target::of(&hook.address).map_err(|why| Failure::Call(format!("could not get REST client: {why}")))?;
    let query = format!("timeout={}", seconds(hook.timeout));
    let post = |why: String| Failure::Call(format!("failed to call webhook: Post {:?}: {why}", format!("{}?{query}", target.url)));
    let exchange = async {
        let dial = target.dial(&hook.address, request, lookup).await?;
        client.post(&target, dial, &hook.authority, &query, body).await
    };
    let answer = tokio::time::timeout(hook.timeout, exchange).await.map_err(|_| post("context deadline exceeded".into()))?.map_err(post)?;
    let answer = decoded(&answer).map_err(|why| Failure::Call(format!("failed to call webhook: {why}")))?;
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

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs().max(1))
}

fn random_uid() -> String {
    let bytes: [u8; 16] = clock::random_bytes();
    let mut hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Version 4, variant 1.
    hex.replace_range(12..13, "4");
    hex.replace_range(16..17, ["8", "9", "a", "b"][usize::from(bytes[8] & 3)]);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The AdmissionReview in an answer; the error says why there is none, as Go's client does.
fn decoded(answer: &Answer) -> Result<Value, String> {
    let text = String::from_utf8_lossy(&answer.body);
    if !answer.code.is_success() {
        if let Ok(status) = serde_json::from_slice::<Value>(&answer.body)
            && status["kind"] == "Status"
            && let Some(message) = status["message"].as_str()
        {
            return Err(message.to_owned());
        }
        let shown: String = text.trim().chars().take(2048).collect();
        let shown = if shown.is_empty() { "unknown".to_owned() } else { shown };
        return Err(match answer.code.as_u16() {
            400 => "the server rejected our request for an unknown reason".into(),
            401 => "the server has asked for the client to provide credentials".into(),
            403 => shown,
            404 => "the server could not find the requested resource".into(),
            405 => "the server does not allow this method on the requested resource".into(),
            406 => format!("the server was unable to respond with a content type that the client supports ({shown})"),
            409 => "the server reported a conflict".into(),
            415 => "the body of the request was in an unknown format - accepted media types include: ".to_owned() + &shown,
            422 => "the server rejected our request due to an error in our request".into(),
            429 => "the server has received too many requests and has asked us to try again later".into(),
            503 => "the server is currently unable to handle the request".into(),
            504 => "the server was unable to return a response in the time allotted, but may still be processing the request".into(),
            code if code >= 500 => format!("an error on the server ({shown:?}) has prevented the request from succeeding"),
            code => format!("the server responded with the status code {code} but did not return more information"),
        });
    }
    let failed = |why: String| format!("couldn't get version/kind; json parse error: {why}");
    let value: Value = serde_json::from_slice(&answer.body).map_err(|error| failed(go_json_error(&text, &error)))?;
    if !value.is_object() {
        return Err(failed("json: cannot unmarshal into Go value of type struct { APIVersion string; Kind string }".into()));
    }
    for (field, title) in [("kind", "Kind"), ("apiVersion", "apiVersion")] {
        if value[field].as_str().unwrap_or_default().is_empty() {
            return Err(format!("Object '{title}' is missing in '{}'", text.trim()));
        }
    }
    Ok(value)
}

fn go_json_error(text: &str, error: &serde_json::Error) -> String {
    match text.trim_start().chars().next() {
        None => "unexpected end of JSON input".into(),
        _ if error.is_eof() => "unexpected end of JSON input".into(),
        Some(first) if !matches!(first, '{' | '[' | '"' | '-' | '0'..='9' | 't' | 'f' | 'n') => {
            format!("invalid character {:?} looking for beginning of value", first)
        }
        _ => error.to_string(),
    }
}
