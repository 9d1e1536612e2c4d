//! Claims come, are used and go.
use super::claims::{self, ClaimUsers};
use super::pods::{self, PodClaims};
use super::{FINALIZER, POD_CLAIM};
use api_meta::ClusterName;
use controller_kit::{Controller, ObjectKey, converges};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use serde_json::{Value, json};
use std::sync::Arc;

fn merged(mut into: Value, from: Value) -> Value {
    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value)),
            (into, from) => *into = from,
        }
    }
    merge(&mut into, from);
    into
}

fn pod(with: Value) -> Arc<Pod> {
    let claims = json!([{"name": "gpu", "resourceClaimTemplateName": "t"}, {"name": "shared", "resourceClaimName": "common"}]);
    let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": [], "resourceClaims": claims}});
    Arc::new(serde_json::from_value(merged(pod, with)).unwrap())
}

fn template() -> Arc<ResourceClaimTemplate> {
    let spec = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "t", "namespace": "n"}, "spec": spec})).unwrap())
}

fn claim(with: Value) -> Arc<ResourceClaim> {
    let claim = json!({"metadata": {"name": "common", "namespace": "n", "uid": "c"}, "spec": {}});
    Arc::new(serde_json::from_value(merged(claim, with)).unwrap())
}

fn user(uid: &str) -> Value {
    json!({"resource": "pods", "name": "p", "uid": uid})
}

#[test]
fn a_claim_is_made_once_and_told_of() {
    let world = pods::World { pod: pod(json!({})), claims: Vec::new(), templates: [("t".to_owned(), template())].into() };
    let end = converges(world, 3, PodClaims::reconcile, |world, action| match action {
        pods::Action::Create(claim) => {
            let mut claim = *claim;
            let generated = claim.metadata.generate_name.as_deref().unwrap();
            assert_eq!(generated, "p-gpu-");
            claim.metadata.name = Some(format!("{generated}x7k2p"));
            world.claims.push(Arc::new(claim));
        }
        pods::Action::Tell(told) => {
            let mut pod = (*world.pod).clone();
            pod.status.get_or_insert_default().resource_claim_statuses = Some(told);
            world.pod = Arc::new(pod);
        }
        other => panic!("{other:?}"),
    });
    let made = &end.claims[0].metadata;
    assert_eq!((made.annotations.as_ref().unwrap()[POD_CLAIM].as_str(), made.labels.as_ref().unwrap()["a"].as_str()), ("gpu", "b"));
    assert_eq!(made.owner_references.as_ref().unwrap()[0].controller, Some(true));
    assert_eq!(end.claims.len(), 1);
}

#[test]
fn a_missing_template_is_told_of() {
    let world = pods::World { pod: pod(json!({})), claims: Vec::new(), templates: Default::default() };
    let why = "PodResourceClaim gpu: resource claim template \"t\": resourceclaimtemplate.resource.k8s.io \"t\" not found";
    assert_eq!(PodClaims::reconcile(&world).actions, [pods::Action::Warn { message: why.into() }]);
}

#[test]
fn a_pod_that_nobody_scheduled_reserves_what_has_devices() {
    let without_template = |with: Value| pod(merged(json!({"spec": {"resourceClaims": [{"name": "shared", "resourceClaimName": "common"}]}}), with));
    let world = |pod: Arc<Pod>, claim: Arc<ResourceClaim>| pods::World { pod, claims: vec![claim], templates: Default::default() };
    let allocated = json!({"status": {"allocation": {}, "reservedFor": [user("other")]}});
    let asked = |world: pods::World| PodClaims::reconcile(&world).actions.len();
    assert_eq!(asked(world(without_template(json!({})), claim(allocated.clone()))), 0);
    assert_eq!(asked(world(without_template(json!({"spec": {"nodeName": "n1"}})), claim(json!({})))), 0);
    let bound = world(without_template(json!({"spec": {"nodeName": "n1"}})), claim(allocated));
    let end = converges(bound, 1, PodClaims::reconcile, |world, action| {
        let pods::Action::Reserve { users, .. } = action else { panic!("{action:?}") };
        let mut claim = (*world.claims[0]).clone();
        claim.status.as_mut().unwrap().reserved_for = Some(users);
        world.claims = vec![Arc::new(claim)];
    });
    assert_eq!(end.claims[0].status.as_ref().unwrap().reserved_for.as_ref().unwrap()[1].uid, "u");
}

