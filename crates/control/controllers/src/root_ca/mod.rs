//! Root CA: every active namespace has the bundle its pods verify the API server with.
use crate::service_account::is_active;
use api_meta::ClusterName;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Runner, async_trait};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
);

type Pem = Arc<dyn Fn(&ClusterName) -> String + Send + Sync>;

pub struct RootCa {
    namespaces: Objects<Namespace>,
    maps: Objects<ConfigMap>,
    pem: Pem,
}

pub struct World {
    pub namespace: Arc<Namespace>,
    pub map: Option<Arc<ConfigMap>>,
    pub pem: String,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(ConfigMap),
    Replace(ConfigMap),
}

pub fn runner(kit: &Kit, pem: Pem) -> Runner<RootCa> {
    let (namespaces, maps) = (kit.objects::<Namespace>(), kit.selected::<ConfigMap>("metadata.name=kube-root-ca.crt"));
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
        let data = BTreeMap::from([("ca.crt".to_owned(), world.pem.clone())]);
        let (description, text) = DESCRIPTION;
        match &world.map {
            None => {
                let metadata = ObjectMeta {
                    name: Some(NAME.into()),
                    namespace: world.namespace.metadata.name.clone(),
                    annotations: Some([(description.to_owned(), text.to_owned())].into()),
                    ..Default::default()
                };
                vec![Action::Create(ConfigMap { metadata, data: Some(data), ..Default::default() })].into()
            }
            Some(map) => {
                let mut right = (**map).clone();
                right.data = Some(data);
                right.metadata.annotations.get_or_insert_default().insert(description.to_owned(), text.to_owned());
                if right == **map { Plan::nothing() } else { vec![Action::Replace(right)].into() }
            }
        }
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let done = match action {
            Action::Create(map) => self.maps.create(&key.cluster, &map).await,
            Action::Replace(map) => self.maps.replace(&key.cluster, &map).await,
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

    #[test]
    fn a_changed_bundle_is_put_right() {
        let namespace = Arc::new(Namespace { metadata: ObjectMeta { name: Some("n".into()), ..Default::default() }, ..Default::default() });
        let settle = |world| {
            converges(world, 2, RootCa::reconcile, |world: &mut World, action| match action {
                Action::Create(map) | Action::Replace(map) => world.map = Some(Arc::new(map)),
            })
        };
        let mut world = settle(World { namespace, map: None, pem: "one".into() });
        assert_eq!(world.map.as_ref().unwrap().data.as_ref().unwrap()["ca.crt"], "one");
        world.pem = "two".into();
        assert_eq!(settle(world).map.unwrap().data.as_ref().unwrap()["ca.crt"], "two");
    }
}
