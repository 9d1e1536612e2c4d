//! The plugin MutatingAdmissionPolicy: policies change the object one after the other, each seeing what the one before made.
use super::validating::{binds, constrains};
use super::{Binding, MutatingPolicy, parameters};
use crate::cel::{Inputs, namespace_object};
use crate::matching::Matched;
use crate::{AdmissionRequest, Plugin, Registry, matching};
use api_meta::{Status, StatusCause};
use api_resource::Lookup;
use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

const NAME: &str = "MutatingAdmissionPolicy";

pub struct MutatingAdmissionPolicyPlugin {
    registry: Arc<Registry>,
}

impl MutatingAdmissionPolicyPlugin {
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }
}

#[async_trait]
impl Plugin for MutatingAdmissionPolicyPlugin {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        let policies = self.registry.mutating_policies(request.cluster);
        if policies.is_empty() || request.object.is_none() || matching::is_exempt(request) {
            return Ok(());
        }
        request.reinvocation.begin(NAME, request.object.as_ref());
        let namespace = namespace_object(request, lookup).await?;
        let mut refusals = Vec::new();
        for (policy, bindings) in &policies {
            for binding in bindings {
                if let Err(why) = apply(policy, binding, request, lookup, &namespace).await
                    && !policy.policy.ignores_failure
                {
                    refusals.push(format!("policy '{}' with binding '{}' denied request: {why}", policy.policy.name, binding.name));
                }
            }
        }
        request.reinvocation.end(NAME, request.object.as_ref());
        let Some(first) = refusals.first().cloned() else { return Ok(()) };
        let causes = refusals.into_iter().map(|message| StatusCause { message, ..StatusCause::default() }).collect();
        Err(Status { message: first, ..request.forbidden("admission request denied by policy") }.with_causes(causes))
    }
}

/// Applies a policy as one binding has it. The error says why it could not be.
async fn apply(policy: &MutatingPolicy, binding: &Binding, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup, namespace: &Value) -> Result<(), String> {
    let Some(matched) = constrains(&policy.policy.criteria, request, lookup).await.map_err(|why| format!("failed to configure policy: {why}"))? else {
        return Ok(());
    };
    let served = parameters::served(&policy.policy, request).map_err(|why| format!("failed to configure policy: {why}"))?;
    let in_binding = |why: String| format!("failed to configure binding: {why}");
    if !binds(binding, request, lookup).await.map_err(in_binding)? {
        return Ok(());
    }
    let params = parameters::collect(served.as_ref(), binding, request, lookup).await.map_err(in_binding)?;
    for (index, param) in params.into_iter().enumerate() {
        let id = format!("{}/{}/{index}", policy.policy.name, binding.name);
        if request.reinvocation.skips(NAME, &id) {
            continue;
        }
        for mutation in 0..policy.mutations() {
            mutate(policy, mutation, &param, request, &matched, namespace)?;
        }
        if policy.reinvoke {
            request.reinvocation.called(NAME, &id);
        }
    }
    Ok(())
}

fn mutate(
    policy: &MutatingPolicy,
    mutation: usize,
    param: &Value,
    request: &mut AdmissionRequest<'_>,
    matched: &Matched,
    namespace: &Value,
) -> Result<(), String> {
    let Some(object) = &request.object else { return Ok(()) };
    let before = if matched.version == request.version { object.clone() } else { request.host.convert(request.cluster, object, &matched.version)? };
    let served = request.host.serves(request.cluster, &matched.kind.0, &matched.kind.1, &matched.kind.2);
    let schema = served.map(|served| served.schema);
    let made = {
        let mut inputs = Inputs::new(request, matched, namespace)?;
        inputs.params = param.clone();
        policy.mutated(mutation, &inputs, &before, schema.as_deref().unwrap_or(api_schema::Schema::anything()))?
    };
    let Some(mut after) = made else { return Ok(()) };
    for field in ["apiVersion", "kind"] {
        if after[field] != before[field] {
            return Err(format!("{field} may not be changed"));
        }
    }
    request.host.settle(request.cluster, &mut after)?;
    let after = if matched.version == request.version { after } else { request.host.convert(request.cluster, &after, request.version)? };
    if request.object.as_ref() != Some(&after) {
        request.object = Some(after);
        request.reinvocation.changed(NAME);
    }
    Ok(())
}
