//! Reviews: who am I, who is this token, may they, what may I. Answered, never stored.
use crate::body::{self, Answer};
use crate::context::Context;
use crate::kinds::Kind;
use crate::{ApiServer, decode};
use api_auth::{Attributes, Decision, User};
use api_meta::{FieldError, FieldPath, Status};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

impl ApiServer {
    pub(crate) async fn review(self: &Arc<Self>, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
        let text = decode::json_text(context, body)?;
        let mut review = decode::object(context, kind, &text, decode::FieldValidation::of(context)?)?;
        if review["metadata"].is_null() {
            review["metadata"] = json!({});
        }
        let status = match context.route.resource.as_str() {
            "selfsubjectreviews" => json!({ "userInfo": user_info(context.user) }),
            "tokenreviews" => self.token_review(context, &review).await?,
            "selfsubjectaccessreviews" => self.access(context, context.user, &review["spec"]).await?,
            "subjectaccessreviews" => self.access(context, &subject(&review)?, &review["spec"]).await?,
            "localsubjectaccessreviews" => self.local_access(context, &review).await?,
            "selfsubjectrulesreviews" => self.rules(context, &review)?,
            _ => return Err(Status::no_such_resource()),
        };
        review["status"] = status;
        Ok(body::json(StatusCode::CREATED, &review))
    }

    async fn token_review(self: &Arc<Self>, context: &Context<'_>, review: &Value) -> Result<Value, Status> {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> = review["spec"]["audiences"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
        let asked = if audiences.is_empty() { self.authentication.tokens().default_audiences(context.cluster) } else { audiences };
        match self.authentication.review(context.cluster, token, &asked, &**self).await {
            Ok(Some(found)) => {
                if let Some(used) = &found.legacy {
                    self.legacy_token_used(context.cluster, used, context.record).await;
                }
                Ok(json!({ "authenticated": true, "user": user_info(&found.user), "audiences": found.audiences }))
            }
            Ok(None) => Ok(json!({ "user": {} })),
            Err(error) => Ok(json!({ "user": {}, "error": error.to_string() })),
        }
    }

    async fn local_access(&self, context: &Context<'_>, review: &Value) -> Result<Value, Status> {
        let user = subject(review)?;
        let invalid = |error: FieldError| Err(Status::invalid("authorization.k8s.io", "LocalSubjectAccessReview", "", &vec![error]));
        let sent = &review["spec"]["resourceAttributes"];
        if sent.is_object() && sent["namespace"].as_str().unwrap_or_default() != context.route.namespace {
            let namespace = sent["namespace"].as_str().unwrap_or_default();
            return invalid(FieldError::invalid(&FieldPath::new("spec.resourceAttributes.namespace"), namespace, "must match metadata.namespace"));
        }
        let path = &review["spec"]["nonResourceAttributes"];
        if path.is_object() {
            return invalid(FieldError::invalid(&FieldPath::new("spec.nonResourceAttributes"), path.clone(), "disallowed on this kind of request"));
        }
        self.access(context, &user, &review["spec"]).await
    }

    async fn access(&self, context: &Context<'_>, user: &User, spec: &Value) -> Result<Value, Status> {
        let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        let invalid = |error: FieldError| Err(Status::invalid("authorization.k8s.io", review_kind(&context.route.resource), "", &vec![error]));
        if resource.is_object() && path.is_object() {
            let shown = path.clone();
            return invalid(FieldError::invalid(
                &FieldPath::new("spec.nonResourceAttributes"),
                shown,
                "cannot be specified in combination with resourceAttributes",
            ));
        }
        if !resource.is_object() && !path.is_object() {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return invalid(FieldError::required(&FieldPath::new("spec.resourceAttributes"), why));
        }
        let of = |value: &'static str, from: &Value| from[value].as_str().unwrap_or_default().to_owned();
        let from = if resource.is_object() { resource } else { path };
        let [verb, group, version, name, namespace, subresource, resource, path] =
            ["verb", "group", "version", "name", "namespace", "subresource", "resource", "path"].map(|field| of(field, from));
        // A resource attribute without a resource asks about every resource.
        let resource = if path.is_empty() && resource.is_empty() && spec["resourceAttributes"].is_object() { "*".to_owned() } else { resource };
        let attributes = Attributes {
            cluster: context.cluster,
            user,
            verb: &verb,
            group: &group,
            version: &version,
            resource: &resource,
            subresource: &subresource,
            namespace: &namespace,
            name: &name,
            path: &path,
        };
        let (decision, error) = self.authorizer.decide(&attributes).await;
        let mut status = match decision {
            Decision::Allow(reason) => json!({ "allowed": true, "reason": reason }),
            Decision::Deny(reason) => json!({ "allowed": false, "denied": true, "reason": reason }),
            Decision::NoOpinion(reason) if reason.is_empty() => json!({ "allowed": false }),
            Decision::NoOpinion(reason) => json!({ "allowed": false, "reason": reason }),
        };
        if let Some(error) = error {
            status["evaluationError"] = error.into();
        }
        Ok(status)
    }

    fn rules(&self, context: &Context<'_>, review: &Value) -> Result<Value, Status> {
        let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        let (mut resource_rules, mut path_rules) = (Vec::new(), Vec::new());
        let mut resolved = self.authorizer.rbac().rules_for(context.cluster, context.user, namespace);
        let unresolvable = self.authorizer.unresolvable(context.cluster, context.user);
        resolved.errors.splice(0..0, unresolvable.into_iter().map(str::to_owned));
        for rule in resolved.rules {
            if !rule.resources.is_empty() {
                let mut entry = json!({ "verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources });
                if !rule.resource_names.is_empty() {
                    entry["resourceNames"] = json!(rule.resource_names);
                }
                resource_rules.push(entry);
            }
            if !rule.non_resource_urls.is_empty() {
                path_rules.push(json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }));
            }
        }
        let mut status = json!({ "resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": !resolved.errors.is_empty() });
        match &resolved.errors[..] {
            [] => {}
            [one] => status["evaluationError"] = one.as_str().into(),
            many => status["evaluationError"] = format!("[{}]", many.join(", ")).into(),
        }
        Ok(status)
    }
}

/// The kind of a review, as refusals name it.
fn review_kind(resource: &str) -> &'static str {
    match resource {
        "selfsubjectaccessreviews" => "SelfSubjectAccessReview",
        "localsubjectaccessreviews" => "LocalSubjectAccessReview",
        _ => "SubjectAccessReview",
    }
}

fn user_info(user: &User) -> Value {
    let mut info = json!({ "username": user.username, "groups": user.groups });
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn subject(review: &Value) -> Result<User, Status> {
    let spec = &review["spec"];
    let user = User {
        username: spec["user"].as_str().unwrap_or_default().into(),
        uid: spec["uid"].as_str().unwrap_or_default().into(),
        groups: serde_json::from_value(spec["groups"].clone()).unwrap_or_default(),
        extra: serde_json::from_value(spec["extra"].clone()).unwrap_or_default(),
    };
    if user.username.is_empty() && user.groups.is_empty() {
        let error = FieldError::required(&FieldPath::new("spec.user"), "at least one of user or group must be specified");
        return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", &vec![error]));
    }
    Ok(user)
}
