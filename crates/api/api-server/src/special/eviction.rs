//! Eviction: a deletion that asks the pod's disruption budgets first.
use crate::body::{self, Answer};
use crate::context::Context;
use crate::delete_options::DeleteOptions;
use crate::kinds::Kind;
use crate::{ApiServer, decode, errors, metadata, write};
use api_admission::Operation;
use api_meta::{GroupResource, LabelSelector, Object, Status, StatusCause};
use api_resource::{Lookup, Subresource};
use bytes::Bytes;
use clock::rfc3339_seconds;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Key, Op, Precondition, StoreError, Txn};

const ATTEMPTS: usize = 5;

impl ApiServer {
    pub(crate) async fn evict(&self, context: &Context<'_>, kind: &Kind, subresource: &Subresource, body: &Bytes) -> Result<Answer, Status> {
        let eviction = decode::foreign(&decode::json_text(context, body)?, subresource.speaks)?;
        metadata::check_namespace(&eviction, context, kind)?;
        let name = &context.route.name;
        let sent = metadata::text(&eviction, "name");
        if !sent.is_empty() && sent != name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let dry_run = context.dry_run()?;
        let kinds = subresource.speaks;
        let (api_version, written) = (api_meta::join_api_version(kinds.0, kinds.1), write::options(context)?);
        let mut eviction = eviction;
        (eviction["apiVersion"], eviction["kind"]) = (api_version.into(), kinds.2.into());
        metadata::of(&mut eviction).insert("name".into(), name.as_str().into());
        let eviction = self.admit(context, kind, kinds, Operation::Create, name, eviction, &written, dry_run).await?;
        let options = match &eviction["deleteOptions"] {
            Value::Null => DeleteOptions::default(),
            options => DeleteOptions::of(options.clone())?,
        };
        let pod = self.pod(context).await?;
        options.check(&**kind, name, &pod)?;
        if !free_to_go(&pod) {
            self.spend_budget(context, &pod, dry_run || options.is_dry_run()).await?;
        }
        self.delete_with(context, kind, &options).await?;
        Ok(body::json(StatusCode::CREATED, &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" })))
    }

    /// Takes one disruption from the pod's budget, or says why there is none.
    async fn spend_budget(&self, context: &Context<'_>, pod: &Value, dry_run: bool) -> Result<(), Status> {
        let resource = GroupResource::new("policy", "poddisruptionbudgets");
        let namespace = &context.route.namespace;
        for _ in 0..ATTEMPTS {
            let budgets = Lookup::list(self, context.cluster, &resource, Some(namespace)).await?;
            let labels: std::collections::BTreeMap<String, String> = serde_json::from_value(pod["metadata"]["labels"].clone()).unwrap_or_default();
            let mut covering = budgets.iter().filter(|budget| selector(budget).is_some_and(|s| s.matches(&labels)));
            let Some(budget) = covering.next() else { return Ok(()) };
            if covering.next().is_some() {
                return Err(Status::internal("This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."));
            }
            let mut object = budget.to_value();
            if !is_ready(pod) && (object["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || is_healthy_enough(&object["status"])) {
                return Ok(());
            }
            let revision: u64 = budget.meta().resource_version.parse().map_err(Status::internal)?;
            disrupt(&mut object, metadata::text(pod, "name"), &rfc3339_seconds(context.now))?;
            if dry_run {
                return Ok(());
            }
            let key = Key::new(context.cluster, &resource, namespace, &budget.meta().name);
            let value = api_meta::object::encode(object.as_object().expect("a stored object"));
            let txn = Txn { preconditions: vec![Precondition::AtRevision(key.clone(), revision)], ops: vec![Op::Put { key, value }] };
            match self.store.txn(txn).await {
                Ok(_) => return Ok(()),
                Err(StoreError::PreconditionFailed { .. }) => {}
                Err(error) => return Err(errors::from_store(error)),
            }
        }
        Err(Status::too_many_requests("the disruption budget is being changed too quickly; try again", 10))
    }
}

/// A pod that is finished, never started or already going needs no budget.
fn free_to_go(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending")) || !metadata::text(pod, "deletionTimestamp").is_empty()
}

/// Whether enough pods are healthy without one that is not: its going disturbs nothing.
fn is_healthy_enough(status: &Value) -> bool {
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy")
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn selector(budget: &Arc<Object>) -> Option<LabelSelector> {
    #[derive(serde::Deserialize)]
    struct Budget {
        spec: Spec,
    }
    #[derive(serde::Deserialize)]
    struct Spec {
        selector: Option<Value>,
    }
    let budget: Budget = budget.decode().ok()?;
    let selector = budget.spec.selector?;
    let labels: std::collections::BTreeMap<String, String> = serde_json::from_value(selector["matchLabels"].clone()).unwrap_or_default();
    let expressions: Vec<(String, String, Vec<String>)> = selector["matchExpressions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| {
            (
                e["key"].as_str().unwrap_or_default().into(),
                e["operator"].as_str().unwrap_or_default().into(),
                serde_json::from_value(e["values"].clone()).unwrap_or_default(),
            )
        })
        .collect();
    LabelSelector::from_parts(&labels, expressions.iter().map(|(k, o, v)| (k.as_str(), o.as_str(), v.as_slice()))).ok()
}

fn disrupt(budget: &mut Value, pod: &str, now: &str) -> Result<(), Status> {
    let name = metadata::text(budget, "name").to_owned();
    let refused = |message: String| {
        let cause = StatusCause { reason: "DisruptionBudget".into(), message, field: String::new() };
        Err(Status { details: None, ..Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0) }
            .with_causes(vec![cause]))
    };
    let status = &budget["status"];
    if status["observedGeneration"].as_i64().unwrap_or(0) < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        return Err(Status::too_many_requests(format!("The disruption budget {name} is still being processed by the server."), 10));
    }
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
    if allowed <= 0 {
        let (desired, healthy) = (status["desiredHealthy"].as_i64().unwrap_or(0), status["currentHealthy"].as_i64().unwrap_or(0));
        return refused(format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"][pod] = now.into();
    Ok(())
}
