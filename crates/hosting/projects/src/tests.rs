//! What the controllers of projects decide, without a server.
use crate::kinds::{CustomRole, Project};
use crate::names::{MANAGED_BY, MANAGER};
use crate::organization;
use crate::project::{Action, World, reconcile};
use crate::wanted::Sort;
use crate::writes::Write;
use controller_kit::converges;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn project(spec: Value) -> Project {
    let mut whole = json!({"displayName": "my-web-app", "organization": "org-123", "createdBy": "user@example.com"});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({"metadata": {"name": "proj-456", "generation": 1}, "spec": whole})).unwrap()
}

fn world(spec: Value) -> World {
    World { project: Arc::new(project(spec)), roles: vec![], namespace: None, found: vec![], inside: None, now: Timestamp::UNIX_EPOCH }
}

fn put(objects: &mut Vec<(Sort, Value)>, sort: Sort, write: Write) {
    let name = |object: &Value| object["metadata"]["name"].clone();
    match write {
        Write::Create(object) => objects.push((sort, object)),
        Write::Delete(object) => objects.retain(|(other, found)| *other != sort || name(found) != name(&object)),
        Write::Replace(object) => {
            objects.retain(|(other, found)| *other != sort || name(found) != name(&object));
            objects.push((sort, object));
        }
    }
}

fn patch_metadata(namespace: &mut Value, patch: &Value) {
    for part in ["labels", "annotations"] {
        for (key, value) in patch[part].as_object().into_iter().flatten() {
            namespace["metadata"][part][key] = value.clone();
        }
    }
}

fn settle(world: World) -> World {
    converges(world, 4, reconcile, |world, action| {
        let project = Arc::make_mut(&mut world.project);
        match action {
            Action::Finalizers(finalizers) => project.metadata.finalizers = Some(finalizers),
            Action::Status(status) => project.status = status,
            Action::CreateNamespace(namespace) => world.namespace = Some(namespace),
            Action::Namespace(patch) => patch_metadata(world.namespace.as_mut().unwrap(), &patch),
            Action::DeleteNamespace { .. } => world.namespace = None,
            Action::Write(sort @ (Sort::ClusterRole | Sort::ClusterRoleBinding), write) => put(world.inside.as_mut().unwrap(), sort, write),
            Action::Write(sort, write) => put(&mut world.found, sort, write),
        }
    })
}

