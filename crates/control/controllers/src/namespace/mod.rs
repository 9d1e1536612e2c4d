//! Namespace: a namespace being deleted loses all its content, then its finalizer.
mod conditions;
mod content;

use conditions::Outcome;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Runner, async_trait};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use std::sync::Arc;
use std::time::Duration;

/// The finalizer in `spec` that is this controller's.
const FINALIZER: &str = "kubernetes";

pub struct Namespaces {
    kit: Kit,
    namespaces: Objects<Namespace>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    MarkTerminating,
    DeleteContent,
}

pub fn runner(kit: &Kit) -> Runner<Namespaces> {
    let (namespaces, pods) = (kit.objects::<Namespace>(), kit.objects::<Pod>());
    let terminating = namespaces.clone();
    Runner::new(Namespaces { kit: kit.clone(), namespaces: namespaces.clone() }).workers(10).watch_own(&namespaces).watch(&pods, move |change| {
        // The rest of a namespace waits for its last pod to go.
        let key = ObjectKey::new(&change.key.cluster, "", &change.key.namespace);
        let waits = change.new.is_none() && terminating.get(&key).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some());
        if waits { vec![key] } else { Vec::new() }
    })
}

fn finalizers(namespace: &Namespace) -> Vec<String> {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default()
}

impl Namespaces {
    async fn tell(&self, key: &ObjectKey, change: impl FnOnce(&mut Namespace)) -> Result<(), Error> {
        let Some(namespace) = self.namespaces.get(key) else { return Ok(()) };
        let mut told = (*namespace).clone();
        change(&mut told);
        if told.status != namespace.status {
            self.namespaces.replace_status(&key.cluster, &told).await?;
        }
        Ok(())
    }

    async fn finalize(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(namespace) = self.namespaces.get(key) else { return Ok(()) };
        let mut done = (*namespace).clone();
        let mut left = finalizers(&done);
        left.retain(|finalizer| finalizer != FINALIZER);
        done.spec.get_or_insert_default().finalizers = (!left.is_empty()).then_some(left);
        match self.namespaces.replace_part(&key.cluster, &done, "/finalize").await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Controller for Namespaces {
    type World = Arc<Namespace>;
    type Action = Action;

    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<Arc<Namespace>> {
        self.namespaces.get(key)
    }

    fn reconcile(namespace: &Arc<Namespace>) -> Plan<Action> {
        let mut plan = Plan::nothing();
        if namespace.metadata.deletion_timestamp.is_none() {
            return plan;
        }
        if namespace.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Terminating") {
            plan.push(Action::MarkTerminating);
        }
        // Without the finalizer our part is done.
        if finalizers(namespace).iter().any(|finalizer| finalizer == FINALIZER) {
            plan.push(Action::DeleteContent);
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::MarkTerminating => self.tell(key, |namespace| namespace.status.get_or_insert_default().phase = Some("Terminating".into())).await,
            Action::DeleteContent => {
                let outcome: Outcome = content::delete_all(&self.kit, key).await;
                let now = self.kit.now();
                self.tell(key, |namespace| {
                    let status = namespace.status.get_or_insert_default();
                    status.conditions = Some(outcome.conditions(status.conditions.as_deref().unwrap_or_default(), now));
                })
                .await?;
                if outcome.is_empty() {
                    return self.finalize(key).await;
                }
                if outcome.remaining.is_empty() {
                    let failures = [outcome.discovery_failures, outcome.deletion_failures].concat();
                    return Err(Error::NotYet(format!("content of namespace {} could not be deleted: {}", key.name, failures.join("; "))));
                }
                let after = Duration::from_secs(outcome.estimate_seconds / 2 + 1);
                Err(Error::Later { after, why: format!("{:?} remain in namespace {}", outcome.remaining, key.name) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::{Value, json};

    fn plan(value: Value) -> Vec<Action> {
        Namespaces::reconcile(&Arc::new(serde_json::from_value(value).unwrap())).actions
    }

    #[test]
    fn only_a_namespace_being_deleted_with_our_finalizer_loses_its_content() {
        assert_eq!(plan(json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}})), []);
        let going = json!({"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(
            plan(json!({"metadata": going, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})),
            [Action::MarkTerminating, Action::DeleteContent]
        );
        assert_eq!(plan(json!({"metadata": going, "spec": {"finalizers": ["other"]}, "status": {"phase": "Terminating"}})), []);
    }

    #[test]
    fn it_is_marked_once_and_emptied_until_its_finalizer_is_gone() {
        let namespace = json!({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"finalizers": ["kubernetes", "other"]}});
        let mut looks = 0;
        let end = converges(Arc::new(serde_json::from_value::<Namespace>(namespace).unwrap()), 3, Namespaces::reconcile, |namespace, action| {
            let namespace = Arc::make_mut(namespace);
            match action {
                Action::MarkTerminating => namespace.status.get_or_insert_default().phase = Some("Terminating".into()),
                // Something keeps it at first.
                Action::DeleteContent if looks == 0 => looks += 1,
                Action::DeleteContent => namespace.spec.as_mut().unwrap().finalizers.as_mut().unwrap().retain(|finalizer| finalizer != FINALIZER),
            }
        });
        assert_eq!(finalizers(&end), ["other"]);
    }
}
