//! What is left when the collector has nothing more to do, of objects that own one another.
use super::decide::OwnerState::{Absent, Solid, Waiting};
use super::decide::{Decision, decide, of_going};
use super::graph::{FOREGROUND, Graph, Metadata, ORPHAN};
use crate::discovery::ServedResource;
use api_meta::ClusterName;
use controller_kit::{Plan, converges};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All there is, by uid.
type World = BTreeMap<String, Metadata>;

/// `b a* c theirs!`: b is owned by a, which waits for it, and by c, and held by the finalizer `theirs`.
fn object(text: &str) -> (String, Metadata) {
    let (uid, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (finalizers, owners): (Vec<&str>, Vec<&str>) = rest.split_whitespace().partition(|word| word.ends_with('!'));
    let finalizers: Vec<_> = finalizers.iter().map(|finalizer| finalizer.trim_end_matches('!')).collect();
    let owners: Vec<_> = owners.iter().map(|owner| json!({"uid": owner.trim_end_matches('*'), "blockOwnerDeletion": owner.ends_with('*')})).collect();
    (uid.to_owned(), serde_json::from_value(json!({"uid": uid, "name": uid, "ownerReferences": owners, "finalizers": finalizers})).unwrap())
}

/// As the API server deletes.
fn delete(world: &mut World, uid: &str, propagation: &str) {
    let Some(object) = world.get_mut(uid) else { return };
    object.deletion_timestamp.get_or_insert("now".into());
    object.finalizers.retain(|finalizer| ![FOREGROUND, ORPHAN].contains(&&**finalizer));
    match propagation {
        "Foreground" => object.finalizers.push(FOREGROUND.into()),
        "Orphan" => object.finalizers.push(ORPHAN.into()),
        _ => {}
    }
    world.retain(|_, object| !object.is_deleting() || !object.finalizers.is_empty());
}

fn decisions(world: &World) -> Plan<(String, Decision)> {
    let kind = ServedResource { group: String::new(), version: "v1".into(), plural: "things".into(), kind: "Thing".into(), namespaced: true, verbs: vec![] };
    let (kind, mut graph) = (Arc::new(kind), Graph::default());
    for object in world.values() {
        graph.apply(&ClusterName::root(), &kind, object.clone());
    }
    let decided = |(uid, object): (&String, &Metadata)| {
        let decision = of_going(object, !graph.blocking(uid).is_empty()).unwrap_or_else(|| {
            let state = |uid: &str| world.get(uid).map_or(Absent, |owner| if owner.waits_for_dependents() { Waiting } else { Solid });
            let states: Vec<_> = object.owner_references.iter().map(|owner| state(&owner.uid)).collect();
            let dependents = graph.dependents(uid);
            decide(object, &states, !dependents.is_empty(), dependents.iter().any(|(_, dependent)| dependent.waits_for_dependents))
        });
        (decision != Decision::Keep).then(|| (uid.clone(), decision))
    };
    world.iter().filter_map(decided).collect::<Vec<_>>().into()
}

fn apply(world: &mut World, (uid, decision): (String, Decision)) {
    let drop_owners = |object: &mut Metadata, gone: &[Box<str>]| object.owner_references.retain(|owner| !gone.contains(&owner.uid));
    if decision == Decision::LeaveOrphans {
        world.values_mut().for_each(|object| drop_owners(object, &[uid.as_str().into()]));
    }
    let Some(object) = world.get_mut(&uid) else { return };
    match decision {
        Decision::Keep => {}
        Decision::LeaveOrphans => object.finalizers.retain(|finalizer| **finalizer != *ORPHAN),
        Decision::LetGo => object.finalizers.retain(|finalizer| **finalizer != *FOREGROUND),
        Decision::DropOwners(gone) => drop_owners(object, &gone),
        Decision::Delete { propagation, unblock } => {
            object.owner_references.iter_mut().for_each(|owner| owner.block_owner_deletion &= !unblock);
            delete(world, &uid, propagation);
        }
    }
    world.retain(|_, object| !object.is_deleting() || !object.finalizers.is_empty());
}

/// What is left, each with its owners, what holds it, and a cross if it is going.
fn left(world: &World) -> Vec<String> {
    let tell = |(uid, object): (&String, &Metadata)| {
        let owners = object.owner_references.iter().map(|owner| format!(" {}", owner.uid));
        let finalizers = object.finalizers.iter().map(|finalizer| format!(" {finalizer}!"));
        format!("{uid}{}{}", owners.chain(finalizers).collect::<String>(), if object.is_deleting() { " x" } else { "" })
    };
    world.iter().map(tell).collect()
}

#[test]
fn what_nobody_owns_goes_and_what_is_owned_or_orphaned_stays() {
    // What there is, which is deleted how, and what is left.
    type Case = (&'static [&'static str], Option<(&'static str, &'static str)>, &'static [&'static str]);
    let cases: &[Case] = &[
        (&["a", "b a", "c b"], None, &["a", "b a", "c b"]),
        (&["b ghost", "c b"], None, &[]),
        (&["b ghost theirs!", "c b"], None, &["b ghost theirs! x", "c b"]),
        (&["a", "b a ghost"], None, &["a", "b a"]),
        (&["b ghost orphan!", "c b"], None, &["c"]),
        (&["a", "b a", "c b"], Some(("a", "Background")), &[]),
        (&["a", "b a*", "c b*"], Some(("a", "Foreground")), &[]),
        (&["a", "b a", "c b"], Some(("a", "Orphan")), &["b", "c b"]),
        // Another owner keeps it, in the background and in the foreground.
        (&["a", "b a* k", "k"], Some(("a", "Background")), &["b k", "k"]),
        (&["a", "b a* k", "k"], Some(("a", "Foreground")), &["b k", "k"]),
        // Who waits, waits for what blocks it alone.
        (&["a", "b a* theirs!"], Some(("a", "Foreground")), &["a foregroundDeletion! x", "b a theirs! x"]),
        (&["a", "b a theirs!"], Some(("a", "Foreground")), &["b a theirs! x"]),
        // One that is held by others is there still, and so is what it owns.
        (&["a theirs!", "b a"], Some(("a", "Background")), &["a theirs! x", "b a"]),
        // A circle ends.
        (&["a b*", "b a*"], Some(("a", "Foreground")), &[]),
        (&["a c*", "b a*", "c b*"], Some(("a", "Foreground")), &[]),
    ];
    for (objects, deleted, expected) in cases {
        let mut world: World = objects.iter().map(|text| object(text)).collect();
        if let Some((uid, propagation)) = deleted {
            delete(&mut world, uid, propagation);
        }
        assert_eq!(left(&converges(world, 8, decisions, apply)), *expected, "{objects:?} {deleted:?}");
    }
}

#[test]
fn in_the_foreground_what_is_owned_goes_first() {
    let mut world: World = ["a", "b a*", "c b*"].into_iter().map(object).collect();
    delete(&mut world, "a", "Foreground");
    let mut order = Vec::new();
    converges(world, 8, decisions, |world, action| {
        let before: Vec<String> = world.keys().cloned().collect();
        apply(world, action);
        order.extend(before.into_iter().filter(|uid| !world.contains_key(uid)));
    });
    assert_eq!(order, ["c", "b", "a"]);
}
