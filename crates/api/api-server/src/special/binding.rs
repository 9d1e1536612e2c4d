//! Binding: gives a pod its node, once.
use crate::body::{self, Answer};
use crate::context::Context;
use crate::kinds::Kind;
use crate::stored::stored;
use crate::update::Change;
use crate::write::options;
use crate::{ApiServer, decode, metadata};
use api_admission::Operation;
use api_meta::{FieldError, FieldPath, Status};
use bytes::Bytes;
use clock::rfc3339_seconds;
use http::StatusCode;
use serde_json::{Value, json};

impl ApiServer {
    /// `kind` is that of pods.
    pub(crate) async fn bind(&self, context: &Context<'_>, kind: &Kind, body: &Bytes) -> Result<Answer, Status> {
        let binding = decode::foreign(&decode::json_text(context, body)?, ("", "v1", "Binding"))?;
        metadata::check_namespace(&binding, context, kind)?;
        let name = match context.route.name.as_str() {
            "" => metadata::text(&binding, "name").to_owned(),
            name => name.to_owned(),
        };
        let sent = metadata::text(&binding, "name");
        if !sent.is_empty() && sent != name {
            return Err(Status::bad_request(format!("the name of the object ({sent}) does not match the name on the URL ({name})")));
        }
        let target = &binding["target"];
        let node = target["name"].as_str().unwrap_or_default();
        let mut errors = Vec::new();
        if !matches!(target["kind"].as_str().unwrap_or_default(), "" | "Node") {
            errors.push(FieldError::not_supported(&FieldPath::new("target.kind"), target["kind"].clone(), &["Node", "<empty>"]));
        }
        if node.is_empty() {
            errors.push(FieldError::required(&FieldPath::new("target.name"), ""));
        }
        if !errors.is_empty() {
            return Err(Status::invalid("", "Binding", &name, &errors));
        }
        let part = api_resource::Subresource {
            name: "binding",
            kind: api_resource::SubresourceKind::Part(|_, bound| bound.clone()),
            speaks: ("", "v1", "Binding"),
            verbs: &["create"],
        };
        let options = options(context)?;
        let mut binding = binding;
        (binding["apiVersion"], binding["kind"]) = ("v1".into(), "Binding".into());
        metadata::of(&mut binding).insert("name".into(), name.as_str().into());
        let dry_run = context.dry_run()?;
        let binding = self.admit(context, kind, part.speaks, Operation::Create, &name, binding, &options, dry_run).await?;
        let node = binding["target"]["name"].as_str().unwrap_or_default();
        let change = Change { part: Some(&part), tracked: false, options };
        let now = rfc3339_seconds(context.now);
        self.change_object(context, kind, &name, change, |pod| bound(pod, &binding, node, &now)).await?;
        let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
        Ok(body::json(StatusCode::CREATED, &status))
    }

    /// The node a pod is bound to, if it is.
    pub(super) async fn pod(&self, context: &Context<'_>) -> Result<Value, Status> {
        let kind = self.kinds.find(context.cluster, "", "v1", "pods").ok_or_else(Status::no_such_resource)?;
        let record = self.record(context, &kind, &context.route.name).await?;
        Ok(stored(&record).object.to_value())
    }
}

fn bound(pod: &Value, binding: &Value, node: &str, now: &str) -> Result<Value, Status> {
    let name = metadata::text(pod, "name");
    let conflict = |why: String| Err(Status::conflict("", "pods/binding", name, why));
    for (what, field) in [("UID", "uid"), ("ResourceVersion", "resourceVersion")] {
        let (wanted, is) = (metadata::text(binding, field), metadata::text(pod, field));
        if !wanted.is_empty() && wanted != is {
            return conflict(format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}"));
        }
    }
    if !metadata::text(pod, "deletionTimestamp").is_empty() {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    if let Some(assigned) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
        return conflict(format!("pod {name} is already assigned to node {assigned:?}"));
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    let mut bound = pod.clone();
    metadata::of(&mut bound).remove("resourceVersion");
    bound["spec"]["nodeName"] = node.into();
    for map in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][map].as_object().into_iter().flatten() {
            bound["metadata"][map][key] = value.clone();
        }
    }
    let condition = json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now });
    match bound["status"]["conditions"].as_array_mut() {
        Some(conditions) => {
            conditions.retain(|c| c["type"] != "PodScheduled");
            conditions.push(condition);
        }
        None => bound["status"]["conditions"] = json!([condition]),
    }
    Ok(bound)
}
