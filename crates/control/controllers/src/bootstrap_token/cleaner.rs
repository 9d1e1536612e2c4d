//! Token cleaner: deletes bootstrap tokens at their expiration.
use super::{NAMESPACE, TYPE, expiration};
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, until};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use std::sync::Arc;
use std::time::Duration;

pub struct TokenCleaner {
    kit: Kit,
    tokens: Objects<Secret>,
}

pub struct World {
    pub token: Arc<Secret>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Delete,
}

pub fn runner(kit: &Kit) -> Runner<TokenCleaner> {
    let tokens = kit.selected::<Secret>(&format!("type={TYPE}"));
    Runner::new(TokenCleaner { kit: kit.clone(), tokens: tokens.clone() })
        .workers(1)
        .watch(&tokens, |change| if &*change.key.namespace == NAMESPACE { vec![change.key.clone()] } else { Vec::new() })
}

#[async_trait]
impl Controller for TokenCleaner {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "token-cleaner-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        Some(World { token: self.tokens.get(key)?, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let mut plan = Plan::nothing();
        if let Some(end) = expiration(&world.token).filter(|_| world.token.metadata.deletion_timestamp.is_none()) {
            match until(end, Duration::ZERO, world.now) {
                None => plan.push(Action::Delete),
                Some(left) => plan.look_again(left),
            }
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, Action::Delete: Action) -> Result<(), Error> {
        let Some(token) = self.tokens.get(key) else { return Ok(()) };
        let deletion = Deletion { preconditions: Preconditions::exactly(&token.metadata), ..Default::default() };
        self.tokens.delete(key, &deletion).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::token;
    use super::*;
    use controller_kit::converges;
    use serde_json::json;

    #[test]
    fn a_token_goes_at_its_end_and_not_before() {
        let at = |with: serde_json::Value, now: &str| TokenCleaner::reconcile(&World { token: token(with), now: now.parse().unwrap() });
        let ends = || json!({"expiration": "2026-01-01T00:01:00Z"});
        let early = at(ends(), "2026-01-01T00:00:20Z");
        assert_eq!((early.actions, early.again_after), (vec![], Some(Duration::from_secs(40))));
        assert_eq!(at(ends(), "2026-01-01T00:01:00Z").actions, [Action::Delete]);
        assert_eq!(at(json!({}), "2036-01-01T00:00:00Z"), Plan::nothing());
        assert_eq!(at(json!({"expiration": "soon"}), "2026-01-01T00:00:00Z").actions, [Action::Delete]);
    }

    #[test]
    fn a_token_at_its_end_is_deleted_once() {
        let world = World { token: token(json!({"expiration": "2026-01-01T00:01:00Z"})), now: "2026-01-02T00:00:00Z".parse().unwrap() };
        converges(world, 1, TokenCleaner::reconcile, |world, Action::Delete| {
            Arc::make_mut(&mut world.token).metadata.deletion_timestamp = Some(controller_kit::whole_seconds(world.now));
        });
    }
}
