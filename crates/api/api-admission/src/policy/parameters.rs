//! Parameters: the objects a binding names for its policy.
use super::{Binding, Policy};
use crate::host::Served;
use crate::{AdmissionRequest, selector};
use api_meta::{GroupResource, GroupVersionKind};
use api_resource::Lookup;
use serde_json::Value;

/// The resource of a policy's parameters; `None` when it takes none.
pub(super) fn served(policy: &Policy, request: &AdmissionRequest<'_>) -> Result<Option<Served>, String> {
    let Some((api_version, kind)) = &policy.param_kind else { return Ok(None) };
    let kind = GroupVersionKind::from_api_version(api_version, kind);
    match request.host.serves(request.cluster, &kind.group, &kind.version, &kind.kind) {
        Some(served) => Ok(Some(served)),
        None => Err(format!("failed to find resource referenced by paramKind: '{kind}'")),
    }
}

/// One evaluation for each of these; null stands for none.
pub(super) async fn collect(served: Option<&Served>, binding: &Binding, request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<Vec<Value>, String> {
    let (Some(served), Some(reference)) = (served, &binding.params) else { return Ok(vec![Value::Null]) };
    let namespace = if served.namespaced {
        let own = request.review_namespace();
        match (reference.namespace.as_str(), own) {
            ("", "") => return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into()),
            ("", own) => own,
            (named, _) => named,
        }
    } else if reference.namespace.is_empty() {
        ""
    } else {
        return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
    };
    let resource = GroupResource::new(&served.group, &served.resource);
    let found = match &reference.selector {
        _ if !reference.name.is_empty() => lookup.get(request.cluster, &resource, namespace, &reference.name).await.map(|found| found.into_iter().collect()),
        Some(Err(why)) => return Err(why.clone()),
        Some(Ok(selector)) => {
            let listed = lookup.list(request.cluster, &resource, Some(namespace).filter(|n| !n.is_empty())).await;
            listed.map(|all| all.into_iter().filter(|object| selector::matches_object(selector, &object.to_value())).collect())
        }
        None => return Err("one of name or selector must be provided".into()),
    };
    let found: Vec<_> = found.map_err(|status| status.message)?;
    if found.is_empty() && reference.denies_when_missing {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found.iter().map(|object| object.to_value()).collect())
}
