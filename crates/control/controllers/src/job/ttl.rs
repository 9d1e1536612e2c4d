//! TTL after finished: deletes finished Jobs some time after their end.
use super::{condition_of, is_finished};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, until};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use std::sync::Arc;
use std::time::Duration;

pub struct TtlAfterFinished {
    kit: Kit,
    jobs: Objects<Job>,
}

pub struct World {
    pub job: Arc<Job>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Delete,
}

pub fn runner(kit: &Kit) -> Runner<TtlAfterFinished> {
    let jobs = kit.objects::<Job>();
    Runner::new(TtlAfterFinished { kit: kit.clone(), jobs: jobs.clone() }).watch(&jobs, |change| {
        let ends = change.new.as_ref().is_some_and(|job| is_finished(job) && job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished.is_some()));
        if ends { vec![change.key.clone()] } else { Vec::new() }
    })
}

#[async_trait]
impl Controller for TtlAfterFinished {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "ttl-after-finished-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        Some(World { job: self.jobs.get(key)?, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let job = &world.job;
        let ttl = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
        let end = ["Complete", "Failed"].iter().find_map(|kind| condition_of(job.status.as_ref(), kind)?.last_transition_time.clone());
        let mut plan = Plan::nothing();
        if let (Some(ttl), Some(end), None) = (ttl, end, &job.metadata.deletion_timestamp) {
            match until(end.0, Duration::from_secs(ttl.unsigned_abs().into()), world.now) {
                None => plan.push(Action::Delete),
                Some(left) => plan.look_again(left),
            }
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, Action::Delete: Action) -> Result<(), Error> {
        let Some(job) = self.jobs.get(key) else { return Ok(()) };
        // The foreground, so that the pods are gone with the job.
        let deletion = Deletion { preconditions: Preconditions::exactly(&job.metadata), propagation: Some("Foreground"), ..Default::default() };
        self.jobs.delete(key, &deletion).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;
    use serde_json::json;

    #[test]
    fn a_job_goes_when_its_time_is_over() {
        let job: Job = serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": {"ttlSecondsAfterFinished": 60, "template": {}},
            "status": {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap();
        let at = |now: &str| TtlAfterFinished::reconcile(&World { job: Arc::new(job.clone()), now: now.parse().unwrap() });
        assert_eq!(at("2026-01-01T00:00:20Z").again_after, Some(Duration::from_secs(40)));
        assert_eq!(at("2026-01-01T00:01:00Z").actions, [Action::Delete]);
    }

    #[test]
    fn a_job_that_goes_is_not_deleted_again() {
        let job = json!({"metadata": {"name": "j"}, "spec": {"ttlSecondsAfterFinished": 0, "template": {}},
            "status": {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let world = World { job: Arc::new(serde_json::from_value(job).unwrap()), now: "2026-01-01T00:00:00Z".parse().unwrap() };
        let end = converges(world, 1, TtlAfterFinished::reconcile, |world, Action::Delete| {
            Arc::make_mut(&mut world.job).metadata.deletion_timestamp = Some(controller_kit::whole_seconds(world.now));
        });
        assert_eq!(TtlAfterFinished::reconcile(&end), Plan::nothing());
        // One that has not ended, or has no such time, is left alone.
        for (spec, condition) in [(json!({"ttlSecondsAfterFinished": 0, "template": {}}), "Suspended"), (json!({"template": {}}), "Complete")] {
            let job = json!({"metadata": {"name": "j"}, "spec": spec, "status": {"conditions": [{"type": condition, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
            let world = World { job: Arc::new(serde_json::from_value(job).unwrap()), now: "2027-01-01T00:00:00Z".parse().unwrap() };
            assert_eq!(TtlAfterFinished::reconcile(&world), Plan::nothing(), "{condition}");
        }
    }
}
