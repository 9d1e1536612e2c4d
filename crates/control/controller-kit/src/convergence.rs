//! converges: the test every controller passes.
use crate::Plan;
use std::fmt::Debug;

/// Applies the decided actions to the world and decides again until nothing is left to do; gives that world.
///
/// # Panics
/// If something is still left to do after `rounds` rounds.
pub fn converges<W, A: Debug>(mut world: W, rounds: usize, reconcile: impl Fn(&W) -> Plan<A>, mut apply: impl FnMut(&mut W, A)) -> W {
    for _ in 0..rounds {
        let plan = reconcile(&world);
        if plan.actions.is_empty() {
            return world;
        }
        for action in plan.actions {
            apply(&mut world, action);
        }
    }
    let left = reconcile(&world).actions;
    assert!(left.is_empty(), "not settled after {rounds} rounds; still to do: {left:#?}");
    world
}
