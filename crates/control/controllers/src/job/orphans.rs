//! Orphans: pods that wait to be counted by a Job that is gone are let go.
use super::{let_go, tally};
use crate::owners::{self, BY_CONTROLLER};
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Runner, async_trait};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

pub struct OrphanPods {
    jobs: Objects<Job>,
    pods: Objects<Pod>,
}

pub struct World {
    pub pod: Arc<Pod>,
    /// The job that counts it.
    pub job: Option<Arc<Job>>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    LetGo,
}

pub fn runner(kit: &Kit) -> Runner<OrphanPods> {
    let (jobs, pods) = (kit.objects::<Job>(), kit.objects::<Pod>());
    pods.add_index(BY_CONTROLLER, owners::by_controller);
    let counted = pods.clone();
    Runner::new(OrphanPods { jobs: jobs.clone(), pods: pods.clone() })
        .watch(&pods, |change| {
            let waits = change.new.as_ref().is_some_and(|pod| tally::has_finalizer(pod));
            if waits { vec![change.key.clone()] } else { Vec::new() }
        })
        .watch(&jobs, move |change| {
            let (None, Some(gone)) = (&change.new, &change.old) else { return Vec::new() };
            let uid = gone.metadata.uid.as_deref().unwrap_or_default();
            let left = counted.by_index(BY_CONTROLLER, &change.key.cluster, uid);
            left.iter().map(|pod| ObjectKey::of(&change.key.cluster, &pod.metadata)).collect()
        })
}

#[async_trait]
impl Controller for OrphanPods {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "job-orphan-pods"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let pod = self.pods.get(key)?;
        let owner = owners::controller_of(&pod.metadata).filter(|owner| owner.kind == "Job");
        let job = owner.and_then(|owner| {
            let job = self.jobs.get(&ObjectKey::new(&key.cluster, &key.namespace, &owner.name));
            job.filter(|job| job.metadata.uid.as_deref() == Some(&owner.uid))
        });
        Some(World { pod, job })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let waits = tally::has_finalizer(&world.pod) && world.job.is_none();
        if waits { vec![Action::LetGo].into() } else { Plan::nothing() }
    }

    async fn act(&self, key: &ObjectKey, Action::LetGo: Action) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        // The pod may be known before its job.
        if let Some(owner) = owners::controller_of(&pod.metadata).filter(|owner| owner.kind == "Job") {
            let job = self.jobs.fresh(&ObjectKey::new(&key.cluster, &key.namespace, &owner.name)).await?;
            if job.is_some_and(|job| job.metadata.uid.as_deref() == Some(&owner.uid)) {
                return Ok(());
            }
        }
        let_go(&self.pods, &key.cluster, &pod).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    #[test]
    fn only_pods_without_their_job_are_let_go() {
        let mut pod = Pod::default();
        pod.metadata.finalizers = Some(vec![tally::FINALIZER.into()]);
        let world = |pod: &Pod, job| World { pod: Arc::new(pod.clone()), job };
        assert_eq!(OrphanPods::reconcile(&world(&pod, None)).actions, [Action::LetGo]);
        assert!(OrphanPods::reconcile(&world(&pod, Some(Arc::default()))).actions.is_empty());
        pod.metadata.finalizers = None;
        assert!(OrphanPods::reconcile(&world(&pod, None)).actions.is_empty());
    }

    #[test]
    fn a_pod_is_let_go_once() {
        let mut pod = Pod::default();
        pod.metadata.finalizers = Some(vec!["example.com/own".into(), tally::FINALIZER.into()]);
        let end = converges(World { pod: Arc::new(pod), job: None }, 1, OrphanPods::reconcile, |world, Action::LetGo| {
            let finalizers = Arc::make_mut(&mut world.pod).metadata.finalizers.as_mut().unwrap();
            finalizers.retain(|finalizer| finalizer != tally::FINALIZER);
        });
        assert_eq!(end.pod.metadata.finalizers.as_ref().unwrap().len(), 1);
    }
}
