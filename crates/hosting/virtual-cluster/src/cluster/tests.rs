//! What the Cluster controller decides, without a server.
use super::provision::Served;
use super::reconcile::{Action, World, not_ready, provisioned, reconcile};
use crate::effective::Bound;
use crate::kinds::{Cluster, KubeconfigSecret, RENEW_AFTER};
use crate::names::{CLUSTER_FINALIZER, PAUSED};
use crate::status::PROVISIONING_FAILED;
use controller_kit::converges;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

fn world(metadata: Value, spec: Value) -> World {
    let mut cluster = json!({"metadata": {"name": "mine", "namespace": "team", "uid": "u", "generation": 1, "resourceVersion": "1"}, "spec": spec});
    merge(&mut cluster["metadata"], &metadata);
    World { cluster: Arc::new(serde_json::from_value(cluster).unwrap()), kubeconfig: None, bound: Bound::ToNone, now: Timestamp::UNIX_EPOCH }
}

fn merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

fn policy(spec: Value) -> Bound {
    Bound::To(Arc::new(serde_json::from_value(json!({"metadata": {"name": "gold"}, "spec": spec})).unwrap()))
}

fn set_status(world: &mut World, status: &Value) {
    let mut cluster = serde_json::to_value(&*world.cluster).unwrap();
    merge(&mut cluster["status"], status);
    // As the server reads what is null.
    cluster["status"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    world.cluster = Arc::new(serde_json::from_value(cluster).unwrap());
}

fn apply(world: &mut World, action: Action) {
    match action {
        Action::Finalizers { finalizers, .. } => {
            let mut cluster = Cluster::clone(&world.cluster);
            cluster.metadata.finalizers = Some(finalizers);
            world.cluster = Arc::new(cluster);
        }
        Action::Status { status, .. } => set_status(world, &status),
        Action::Provision { cluster, effective } => {
            let served = Served {
                version: "v1.37.0".into(),
                cluster_cidr: "10.244.0.0/16".parse().unwrap(),
                service_cidr: "10.96.0.0/12".parse().unwrap(),
                cluster_dns: "10.96.0.10".parse().unwrap(),
                host_name: "host".into(),
                address: Some("100.64.0.1".parse().unwrap()),
                tls_names: vec!["mine.example.com".into()],
            };
            set_status(world, &provisioned(&cluster, &effective, served, world.now));
            world.kubeconfig = Some(kubeconfig("1970-01-02T00:00:00Z"));
        }
        Action::Remove => world.kubeconfig = None,
    }
}

fn kubeconfig(renew: &str) -> Arc<KubeconfigSecret> {
    let mut secret = KubeconfigSecret::default();
    secret.metadata.annotations = Some([(RENEW_AFTER.to_owned(), renew.to_owned())].into());
    Arc::new(secret)
}

fn ready(world: &World) -> (String, String, String) {
    let condition = &world.cluster.status.conditions[0];
    (world.cluster.status.phase.clone(), condition.reason.clone(), condition.message.clone())
}

fn settle(world: World) -> World {
    converges(world, 3, reconcile, apply)
}

#[test]
fn a_cluster_is_held_served_and_told_of_in_one_go() {
    let world = settle(world(json!({}), json!({})));
    assert_eq!(ready(&world), ("Ready".into(), "Provisioned".into(), "Cluster successfully provisioned".into()));
    assert_eq!(world.cluster.metadata.finalizers.as_deref(), Some(&[CLUSTER_FINALIZER.to_owned()][..]));
    assert_eq!((world.cluster.status.pod_security.as_str(), world.cluster.status.host_version.as_str()), ("baseline", "v1.37.0"));
}

#[test]
fn a_served_cluster_is_looked_at_again_when_its_certificate_ages() {
    let mut world = settle(world(json!({}), json!({})));
    assert_eq!(reconcile(&world).again_after, Some(std::time::Duration::from_hours(24)));
    world.now = "1970-01-02T00:00:01Z".parse().unwrap();
    assert!(matches!(reconcile(&world).actions[..], [Action::Provision { .. }]));
    world.now = Timestamp::UNIX_EPOCH;
    world.kubeconfig = None;
    assert!(matches!(reconcile(&world).actions[..], [Action::Provision { .. }]), "a kubeconfig that was taken away comes back");
}

#[test]
fn a_policy_that_comes_changes_or_goes_has_the_cluster_served_anew() {
    let mut world = settle(world(json!({}), json!({})));
    for (bound, level) in
        [(policy(json!({"podSecurityAdmissionLevel": "restricted"})), "restricted"), (policy(json!({})), "baseline"), (Bound::ToNone, "baseline")]
    {
        let named = matches!(bound, Bound::To(_));
        world.bound = bound;
        world = settle(world);
        assert_eq!((world.cluster.status.pod_security.as_str(), world.cluster.status.policy_name.is_empty()), (level, !named));
    }
}

#[test]
fn a_refusal_is_told_and_nothing_is_held() {
    let mut refused = world(json!({}), json!({"mode": "hcp"}));
    refused.bound = policy(json!({}));
    let refused = settle(refused);
    assert_eq!(ready(&refused), ("Pending".into(), "ValidationFailed".into(), "mode \"hcp\" is not allowed by the policy \"gold\"".into()));
    assert_eq!(refused.cluster.metadata.finalizers, None);
}

#[test]
fn a_deleted_cluster_is_removed_before_it_is_let_go() {
    let gone = json!({"deletionTimestamp": "1970-01-01T00:00:00Z", "finalizers": ["other", CLUSTER_FINALIZER]});
    let world = world(gone, json!({}));
    let actions = reconcile(&world).actions;
    assert!(matches!(&actions[..], [Action::Status { .. }, Action::Remove, Action::Finalizers { finalizers, .. }] if finalizers == &["other"]), "{actions:?}");
    let world = settle(world);
    assert_eq!(world.cluster.status.phase, "Terminating");
}

#[test]
fn a_cluster_that_was_paused_or_changed_is_served_as_it_says_now() {
    let mut world = settle(world(json!({}), json!({})));
    let mut cluster = Cluster::clone(&world.cluster);
    cluster.metadata.generation = Some(2);
    cluster.metadata.annotations = Some([(PAUSED.to_owned(), "true".to_owned())].into());
    world.cluster = Arc::new(cluster);
    let mut paused = settle(world);
    assert_eq!((ready(&paused).0.as_str(), paused.cluster.status.conditions[0].observed_generation), ("Paused", Some(2)));
    Arc::make_mut(&mut paused.cluster).metadata.annotations = None;
    assert_eq!(ready(&settle(paused)).0, "Ready");
}

#[test]
fn a_cluster_that_could_not_be_served_at_first_is_served_then() {
    let mut failures = 1;
    let world = converges(world(json!({}), json!({})), 3, reconcile, |world, action| match action {
        Action::Provision { .. } if failures > 0 => {
            failures -= 1;
            set_status(world, &not_ready(&world.cluster, "Failed", PROVISIONING_FAILED, "the store is busy", world.now));
        }
        action => apply(world, action),
    });
    assert_eq!((ready(&world).0.as_str(), world.cluster.metadata.finalizers.as_ref().unwrap().len()), ("Ready", 1));
}
