//! What the policy controllers decide, without a server.
use super::binding::{self, Action, LEVEL_BY_POLICY, World, Write, reconcile};
use super::life;
use super::objects::Sort;
use crate::cluster::policy_of;
use crate::kinds::Policy;
use crate::names::POLICY_FINALIZER;
use controller_kit::converges;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};
use std::sync::Arc;

const GOLD: &str = "gold";

fn world(policy: Option<Value>) -> World {
    let policy = policy.map(|spec| Arc::new(serde_json::from_value(json!({"metadata": {"name": GOLD, "uid": "u"}, "spec": spec})).unwrap()));
    let namespace = json!({"metadata": {"name": "team", "labels": {"pod-security.kubernetes.io/audit": "restricted"}}});
    World {
        namespace: Arc::new(serde_json::from_value(namespace).unwrap()),
        policy,
        found: Vec::new(),
        cluster_cidrs: ["10.244.0.0/16".parse().unwrap(), "fd42::/56".parse().unwrap()].into(),
    }
}

fn full() -> Value {
    json!({
        "quota": {"hard": {"cpu": 2, "memory": "1000Mi"}}, "podSecurityAdmissionLevel": "baseline",
        "limit": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "16Mi"}}]},
    })
}

/// As the server merges a patch.
fn patch(into: &mut Value, patch: &Value) {
    for (key, value) in patch.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => self::patch(&mut into[key], value),
            Value::Null => drop(into.as_object_mut().and_then(|fields| fields.remove(key))),
            value => into[key] = value.clone(),
        }
    }
}

fn apply(world: &mut World, action: Action) {
    match action {
        Action::Write(sort, Write::Create(object)) => world.found.push((sort, object)),
        Action::Write(sort, Write::Replace(object)) => world.found.iter_mut().filter(|(other, _)| *other == sort).for_each(|found| found.1 = object.clone()),
        Action::Write(_, Write::Delete(object)) => world.found.retain(|(_, found)| *found != object),
        Action::Namespace(metadata) => patch_metadata(&mut world.namespace, &metadata),
    }
}

fn patch_metadata(namespace: &mut Arc<Namespace>, metadata: &Value) {
    let mut patched = serde_json::to_value(&**namespace).unwrap();
    patch(&mut patched["metadata"], metadata);
    *namespace = Arc::new(serde_json::from_value(patched).unwrap());
}

fn settle(world: World) -> World {
    converges(world, 2, reconcile, apply)
}

#[test]
fn a_bound_namespace_has_all_its_policy_says() {
    let world = settle(world(Some(full())));
    let sorts: Vec<Sort> = world.found.iter().map(|(sort, _)| *sort).collect();
    assert_eq!(sorts, [Sort::Quota, Sort::Limits, Sort::Network]);
    assert!(
        world.found.iter().all(|(_, object)| object["metadata"]["name"] == "k3k-gold" && object["metadata"]["labels"]["policy.k3k.io/policy-name"] == GOLD)
    );
    assert_eq!(world.found[0].1["spec"]["hard"]["cpu"], "2");
    assert_eq!(world.found[1].1["spec"]["limits"][0]["defaultRequest"], json!({"cpu": "1", "memory": "16Mi"}));
    let outside: Vec<&Value> = world.found[2].1["spec"]["egress"][0]["to"].as_array().unwrap().iter().filter_map(|peer| peer.get("ipBlock")).collect();
    assert_eq!(outside, [&json!({"cidr": "0.0.0.0/0", "except": ["10.244.0.0/16"]}), &json!({"cidr": "::/0", "except": ["fd42::/56"]})]);
    assert_eq!(world.namespace.metadata.labels.as_ref().unwrap()["pod-security.kubernetes.io/warn"], "baseline");
}

#[test]
fn what_others_change_is_put_right_and_what_means_the_same_is_left() {
    let mut world = settle(world(Some(full())));
    world.found[0].1["spec"]["hard"]["memory"] = json!("1048576000");
    assert_eq!(reconcile(&world).actions, []);
    world.found[0].1["spec"]["hard"]["memory"] = json!("2Gi");
    world.found[2].1["spec"]["egress"] = json!([{}]);
    assert_eq!(reconcile(&world).actions.len(), 2);
    let world = settle(world);
    assert_eq!(world.found[0].1["spec"]["hard"]["memory"], "1000Mi");
}

#[test]
fn nothing_of_a_policy_is_left_when_it_is_unbound_but_what_others_set() {
    let mut bound = settle(world(Some(full())));
    bound.policy = None;
    let unbound = settle(bound);
    assert!(unbound.found.is_empty());
    assert_eq!(serde_json::to_value(&unbound.namespace.metadata.labels).unwrap(), json!({"pod-security.kubernetes.io/audit": "restricted"}));
    assert!(!unbound.namespace.metadata.annotations.as_ref().unwrap().contains_key(LEVEL_BY_POLICY));
    assert_eq!(settle(world(Some(json!({"disableNetworkPolicy": true})))).found, []);
}

