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

impl ApiServer {
    pub(crate) async fn review(&self, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
        let text = decode::json_text(context, body)?;
        let mut review = decode::object(context, kind, &text, decode::FieldValidation::of(context)?)?;
        if review["metadata"].is_null() {
            review["metadata"] = json!({});
        }
        let status = match context.route.resource.as_str() {
            "selfsubjectreviews" => json!({ "userInfo": user_info(context.user) }),
            "tokenreviews" => self.token_review(context, &review).await?,
            "selfsubjectaccessreviews" => self.access(context, context.user, &review["spec"])?,
            "subjectaccessreviews" => self.access(context, &subject(&review)?, &review["spec"])?,
            "localsubjectaccessreviews" => self.local_access(context, &review)?,
            "selfsubjectrulesreviews" => self.rules(context, &review)?,
            _ => return Err(Status::no_such_resource()),
        };
        review["status"] = status;
        Ok(body::json(StatusCode::CREATED, &review))
    }

    async fn token_review(&self, context: &Context<'_>, review: &Value) -> Result<Value, Status> {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> = review["spec"]["audiences"].as_array().into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
        let asked = if audiences.is_empty() { self.authentication.tokens().default_audiences() } else { audiences };
        match self.authentication.review(context.cluster, token, &asked, self).await {
            Ok(Some((user, audiences))) => Ok(json!({ "authenticated": true, "user": user_info(&user), "audiences": audiences })),
            Ok(None) => Ok(json!({ "authenticated": false })),
            Err(error) => Ok(json!({ "authenticated": false, "error": error.to_string() })),
        }
    }

    fn local_access(&self, context: &Context<'_>, review: &Value) -> Result<Value, Status> {
        let sent = review["spec"]["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
        if sent != context.route.namespace {
            let path = FieldPath::new("spec.resourceAttributes.namespace");
            let error = FieldError::invalid(&path, sent, "must match the namespace of the request");
            return Err(Status::invalid("authorization.k8s.io", "LocalSubjectAccessReview", "", &vec![error]));
        }
        self.access(context, &subject(review)?, &review["spec"])
    }

    fn access(&self, context: &Context<'_>, user: &User, spec: &Value) -> Result<Value, Status> {
        let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        if resource.is_object() == path.is_object() {
            let error = FieldError::invalid(
                &FieldPath::new("spec.resourceAttributes"),
                Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            return Err(Status::invalid("authorization.k8s.io", &context.route.resource, "", &vec![error]));
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
        Ok(match self.authorizer.authorize(&attributes) {
            Decision::Allow(reason) => json!({ "allowed": true, "reason": reason }),
            Decision::Deny(reason) => json!({ "allowed": false, "denied": true, "reason": reason }),
            Decision::NoOpinion(reason) if reason.is_empty() => json!({ "allowed": false }),
            Decision::NoOpinion(reason) => json!({ "allowed": false, "reason": reason }),
        })
    }

    fn rules(&self, context: &Context<'_>, review: &Value) -> Result<Value, Status> {
        let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
        if namespace.is_empty() {
            return Err(Status::bad_request("no namespace on request"));
        }
        if context.user.in_group(api_auth::MASTERS) {
            let every = json!(["*"]);
            return Ok(json!({
                "resourceRules": [{ "verbs": every, "apiGroups": every, "resources": every }],
                "nonResourceRules": [{ "verbs": every, "nonResourceURLs": every }], "incomplete": false,
            }));
        }
        let (mut resource_rules, mut path_rules) = (Vec::new(), Vec::new());
        for rule in self.authorizer.rbac().rules_for(context.cluster, context.user, namespace).rules {
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
        Ok(json!({ "resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false }))
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
        let error = FieldError::invalid(&FieldPath::new("spec.user"), "", "at least one of user or group must be specified");
        return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", &vec![error]));
    }
    Ok(user)
}
