//! TokenRequest: a bound, expiring token of a ServiceAccount.
use crate::body::{self, Answer};
use crate::context::Context;
use crate::kinds::Kind;
use crate::stored::stored;
use crate::{ApiServer, decode, metadata, write};
use api_admission::Operation;
use api_auth::{Bound, Reference, TokenSpec};
use api_meta::{FieldError, FieldPath, GroupResource, Status};
use api_resource::{Lookup, Subresource};
use bytes::Bytes;
use clock::rfc3339_seconds;
use http::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;

const LEAST: i64 = 600;
const MOST: i64 = 1 << 32;
/// Tokens asked for with exactly this expiry come from the admission plugin's volume and may live longer, with a warning after it.
const VOLUME_EXPIRY: i64 = 3607;
const VOLUME_LIFETIME: i64 = 365 * 24 * 3600;

impl ApiServer {
    pub(crate) async fn token(&self, context: &Context<'_>, kind: &Kind, subresource: &Subresource, body: &Bytes) -> Result<Answer, Status> {
        let mut request = decode::foreign(&decode::json_text(context, body)?, subresource.speaks)?;
        metadata::check_namespace(&request, context, kind)?;
        let name = &context.route.name;
        let sent = metadata::text(&request, "name");
        if !sent.is_empty() && sent != name {
            let error = FieldError::invalid(&FieldPath::new("metadata.name"), sent, "must match the service account name if specified");
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &vec![error]));
        }
        (request["apiVersion"], request["kind"]) = ("authentication.k8s.io/v1".into(), "TokenRequest".into());
        let options = write::options(context)?;
        let mut request = self.admit(context, kind, subresource.speaks, Operation::Create, name, request, &options, context.dry_run()?).await?;
        let record = self.record(context, kind, name).await?;
        let account = stored(&record).object.meta();
        let path = FieldPath::new("spec.expirationSeconds");
        let mut seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(3600);
        let mut errors = Vec::new();
        if seconds < LEAST {
            errors.push(FieldError::invalid(&path, seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > MOST {
            errors.push(FieldError::invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds"));
        }
        if !errors.is_empty() {
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &errors));
        }
        if let Some(longest) = self.options.longest_token.and_then(|longest| i64::try_from(longest.as_secs()).ok()).filter(|longest| seconds > *longest) {
            context.warn(format!("requested expiration of {seconds} seconds shortened to {longest} seconds"));
            seconds = longest;
        }
        let mut audiences: Vec<String> = request["spec"]["audiences"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
        if audiences.is_empty() {
            audiences = self.authentication.tokens().default_audiences(context.cluster);
        }
        let (bound, node) = self.bound(context, &request["spec"]["boundObjectRef"], name).await?;
        let own = self.authentication.tokens().default_audiences(context.cluster);
        let from_volume = self.options.extend_tokens
            && seconds == VOLUME_EXPIRY
            && bound.as_ref().is_some_and(|b| b.kind == "Pod")
            && audiences.iter().all(|audience| own.contains(audience));
        let lifetime = if from_volume { VOLUME_LIFETIME } else { seconds };
        let spec = TokenSpec {
            cluster: context.cluster.clone(),
            namespace: context.route.namespace.clone(),
            name: name.clone(),
            uid: account.uid.to_string(),
            audiences: audiences.clone(),
            expires_in: Duration::from_secs(lifetime.unsigned_abs()),
            bound,
            node,
            warn_after: from_volume.then(|| Duration::from_secs(seconds.unsigned_abs())),
        };
        let issued = self.authentication.tokens().issue(&spec, context.now).map_err(Status::internal)?;
        context.record.annotate("authentication.kubernetes.io/issued-credential-id", format!("JTI={}", issued.id));
        // The client is told when to come back, which for a volume's token is before it really ends.
        let told = if from_volume { context.now.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(issued.expires) } else { issued.expires };
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        let metadata = metadata::of(&mut request);
        metadata.insert("name".into(), name.as_str().into());
        metadata.insert("namespace".into(), context.route.namespace.as_str().into());
        metadata.insert("creationTimestamp".into(), rfc3339_seconds(context.now).into());
        request["spec"]["audiences"] = audiences.into();
        request["spec"]["expirationSeconds"] = seconds.into();
        request["status"] = json!({ "token": issued.token, "expirationTimestamp": rfc3339_seconds(told) });
        Ok(body::json(StatusCode::CREATED, &request))
    }

    async fn bound(&self, context: &Context<'_>, reference: &Value, account: &str) -> Result<(Option<Bound>, Option<Reference>), Status> {
        if !reference.is_object() {
            return Ok((None, None));
        }
        let field = |name: &str| reference[name].as_str().unwrap_or_default();
        let (kind, name, uid) = (field("kind"), field("name"), field("uid"));
        let (resource, namespace) = match (field("apiVersion"), kind) {
            ("v1", "Pod") => ("pods", context.route.namespace.as_str()),
            ("v1", "Secret") => ("secrets", context.route.namespace.as_str()),
            ("v1", "Node") => ("nodes", ""),
            (version, kind) => {
                let slash = if version.contains('/') { "" } else { "/" };
                return Err(Status::bad_request(format!("cannot bind token to object of type {slash}{version}, Kind={kind}")));
            }
        };
        let found = Lookup::get(self, context.cluster, &GroupResource::new("", resource), namespace, name).await?;
        let Some(object) = found else { return Err(Status::not_found("", resource, name)) };
        let meta = object.meta();
        if !uid.is_empty() && uid != &*meta.uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict("", kind, name, why));
        }
        let mut node = None;
        if kind == "Pod" {
            let pod = object.to_value();
            let own = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
            if own != account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            if let Some(node_name) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                let found = Lookup::get(self, context.cluster, &GroupResource::new("", "nodes"), "", node_name).await?;
                node = Some(Reference { name: node_name.to_owned(), uid: found.map(|n| n.meta().uid.to_string()).unwrap_or_default() });
            }
        }
        let bound = Bound { kind: kind.to_owned(), api_version: "v1".into(), name: name.to_owned(), uid: meta.uid.to_string() };
        Ok((Some(bound), node))
    }
}
