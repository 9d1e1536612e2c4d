//! Root CA: every active namespace has the bundle its pods verify the API server with.
mod published;

use crate::service_account::is_active;
use api_meta::ClusterName;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use k8s_openapi::api::core::v1::Namespace;
use published::{ENTRY, Published};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

type Pem = Arc<dyn Fn(&ClusterName) -> String + Send + Sync>;

pub struct RootCa {
    namespaces: Objects<Namespace>,
    maps: Objects<Published>,
    pem: Pem,
}

pub struct World {
    pub namespace: Arc<Namespace>,
    pub map: Option<Arc<Published>>,
    pub pem: String,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    /// The whole ConfigMap.
    Create(Value),
    /// What is wrong with the one that is there.
    Patch(Value),
}

pub fn runner(kit: &Kit, pem: Pem) -> Runner<RootCa> {
    let (namespaces, maps) = (kit.objects::<Namespace>(), kit.selected::<Published>("metadata.name=kube-root-ca.crt"));
    Runner::new(RootCa { namespaces: namespaces.clone(), maps: maps.clone(), pem })
        .workers(2)
        .watch_own(&namespaces)
        .watch(&maps, |change| if *change.key.name == *NAME { vec![ObjectKey::new(&change.key.cluster, "", &change.key.namespace)] } else { Vec::new() })
}

#[async_trait]
impl Controller for RootCa {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let map = self.maps.get(&ObjectKey::new(&key.cluster, &key.name, NAME));
        Some(World { namespace: self.namespaces.get(key)?, map, pem: (self.pem)(&key.cluster) })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        if !is_active(&world.namespace) {
            return Plan::nothing();
        }
        let (description, text) = DESCRIPTION;
        let annotations = json!({ description: text });
        match &world.map {
            None => {
                let metadata = json!({ "name": NAME, "namespace": world.namespace.metadata.name, "annotations": annotations });
                vec![Action::Create(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { ENTRY: world.pem } }))].into()
            }
            Some(map) if map.is_right(&world.pem) => Plan::nothing(),
            Some(map) => {
                let mut data: Map<String, Value> = map.others.iter().map(|entry| (entry.to_string(), Value::Null)).collect();
                data.insert(ENTRY.into(), world.pem.as_str().into());
                vec![Action::Patch(json!({ "metadata": { "annotations": annotations }, "data": data }))].into()
            }
        }
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let place = ObjectKey::new(&key.cluster, &key.name, NAME);
        let done = match action {
            Action::Create(map) => self.maps.create_whole(&key.cluster, &key.name, &map).await,
            Action::Patch(patch) => {
                let Some(map) = self.maps.get(&place) else { return Ok(()) };
                self.maps.patch(&place, "", &patch, &Preconditions::exactly(&map.metadata)).await
            }
        };
        match done {
            Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => from
                .into_iter()
                .for_each(|(key, value)| if value.is_null() { drop(into.remove(&key)) } else { merge(into.entry(key).or_insert(Value::Null), value) }),
            (into, from) => *into = from,
        }
    }

    /// The ConfigMap that is there in the end, of this one.
    fn settled(map: Option<Value>, pem: &str) -> Value {
        let namespace = Arc::new(Namespace { metadata: ObjectMeta { name: Some("n".into()), ..Default::default() }, ..Default::default() });
        let kept = |map: &Value| Arc::new(serde_json::from_slice(&serde_json::to_vec(map).unwrap()).unwrap());
        let mut whole = map;
        let world = World { namespace, map: whole.as_ref().map(kept), pem: pem.into() };
        converges(world, 2, RootCa::reconcile, |world: &mut World, action| {
            match action {
                Action::Create(map) => whole = Some(map),
                Action::Patch(patch) => merge(whole.as_mut().unwrap(), patch),
            }
            world.map = whole.as_ref().map(kept);
        });
        whole.unwrap()
    }

    #[test]
    fn a_changed_bundle_is_put_right_and_what_is_not_its_own_stays() {
        let made = settled(None, "one");
        assert_eq!((&made["metadata"]["namespace"], &made["data"]), (&json!("n"), &json!({ "ca.crt": "one" })));
        assert_eq!(settled(Some(made.clone()), "one"), made);
        let mut changed = made.clone();
        merge(&mut changed, json!({ "metadata": { "labels": { "a": "b" }, "annotations": { DESCRIPTION.0: "" } }, "data": { "more": "x", "ca.crt": "mine" } }));
        let right = settled(Some(changed), "two");
        assert_eq!((&right["data"], &right["metadata"]["labels"]), (&json!({ "ca.crt": "two" }), &json!({ "a": "b" })));
        assert_eq!(right["metadata"]["annotations"], made["metadata"]["annotations"]);
        assert_eq!(settled(Some(json!({ "metadata": { "name": NAME } })), "one")["data"], json!({ "ca.crt": "one" }));
    }
}