fn names(objects: &[(Sort, Value)]) -> Vec<&str> {
    let mut names: Vec<&str> = objects.iter().map(|(_, object)| object["metadata"]["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

const USUAL: [&str; 10] = [
    "default-deny-all",
    "org-admin",
    "org-admin-binding",
    "project-admin",
    "project-admin-binding",
    "project-compute-quota",
    "project-object-quota",
    "project-storage-quota",
    "project-viewer",
    "project-viewer-binding",
];

#[test]
fn a_new_project_gets_all_of_it() {
    let world = settle(world(json!({})));
    let metadata = json!({
        "name": "project-456",
        "labels": {
            "plasmacloud.io/org-id": "org-123", "plasmacloud.io/project-id": "proj-456", "plasmacloud.io/tenant-type": "project",
            "pod-security.kubernetes.io/enforce": "baseline",
        },
        "annotations": {"plasmacloud.io/project-name": "my-web-app", "plasmacloud.io/created-by": "user@example.com"},
    });
    assert_eq!(world.namespace.unwrap()["metadata"], metadata);
    assert_eq!(names(&world.found), USUAL);
    assert_eq!((world.project.status.phase.as_str(), world.project.status.namespace.as_str()), ("Active", "project-456"));
}

#[test]
fn what_others_change_is_mended_and_what_is_theirs_stays() {
    let mut world = settle(world(json!({})));
    world.found.retain(|(_, object)| object["metadata"]["name"] != "default-deny-all");
    for (_, object) in &mut world.found {
        match object["metadata"]["name"].as_str().unwrap() {
            "project-object-quota" => object["spec"]["hard"]["pods"] = "5000".into(),
            "project-viewer" => object["rules"] = json!([]),
            "org-admin-binding" => object["roleRef"]["name"] = "nothing".into(),
            _ => {}
        }
    }
    let theirs = (Sort::Role, json!({"metadata": {"name": "theirs"}, "rules": []}));
    world.found.push(theirs.clone());
    world.namespace.as_mut().unwrap()["metadata"]["labels"]["plasmacloud.io/org-id"] = "org-evil".into();
    world.namespace.as_mut().unwrap()["metadata"]["labels"]["more"] = "kept".into();
    let mended = settle(world);
    let find = |name: &str| &mended.found.iter().find(|(_, object)| object["metadata"]["name"] == name).unwrap().1;
    assert_eq!(find("project-object-quota")["spec"]["hard"]["pods"], "50");
    assert_eq!(find("project-viewer")["rules"].as_array().unwrap().len(), 2);
    assert_eq!(find("org-admin-binding")["roleRef"]["name"], "org-admin");
    assert!(mended.found.contains(&theirs));
    let labels = &mended.namespace.unwrap()["metadata"]["labels"];
    assert_eq!((&labels["plasmacloud.io/org-id"], &labels["more"]), (&json!("org-123"), &json!("kept")));
}

#[test]
fn moves_and_roles_follow() {
    let mut world = settle(world(json!({"orgShared": true})));
    let role: CustomRole =
        serde_json::from_value(json!({"metadata": {"name": "deployers"}, "spec": {"organization": "org-123", "rules": [{"verbs": ["get"]}]}})).unwrap();
    world.roles = vec![Arc::new(role)];
    let mut world = settle(world);
    let find = |world: &World, name: &str| world.found.iter().find(|(_, object)| object["metadata"]["name"] == name).map(|(_, object)| object.clone());
    assert_eq!(find(&world, "custom-deployers-binding").unwrap()["subjects"][0]["name"], "project:proj-456:deployers");
    let labels = |world: &World| find(world, "allow-org-shared").unwrap()["spec"]["egress"][0]["to"][0]["namespaceSelector"]["matchLabels"].clone();
    assert_eq!(labels(&world), json!({"plasmacloud.io/org-id": "org-123", "plasmacloud.io/tenant-type": "org-shared"}));
    Arc::make_mut(&mut world.project).spec.organization = "org-789".into();
    Arc::make_mut(&mut world.project).spec.display_name = "renamed".into();
    world.roles.clear();
    let world = settle(world);
    assert_eq!(find(&world, "custom-deployers"), None, "it was the old organisation's");
    assert_eq!(find(&world, "org-admin-binding").unwrap()["subjects"][0]["name"], "org:org-789");
    assert_eq!(labels(&world)["plasmacloud.io/org-id"], "org-789");
    assert_eq!(world.namespace.unwrap()["metadata"]["annotations"]["plasmacloud.io/project-name"], "renamed");
}

#[test]
fn a_namespace_of_somebody_else_is_not_taken() {
    let mut world = world(json!({}));
    world.namespace = Some(json!({"metadata": {"name": "project-456", "labels": {"theirs": "yes"}}}));
    let world = settle(world);
    assert_eq!((world.project.status.phase.as_str(), world.found.len()), ("Failed", 0));
    assert_eq!(world.project.status.message, "namespace \"project-456\" exists and is not this project's");
    let mut going = settle(self::world(json!({})));
    going.namespace.as_mut().unwrap()["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z".into();
    assert_eq!(settle(going).project.status.phase, "Pending");
}

#[test]
fn a_deleted_project_keeps_its_namespace_for_the_time_of_grace() {
    let mut world = settle(world(json!({"deletionGracePeriodSeconds": 60})));
    let deleted = json!({"name": "proj-456", "finalizers": ["other", "iam.plasmacloud.io/project"], "deletionTimestamp": "1970-01-01T00:00:00Z"});
    Arc::make_mut(&mut world.project).metadata = serde_json::from_value(deleted).unwrap();
    let plan = reconcile(&world);
    assert_eq!(plan.again_after, Some(Duration::from_secs(60)));
    let [Action::Status(status)] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!((status.phase.as_str(), status.delete_after), ("Terminating", Some(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60))));
    world.now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(60);
    let world = settle(world);
    assert_eq!((world.namespace, world.project.metadata.finalizers.clone()), (None, Some(vec!["other".to_owned()])));
}

#[test]
fn another_one_s_namespace_is_not_deleted_with_a_project() {
    let mut world = world(json!({"deletionGracePeriodSeconds": 0}));
    let deleted = json!({"name": "proj-456", "finalizers": ["iam.plasmacloud.io/project"], "deletionTimestamp": "1970-01-01T00:00:00Z"});
    Arc::make_mut(&mut world.project).metadata = serde_json::from_value(deleted).unwrap();
    world.namespace = Some(json!({"metadata": {"name": "project-456", "uid": "u"}}));
    world.now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(9);
    let world = settle(world);
    assert!(world.namespace.is_some() && world.project.metadata.finalizers.as_ref().unwrap().is_empty());
}

#[test]
fn a_virtual_cluster_takes_the_place_of_roles_in_the_namespace() {
    let mut world = settle(world(json!({"virtualCluster": true})));
    assert_eq!(names(&world.found), ["cluster", "project-compute-quota", "project-object-quota", "project-storage-quota"]);
    assert_eq!(world.project.status.phase, "Pending");
    world.inside = Some(vec![(Sort::ClusterRole, json!({"metadata": {"name": "cluster-admin"}}))]);
    let world = settle(world);
    assert_eq!(world.project.status.phase, "Active");
    let inside: BTreeMap<&str, &Value> = world
        .inside
        .as_ref()
        .unwrap()
        .iter()
        .filter(|(sort, _)| *sort == Sort::ClusterRoleBinding)
        .map(|(_, object)| {
            assert_eq!(object["metadata"]["labels"][MANAGED_BY], MANAGER);
            (object["subjects"][0]["name"].as_str().unwrap(), &object["roleRef"]["name"])
        })
        .collect();
    let (administrator, viewer) = (&json!("cluster-admin"), &json!("plasmacloud:project-viewer"));
    assert_eq!(inside, BTreeMap::from([("org:org-123", administrator), ("project:proj-456", administrator), ("project:proj-456:viewer", viewer)]));
}

fn shared(wanted: bool, namespace: Option<Value>) -> organization::World {
    organization::World { organization: "org-123".into(), wanted, namespace, found: vec![] }
}

fn settle_shared(world: organization::World) -> organization::World {
    converges(world, 2, organization::reconcile, |world, action| match action {
        organization::Action::CreateNamespace(namespace) => world.namespace = Some(namespace),
        organization::Action::Namespace(patch) => patch_metadata(world.namespace.as_mut().unwrap(), &patch),
        organization::Action::DeleteNamespace { .. } => (world.namespace, world.found) = (None, vec![]),
        organization::Action::Write(sort, write) => put(&mut world.found, sort, write),
    })
}

#[test]
fn a_shared_namespace_is_there_while_a_project_asks_for_it() {
    let mut world = settle_shared(shared(true, None));
    assert_eq!(world.namespace.as_ref().unwrap()["metadata"]["name"], "org-123-shared");
    assert_eq!(names(&world.found), ["org-admin", "org-admin-binding"]);
    world.wanted = false;
    assert!(settle_shared(world).namespace.is_none());
    let theirs = settle_shared(shared(false, Some(json!({"metadata": {"name": "org-123-shared"}}))));
    assert!(theirs.namespace.is_some());
}

#[test]
fn what_others_change_in_a_shared_namespace_is_mended() {
    let mut world = settle_shared(shared(true, None));
    let right = world.namespace.clone();
    world.found.retain(|(_, object)| object["metadata"]["name"] != "org-admin-binding");
    world.found[0].1["rules"] = json!([]);
    let labels = &mut world.namespace.as_mut().unwrap()["metadata"]["labels"];
    labels["plasmacloud.io/tenant-type"] = "project".into();
    let mended = settle_shared(world);
    assert_eq!((mended.namespace, names(&mended.found)), (right, vec!["org-admin", "org-admin-binding"]));
    let role = mended.found.iter().find(|(sort, _)| *sort == Sort::Role).unwrap();
    assert!(!role.1["rules"].as_array().unwrap().is_empty());
}

#[test]
fn only_an_organisations_own_namespace_is_taken_or_taken_away() {
    let tells = |world: organization::World| {
        let told = organization::reconcile(&world).actions.into_iter().map(|action| match action {
            organization::Action::CreateNamespace(_) => "create",
            organization::Action::Namespace(_) => "mend",
            organization::Action::DeleteNamespace { .. } => "delete",
            organization::Action::Write(..) => "write",
        });
        told.collect::<Vec<_>>()
    };
    let labelled = |organization: &str, going: Option<&str>| {
        let labels = json!({"plasmacloud.io/org-id": organization, "plasmacloud.io/tenant-type": "org-shared"});
        Some(json!({"metadata": {"name": "org-123-shared", "uid": "u", "labels": labels, "deletionTimestamp": going}}))
    };
    let made = || vec![(Sort::Role, json!({"metadata": {"name": "org-admin", "labels": {MANAGED_BY: MANAGER}}}))];
    for (wanted, namespace, found, expected) in [
        (false, None, vec![], vec![]),
        (true, None, vec![], vec!["create", "write", "write"]),
        // What has nothing of ours in it was never ours, and what lost its labels is, as long as it has.
        (true, labelled("org-9", None), vec![], vec![]),
        (true, labelled("org-9", None), made(), vec!["mend", "write", "write"]),
        (false, labelled("org-9", None), made(), vec![]),
        (false, labelled("org-123", None), vec![], vec![]),
        (false, labelled("org-123", None), made(), vec!["delete"]),
        // Its going brings us back.
        (true, labelled("org-123", Some("1970-01-01T00:00:00Z")), made(), vec![]),
        (false, labelled("org-123", Some("1970-01-01T00:00:00Z")), made(), vec![]),
    ] {
        let case = format!("{wanted} {namespace:?}");
        assert_eq!(tells(organization::World { found, ..shared(wanted, namespace) }), expected, "{case}");
    }
}
