//! The plugin ValidatingAdmissionPolicy: refuses, warns or notes, as bindings say.
use super::validating_policy::{Denial, Judgement};
use super::{Binding, parameters};
use crate::cel::{Inputs, namespace_object};
use crate::matching::{Criteria, Matched};
use crate::{AdmissionRequest, Plugin, Registry, matching};
use api_meta::{Status, StatusCause};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

pub struct ValidatingAdmissionPolicyPlugin {
    registry: Arc<Registry>,
}

impl ValidatingAdmissionPolicyPlugin {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

/// What a binding's own criteria say; the policy's already hold.
pub(super) async fn binds(binding: &Binding, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<bool, String> {
    match &binding.criteria {
        None => Ok(true),
        Some(Err(why)) => Err(why.clone()),
        Some(Ok(criteria)) => criteria.matches(request, lookup).await.map(|matched| matched.is_some()).map_err(|status| status.message),
    }
}

/// What a policy's constraints match a request as.
pub(super) async fn constrains(criteria: &Result<Criteria, String>, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Option<Matched>, String> {
    match criteria {
        Err(why) => Err(why.clone()),
        Ok(criteria) => criteria.matches(request, lookup).await.map_err(|status| status.message),
    }
}

#[async_trait]
impl Plugin for ValidatingAdmissionPolicyPlugin {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let policies = self.registry.validating_policies(request.cluster);
        if policies.is_empty() || matching::is_exempt(request) {
            return Ok(());
        }
        let namespace = namespace_object(request, lookup).await?;
        let mut refusals = Vec::new();
        for (policy, bindings) in &policies {
            let name = &policy.policy.name;
            let mut misconfigured = |binding: Option<&Binding>, why: String| {
                if policy.policy.ignores_failure {
                    return;
                }
                let what = if binding.is_some() { "binding" } else { "policy" };
                refusals.push(refusal(name, binding, &format!("failed to configure {what}: {why}"), ""));
            };
            let matched = match constrains(&policy.policy.criteria, request, lookup).await {
                Ok(Some(matched)) => matched,
                Ok(None) => continue,
                Err(why) => {
                    misconfigured(None, why);
                    continue;
                }
            };
            let served = match parameters::served(&policy.policy, request) {
                Ok(served) => served,
                Err(why) => {
                    misconfigured(None, why);
                    continue;
                }
            };
            let mut noted = BTreeMap::new();
            for binding in bindings {
                let params = match binds(binding, request, lookup).await {
                    Ok(false) => continue,
                    Ok(true) => parameters::collect(served.as_ref(), binding, request, lookup).await,
                    Err(why) => Err(why),
                };
                let params = match params {
                    Ok(params) => params,
                    Err(why) => {
                        let mut misconfigured = |why: String| {
                            if !policy.policy.ignores_failure {
                                refusals.push(refusal(name, Some(binding), &format!("failed to configure binding: {why}"), ""));
                            }
                        };
                        misconfigured(why);
                        continue;
                    }
                };
                for param in params {
                    let judgement = {
                        let mut inputs = Inputs::new(request, &matched, &namespace).map_err(Status::internal)?;
                        inputs.params = param;
                        policy.judge(&inputs)
                    };
                    act(name, binding, judgement, request, &mut refusals, &mut noted);
                }
            }
            let joined = noted.into_iter().map(|(key, values): (String, Vec<String>)| (key, values.join(", ")));
            request.annotate(name, joined);
        }
        match refusals.into_iter().next() {
            None => Ok(()),
            Some((message, reason)) => Err(refused(request, &message, reason)),
        }
    }
}

/// Does as the binding says with what the policy said.
fn act(
    policy: &str,
    binding: &Binding,
    judgement: Judgement,
    request: &mut AdmissionRequest<'_>,
    refusals: &mut Vec<(String, String)>,
    noted: &mut BTreeMap<String, Vec<String>>,
) {
    for Denial { index, message, reason } in judgement.denials {
        for action in &binding.actions {
            match action.as_str() {
                "Deny" => refusals.push(refusal(policy, Some(binding), &message, &reason)),
                "Warn" => {
                    request.warnings.push(format!("Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{}': {message}", binding.name))
                }
                _ => {
                    let failure = json!([{
                        "message": message, "policy": policy, "binding": binding.name, "expressionIndex": index, "validationActions": binding.actions,
                    }]);
                    request.annotate("validation.policy.admission.k8s.io", [("validation_failure".to_owned(), failure.to_string())]);
                }
            }
        }
    }
    refusals.extend(judgement.failures.iter().map(|why| refusal(policy, Some(binding), why, "")));
    for (key, value) in judgement.annotations {
        let values = noted.entry(key).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
}

fn refusal(policy: &str, binding: Option<&Binding>, message: &str, reason: &str) -> (String, String) {
    let message = match binding {
        Some(binding) => format!("ValidatingAdmissionPolicy '{policy}' with binding '{}' denied request: {message}", binding.name),
        None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {message}"),
    };
    (message, reason.to_owned())
}

fn refused(request: &AdmissionRequest<'_>, message: &str, reason: String) -> Status {
    let (code, reason) = match reason.as_str() {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    let mut status = request.forbidden(message);
    (status.code, status.reason) = (code, reason);
    status.with_causes(vec![StatusCause { message: message.to_owned(), ..StatusCause::default() }])
}