fn world(claim: Arc<ResourceClaim>, pods: &[Arc<Pod>]) -> claims::World {
    let key = ObjectKey::new(&ClusterName::root(), "n", "common");
    claims::World { key, claim, pods: pods.iter().map(|pod| (pod.metadata.name.clone().unwrap(), pod.clone())).collect() }
}

/// What is left of a claim in the end, and what was done.
fn settle(claim: Arc<ResourceClaim>, pods: &[Arc<Pod>]) -> (Arc<ResourceClaim>, Vec<claims::Action>) {
    let mut done = Vec::new();
    let end = converges(world(claim, pods), 3, ClaimUsers::reconcile, |world, action| {
        done.push(action.clone());
        let mut claim = (*world.claim).clone();
        let status = claim.status.get_or_insert_default();
        match action {
            claims::Action::SetUsers(users) => {
                if users.is_empty() {
                    status.allocation = None;
                }
                status.reserved_for = Some(users);
            }
            claims::Action::Deallocate => status.allocation = None,
            claims::Action::RemoveFinalizer => claim.metadata.finalizers = None,
            claims::Action::Delete => claim.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap(),
        }
        world.claim = Arc::new(claim);
    });
    (end.claim, done)
}

#[test]
fn the_last_user_takes_the_devices_along() {
    use claims::Action::*;
    let used = |users: &[&str], with: Value| {
        let users: Vec<Value> = users.iter().map(|uid| user(uid)).collect();
        claim(merged(json!({"metadata": {"finalizers": [FINALIZER]}, "status": {"allocation": {}, "reservedFor": users}}), with))
    };
    let running = pod(json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}));
    let finished = pod(json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Succeeded"}}));
    let going = pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let ending = pod(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeName": "n1"}}));
    assert_eq!(settle(used(&["u"], json!({})), std::slice::from_ref(&running)).1, []);
    assert_eq!(settle(used(&["u"], json!({})), &[ending]).1, []);
    for over in [vec![finished.clone()], vec![going], Vec::new()] {
        let (left, done) = settle(used(&["u"], json!({})), &over);
        assert_eq!(done, [RemoveFinalizer, SetUsers(Vec::new())], "{over:?}");
        assert!(left.status.as_ref().unwrap().allocation.is_none());
    }
    let (left, done) = settle(used(&["u", "before"], json!({})), &[running]);
    assert!(matches!(&done[..], [SetUsers(users)] if users.len() == 1), "{done:?}");
    assert!(left.status.as_ref().unwrap().allocation.is_some());
    // Allocated, and not used yet.
    assert_eq!(settle(used(&[], json!({})), &[]).1, []);
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(settle(used(&[], deleted.clone()), &[]).1, [RemoveFinalizer, Deallocate]);
    assert_eq!(settle(used(&["u"], deleted), &[finished]).1, [RemoveFinalizer, SetUsers(Vec::new())]);
}

#[test]
fn what_was_made_for_a_pod_goes_when_the_pod_is_done() {
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]}});
    let finished = pod(json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Failed"}}));
    assert_eq!(settle(claim(owner.clone()), std::slice::from_ref(&finished)).1, [claims::Action::Delete]);
    assert_eq!(settle(claim(json!({})), &[finished]).1, []);
    let running = pod(json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}));
    assert_eq!(settle(claim(owner), &[running]).1, []);
}
