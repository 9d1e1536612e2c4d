//! ServiceAccount: every active namespace has the account `default`.
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Runner, async_trait};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

const NAME: &str = "default";

pub struct ServiceAccounts {
    namespaces: Objects<Namespace>,
    accounts: Objects<ServiceAccount>,
}

pub struct World {
    pub namespace: Arc<Namespace>,
    pub exists: bool,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    CreateDefault,
}

/// Whether content may be made in it.
pub fn is_active(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none() && namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating")
}

pub fn runner(kit: &Kit) -> Runner<ServiceAccounts> {
    let (namespaces, accounts) = (kit.objects::<Namespace>(), kit.objects::<ServiceAccount>());
    Runner::new(ServiceAccounts { namespaces: namespaces.clone(), accounts: accounts.clone() }).workers(2).watch_own(&namespaces).watch(&accounts, |change| {
        let gone = change.new.is_none() && *change.key.name == *NAME;
        if gone { vec![ObjectKey::new(&change.key.cluster, "", &change.key.namespace)] } else { Vec::new() }
    })
}

#[async_trait]
impl Controller for ServiceAccounts {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "serviceaccount-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let exists = self.accounts.get(&ObjectKey::new(&key.cluster, &key.name, NAME)).is_some();
        Some(World { namespace: self.namespaces.get(key)?, exists })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        if is_active(&world.namespace) && !world.exists { vec![Action::CreateDefault].into() } else { Plan::nothing() }
    }

    async fn act(&self, key: &ObjectKey, Action::CreateDefault: Action) -> Result<(), Error> {
        let metadata = ObjectMeta { name: Some(NAME.into()), namespace: Some(key.name.to_string()), ..Default::default() };
        match self.accounts.create(&key.cluster, &ServiceAccount { metadata, ..Default::default() }).await {
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
    fn only_active_namespaces_get_their_account_and_only_once() {
        let world = |going: bool, exists| {
            let mut namespace = Namespace::default();
            namespace.metadata.deletion_timestamp = going.then(|| controller_kit::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
            World { namespace: Arc::new(namespace), exists }
        };
        assert_eq!(ServiceAccounts::reconcile(&world(false, false)).actions, [Action::CreateDefault]);
        assert_eq!(ServiceAccounts::reconcile(&world(false, true)).actions, []);
        assert_eq!(ServiceAccounts::reconcile(&world(true, false)).actions, []);
    }

    #[test]
    fn an_account_is_made_once() {
        let world = World { namespace: Arc::default(), exists: false };
        assert!(converges(world, 1, ServiceAccounts::reconcile, |world, Action::CreateDefault| world.exists = true).exists);
    }
}
