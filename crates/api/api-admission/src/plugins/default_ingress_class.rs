//! DefaultIngressClass: an ingress that names no class gets the default one.
use crate::plugins::newest_default;
use crate::{AdmissionRequest, Operation, Plugin};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use async_trait::async_trait;

const GROUP: &str = "networking.k8s.io";
const MARK: &str = "ingressclass.kubernetes.io/is-default-class";

pub struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
        if !request.is(GROUP, "ingresses") || request.operation != Operation::Create {
            return Ok(());
        }
        let ingress = request.object();
        let named = !ingress["spec"]["ingressClassName"].is_null() || ingress["metadata"]["annotations"].get("kubernetes.io/ingress.class").is_some();
        if named {
            return Ok(());
        }
        if let Some(class) = newest_default(request, lookup, GroupResource::new(GROUP, "ingressclasses"), &[MARK]).await? {
            let name = class.meta().name.to_string();
            request.spec_mut().insert("ingressClassName".into(), name.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, ask};
    use serde_json::json;

    #[tokio::test]
    async fn the_default_is_taken_unless_the_ingress_says_something() {
        let world = World::of([("ingressclasses.networking.k8s.io", json!({"metadata": {"name": "edge", "annotations": {MARK: "true"}}}))]);
        for (given, want) in [
            (json!({}), json!("edge")),
            (json!({"spec": {"ingressClassName": "x"}}), json!("x")),
            (json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "nginx"}}}), json!(null)),
        ] {
            let answer = ask("ingresses.networking.k8s.io").named("a", "i").creates(given).mutated(&DefaultIngressClass, &world).await.unwrap();
            assert_eq!(answer.object["spec"]["ingressClassName"], want);
        }
    }
}
