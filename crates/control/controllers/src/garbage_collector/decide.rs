//! decide: what becomes of an object, given what its owners are right now.
use super::graph::{FOREGROUND, Metadata, ORPHAN};

/// What was found of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there and stays, or can't be judged.
    Solid,
    /// No object of this kind, name and uid exists.
    Absent,
    /// It is going, and waits for its dependents.
    Waiting,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Keep,
    /// Takes the object off all that it owns, and then lets it go.
    LeaveOrphans,
    /// Nothing that it owns keeps it from going any more.
    LetGo,
    /// Takes the references to these owners off; others still hold the object.
    DropOwners(Vec<Box<str>>),
    Delete {
        propagation: &'static str,
        /// Dependents that themselves wait for dependents: their hold on this object is loosed, or a circle would never end.
        unblock: bool,
    },
}

/// What becomes of an object that is going, or `None` of one that is not; `blocked` if what it owns keeps it.
pub fn of_going(latest: &Metadata, blocked: bool) -> Option<Decision> {
    if latest.leaves_orphans() {
        return Some(Decision::LeaveOrphans);
    }
    let lets_go = latest.waits_for_dependents() && !blocked;
    latest.is_deleting().then_some(if lets_go { Decision::LetGo } else { Decision::Keep })
}

/// What becomes of an object that is not going. `owners` are in the order of the object's references; `has_dependents` and `dependents_wait` come from the graph.
pub fn decide(latest: &Metadata, owners: &[OwnerState], has_dependents: bool, dependents_wait: bool) -> Decision {
    if latest.owner_references.is_empty() {
        return Decision::Keep;
    }
    let of = |state: OwnerState| latest.owner_references.iter().zip(owners).filter(move |(_, other)| **other == state).map(|(owner, _)| owner.uid.clone());
    if of(OwnerState::Solid).next().is_some() {
        let dropped: Vec<Box<str>> = of(OwnerState::Absent).chain(of(OwnerState::Waiting)).collect();
        return if dropped.is_empty() { Decision::Keep } else { Decision::DropOwners(dropped) };
    }
    if of(OwnerState::Waiting).next().is_some() && has_dependents {
        return Decision::Delete { propagation: "Foreground", unblock: dependents_wait };
    }
    let propagation = if latest.has_finalizer(ORPHAN) {
        "Orphan"
    } else if latest.has_finalizer(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    Decision::Delete { propagation, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::OwnerState::{Absent, Solid, Waiting};
    use super::*;
    use serde_json::json;

    fn object(owners: &[&str], finalizers: &[&str]) -> Metadata {
        let owners: Vec<_> = owners.iter().map(|uid| json!({"uid": uid})).collect();
        serde_json::from_value(json!({"uid": "x", "ownerReferences": owners, "finalizers": finalizers})).unwrap()
    }

    #[test]
    fn an_object_lives_as_long_as_one_owner_does() {
        let delete = |propagation| Decision::Delete { propagation, unblock: false };
        for (owners, states, finalizers, dependents, want) in [
            (&[][..], &[][..], &[][..], false, Decision::Keep),
            (&["a"], &[Solid], &[], false, Decision::Keep),
            (&["a", "b"], &[Solid, Absent], &[], false, Decision::DropOwners(vec!["b".into()])),
            (&["a", "b"], &[Waiting, Solid], &[], true, Decision::DropOwners(vec!["a".into()])),
            (&["a"], &[Absent], &[], true, delete("Background")),
            (&["a"], &[Absent], &[ORPHAN], true, delete("Orphan")),
            (&["a"], &[Absent], &[FOREGROUND], true, delete("Foreground")),
            (&["a"], &[Waiting], &[], true, delete("Foreground")),
            (&["a"], &[Waiting], &[], false, delete("Background")),
            (&["a", "b"], &[Waiting, Absent], &[], false, delete("Background")),
        ] {
            assert_eq!(decide(&object(owners, finalizers), states, dependents, false), want, "{owners:?} {states:?}");
        }
        assert_eq!(decide(&object(&["a"], &[]), &[Waiting], true, true), Decision::Delete { propagation: "Foreground", unblock: true });
    }

    #[test]
    fn what_goes_waits_for_what_it_owns_as_it_was_asked_to() {
        for (going, finalizers, blocked, want) in [
            (false, &[][..], false, None),
            (false, &[FOREGROUND, ORPHAN], false, None),
            (true, &[], false, Some(Decision::Keep)),
            (true, &["theirs"], true, Some(Decision::Keep)),
            (true, &[FOREGROUND], true, Some(Decision::Keep)),
            (true, &[FOREGROUND], false, Some(Decision::LetGo)),
            (true, &[ORPHAN], true, Some(Decision::LeaveOrphans)),
            (true, &[FOREGROUND, ORPHAN], false, Some(Decision::LeaveOrphans)),
        ] {
            let latest = Metadata { deletion_timestamp: going.then(|| "now".into()), ..object(&["a"], finalizers) };
            assert_eq!(of_going(&latest, blocked), want, "{going} {finalizers:?} {blocked}");
        }
    }
}
