//! Stale disruptions: takes back a pod's condition DisruptionTarget when it was not deleted after all.
use super::DELETION_TIMEOUT;
use crate::pods;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, until, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use std::sync::Arc;

pub struct StaleDisruptions {
    kit: Kit,
    pods: Objects<Pod>,
}

pub struct World {
    pub pod: Arc<Pod>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    TakeBack,
}

fn is_target(pod: &Pod) -> bool {
    !pods::is_terminating(pod) && !pods::is_finished(pod) && pods::condition(pod, "DisruptionTarget").is_some_and(|condition| condition.status == "True")
}

pub fn runner(kit: &Kit) -> Runner<StaleDisruptions> {
    let pods = kit.objects::<Pod>();
    Runner::new(StaleDisruptions { kit: kit.clone(), pods: pods.clone() })
        .watch(&pods, |change| if change.new.as_ref().is_some_and(|pod| is_target(pod)) { vec![change.key.clone()] } else { Vec::new() })
}

#[async_trait]
impl Controller for StaleDisruptions {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "stale-pod-disruption"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        Some(World { pod: self.pods.get(key)?, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let since = pods::condition(&world.pod, "DisruptionTarget").and_then(|condition| condition.last_transition_time.as_ref());
        let Some(since) = since.filter(|_| is_target(&world.pod)) else { return Plan::nothing() };
        let mut plan = Plan::nothing();
        match until(since.0, DELETION_TIMEOUT, world.now) {
            Some(left) => plan.look_again(left),
            None => plan.push(Action::TakeBack),
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, Action::TakeBack: Action) -> Result<(), Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(()) };
        let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        for condition in conditions.iter_mut().filter(|condition| condition.type_ == "DisruptionTarget") {
            condition.status = "False".into();
            condition.reason = None;
            condition.message = None;
            condition.last_transition_time = Some(whole_seconds(self.kit.now()));
        }
        let patch = json!({"status": {"conditions": conditions}});
        self.pods.patch(key, "/status", &patch, &Preconditions::exactly(&pod.metadata)).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    #[test]
    fn a_target_that_stays_is_none_after_two_minutes() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": "Running",
            "conditions": [{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap();
        let at = |now: &str| StaleDisruptions::reconcile(&World { pod: Arc::new(pod.clone()), now: now.parse().unwrap() });
        assert_eq!(at("2026-01-01T00:01:00Z").again_after.map(|left| left.as_secs()), Some(60));
        assert_eq!(at("2026-01-01T00:02:00Z").actions, [Action::TakeBack]);
    }

    #[test]
    fn it_is_taken_back_once() {
        let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running",
            "conditions": [{"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        let world = World { pod: Arc::new(serde_json::from_value(pod).unwrap()), now: "2026-01-01T00:05:00Z".parse().unwrap() };
        converges(world, 1, StaleDisruptions::reconcile, |world, Action::TakeBack| {
            Arc::make_mut(&mut world.pod).status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".into();
        });
        for with in [json!({"phase": "Failed"}), json!({"phase": "Running", "conditions": []})] {
            let pod = json!({"metadata": {"name": "p"}, "status": with});
            let world = World { pod: Arc::new(serde_json::from_value(pod).unwrap()), now: "2026-01-01T00:05:00Z".parse().unwrap() };
            assert_eq!(StaleDisruptions::reconcile(&world), Plan::nothing());
        }
    }
}