#[test]
fn a_policy_that_goes_lets_its_namespaces_go_first() {
    let going = json!({"metadata": {"name": GOLD, "deletionTimestamp": "1970-01-01T00:00:00Z", "finalizers": [POLICY_FINALIZER]}});
    let namespace = settle(world(Some(full()))).namespace;
    let world = life::World { policy: Arc::new(serde_json::from_value(going).unwrap()), bound: vec![namespace], now: Timestamp::UNIX_EPOCH };
    let actions = life::reconcile(&world).actions;
    let [life::Action::Status(_), life::Action::Unbind { namespace, metadata }, life::Action::Finalizers(left)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((namespace.as_str(), &metadata["labels"]["policy.k3k.io/policy-name"], left.len()), ("team", &Value::Null, 0));
    assert_eq!(metadata["labels"]["pod-security.kubernetes.io/enforce"], Value::Null);
    assert!(binding::labels(&world.bound[0], None).is_some());
}

fn living(metadata: Value, bound: &[&str]) -> life::World {
    let mut policy = json!({"metadata": {"name": GOLD, "uid": "u", "generation": 1}});
    patch(&mut policy["metadata"], &metadata);
    let namespace = |name: &&str| {
        let metadata = json!({"name": name, "labels": {"policy.k3k.io/policy-name": GOLD, "theirs": "kept"}});
        Arc::new(serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    };
    let policy = Arc::new(serde_json::from_value(policy).unwrap());
    life::World { policy, bound: bound.iter().map(namespace).collect(), now: Timestamp::UNIX_EPOCH }
}

/// What is left of a policy, and the namespaces that were let go.
fn live(world: life::World) -> (life::World, Vec<Arc<Namespace>>) {
    let mut let_go = Vec::new();
    let end = converges(world, 1, life::reconcile, |world, action| {
        let change = match action {
            life::Action::Finalizers(finalizers) => json!({"metadata": {"finalizers": finalizers}}),
            life::Action::Status(status) => json!({ "status": status }),
            life::Action::Unbind { namespace, metadata } => {
                let index = world.bound.iter().position(|bound| bound.metadata.name.as_deref() == Some(&namespace)).unwrap();
                patch_metadata(&mut world.bound[index], &metadata);
                // The index no longer finds it.
                assert_eq!(policy_of(&world.bound[index]), None);
                return let_go.push(world.bound.remove(index));
            }
        };
        let mut policy = serde_json::to_value(&*world.policy).unwrap();
        patch(&mut policy, &change);
        world.policy = Arc::new(serde_json::from_value::<Policy>(policy).unwrap());
    });
    (end, let_go)
}

#[test]
fn a_policy_lives_until_all_its_namespaces_are_let_go() {
    let said = |world: &life::World| {
        let condition = &world.policy.status.conditions[0];
        (condition.status.clone(), condition.reason.clone(), condition.observed_generation, world.policy.status.observed_generation)
    };
    let held = |world: &life::World| world.policy.metadata.finalizers.clone().unwrap_or_default();
    let (new, let_go) = live(living(json!({"finalizers": ["other"]}), &["a"]));
    assert_eq!((said(&new), held(&new), let_go.len()), (("True".into(), "Applied".into(), Some(1), 1), vec!["other".into(), POLICY_FINALIZER.to_owned()], 0));

    let mut changed = new;
    Arc::make_mut(&mut changed.policy).metadata.generation = Some(2);
    assert!(matches!(life::reconcile(&changed).actions[..], [life::Action::Status(_)]), "it is held already");
    let (changed, _) = live(changed);
    assert_eq!(said(&changed), ("True".into(), "Applied".into(), Some(2), 2));

    let mut going = living(json!({"deletionTimestamp": "1970-01-01T00:00:00Z", "finalizers": ["other", POLICY_FINALIZER]}), &["a", "b"]);
    // One of them has its Pod Security level of the policy, which goes, too.
    going.bound[1] = settle(World { namespace: going.bound[1].clone(), ..world(Some(full())) }).namespace;
    let (gone, let_go) = live(going);
    assert_eq!((said(&gone).1, held(&gone), gone.bound.len()), ("Terminating".into(), vec!["other".to_owned()], 0));
    for namespace in let_go {
        assert_eq!(serde_json::to_value(&namespace.metadata.labels).unwrap(), json!({"theirs": "kept"}));
    }
    // Never held, as it was deleted before anyone saw it.
    assert_eq!(life::reconcile(&living(json!({"deletionTimestamp": "1970-01-01T00:00:00Z"}), &["a"])).actions, []);
}
