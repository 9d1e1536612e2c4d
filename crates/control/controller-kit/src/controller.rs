//! Controller: world in, actions out; and Plan, what comes out.
use crate::{Error, ObjectKey};
use async_trait::async_trait;
use std::time::Duration;

/// What a controller decided: actions in order, and when to look again if nothing changes before.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<A> {
    pub actions: Vec<A>,
    pub again_after: Option<Duration>,
}

impl<A> Default for Plan<A> {
    fn default() -> Self {
        Self { actions: Vec::new(), again_after: None }
    }
}

impl<A> Plan<A> {
    pub fn nothing() -> Self {
        Self::default()
    }
    pub fn push(&mut self, action: A) {
        self.actions.push(action);
    }
    /// Looks again after `delay`, or sooner if that was asked for already.
    pub fn look_again(&mut self, delay: Duration) {
        self.again_after = Some(self.again_after.map_or(delay, |other| other.min(delay)));
    }
}

impl<A> From<Vec<A>> for Plan<A> {
    fn from(actions: Vec<A>) -> Self {
        Self { actions, again_after: None }
    }
}

/// A controller: `observe` reads caches only, `reconcile` is pure, `act` has the effects.
///
/// The runner calls the three in this order for one key, never twice at once for the same key. Actions
/// run in order; the first error ends the run, and the key comes back after a backoff.
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// All a decision may look at, including the time.
    type World: Send + Sync;
    type Action: Send + Sync + std::fmt::Debug;

    fn name(&self) -> &'static str;

    /// The world around a key; `None` when there is nothing to care for.
    fn observe(&self, key: &ObjectKey) -> Option<Self::World>;

    fn reconcile(world: &Self::World) -> Plan<Self::Action>;

    async fn act(&self, key: &ObjectKey, action: Self::Action) -> Result<(), Error>;

    /// An action failed: the place to tell of it in the object's status.
    async fn failed(&self, _key: &ObjectKey, _world: &Self::World, _error: &Error) {}
}
