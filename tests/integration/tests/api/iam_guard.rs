//! What bounds a project holds: its administrators can't loosen it, and a hundred full projects stay apart and counted.
use crate::iam::{IAM, iam, server, with_token};
use crate::support::{SOON, config_map};
use serde_json::{Value, json};
use testkit::{Ask, wait_until};

#[test]
fn administrators_of_a_project_do_not_loosen_what_bounds_it() {
    let server = server();
    let api = server.api();
    iam(&server, "org create Acme --id org-a");
    iam(&server, "project create web --org Acme --id proj-a --org-shared");
    for (user, role, place) in [("boss", "org_admin", "--org Acme"), ("eve", "project_admin", "--project web")] {
        iam(&server, &format!("user create {user}@example.com --org Acme"));
        iam(&server, &format!("role grant {role} --user {user}@example.com {place}"));
    }
    let (boss, eve) = (with_token(&server, "boss@example.com", None), with_token(&server, "eve@example.com", None));
    let core = "/api/v1/namespaces/project-a";
    let (rbac, networks) = ("/apis/rbac.authorization.k8s.io/v1/namespaces/project-a", "/apis/networking.k8s.io/v1/namespaces/project-a/networkpolicies");
    wait_until("the project is furnished", SOON, || {
        api.get(&format!("{rbac}/rolebindings/project-viewer-binding")).code == 200 && api.get(&format!("{networks}/allow-org-shared")).code == 200
    });
    let managed = [
        (format!("{core}/resourcequotas/project-object-quota"), json!({"spec": {"hard": {"pods": "5000"}}})),
        (format!("{core}/resourcequotas/project-compute-quota"), json!({"metadata": {"labels": null}})),
        (format!("{networks}/default-deny-all"), json!({"spec": {"egress": [{}]}})),
        (format!("{networks}/allow-org-shared"), json!({"spec": {"egress": []}})),
        (format!("{rbac}/roles/project-viewer"), json!({"rules": []})),
        (format!("{rbac}/rolebindings/project-admin-binding"), json!({"subjects": []})),
        (format!("{rbac}/rolebindings/org-admin-binding"), json!({"subjects": []})),
    ];
    let refused = |reply: testkit::Reply, what: &str| {
        let (code, reason, message) = reply.refusal();
        assert_eq!((code, reason.as_str()), (403, "Forbidden"), "{what}: {message}");
        message
    };
    let before: Vec<Value> = managed.iter().map(|(path, _)| api.get(path).ok()["metadata"]["uid"].take()).collect();
    for (path, patch) in &managed {
        let mut users = vec![&boss];
        if !path.contains("rbac") {
            users.push(&eve);
        }
        for user in users {
            let message = refused(user.patch("merge", path, patch), path);
            assert!(message.ends_with("is forbidden: it is part of what bounds the project, and managed by \"k8shost-projects\" alone"), "{message}");
            refused(user.delete(path), path);
            refused(user.delete(path.rsplit_once('/').unwrap().0), path);
        }
    }
    let after: Vec<Value> = managed.iter().map(|(path, _)| api.get(path).ok()["metadata"]["uid"].take()).collect();
    assert_eq!(before, after, "each is still the same object");
    // A quota of their own is theirs, unless it says it is not.
    let quota = |labels: Value| json!({"metadata": {"name": "own", "labels": labels}, "spec": {"hard": {"pods": "1"}}});
    refused(eve.post(&format!("{core}/resourcequotas"), &quota(json!({"app.kubernetes.io/managed-by": "k8shost-projects"}))), "a label");
    eve.post(&format!("{core}/resourcequotas"), &quota(json!({}))).ok();
    eve.delete(&format!("{core}/resourcequotas/own")).ok();
    // The namespace is in itself as RBAC counts, so its own is guarded too.
    for user in [&boss, &eve] {
        for labels in [
            json!({"pod-security.kubernetes.io/enforce": "privileged"}),
            json!({"pod-security.kubernetes.io/enforce-version": "v1.0"}),
            json!({"plasmacloud.io/project-id": null}),
            json!({"plasmacloud.io/org-id": "org-b"}),
        ] {
            refused(user.patch("merge", core, &json!({"metadata": {"labels": labels}})), "a label of the namespace");
        }
        refused(user.delete(core), "the namespace");
        let mut whole = api.get(core).ok();
        whole["spec"]["finalizers"] = json!([]);
        refused(user.put(&format!("{core}/finalize"), &whole), "the namespace's finalizers");
    }
    eve.patch("merge", core, &json!({"metadata": {"labels": {"team": "red"}}})).ok();
    // In kubectl's words, and still the platform's to do, which the controller mends.
    let told = server.tool().sh("kubectl --as eve@example.com --as-group project:proj-a -n project-a delete quota --all").err();
    assert!(told.contains("resourcequotas \"project-compute-quota\" is forbidden: it is part of what bounds the project"), "{told}");
    api.delete(&managed[0].0).ok();
    wait_until("it is made again", SOON, || api.get(&managed[0].0).code == 200);
    // What manages projects goes on: a renamed project's namespace follows, a deleted one's goes.
    iam(&server, "project rename web shop");
    wait_until("the name has followed", SOON, || api.get(core).json()["metadata"]["annotations"]["plasmacloud.io/project-name"] == "shop");
    iam(&server, "project delete shop --grace-period 0s");
    wait_until("the namespace is gone", SOON, || api.get(core).code == 404);
}

#[test]
fn a_hundred_full_projects_are_counted_and_stay_apart() {
    const PROJECTS: usize = 100;
    const OBJECTS: usize = 50;
    let server = server();
    let api = server.api();
    let mut admin = api.connection();
    let mut create = |kind: &str, plural: &str, name: &str, spec: Value| {
        let object = json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        admin.send(&Ask::new("POST", &format!("{IAM}/{plural}")).json(&object)).ok();
    };
    create("Organization", "organizations", "org-a", json!({"displayName": "a"}));
    for at in 0..PROJECTS {
        create("Project", "projects", &format!("proj-{at}"), json!({"displayName": format!("p{at}"), "organization": "org-a"}));
        create("User", "users", &format!("user-{at}"), json!({"organization": "org-a", "email": format!("u{at}@example.com")}));
        let spec = json!({"subject": format!("user-{at}"), "role": "project_member", "organization": "org-a", "project": format!("proj-{at}")});
        create("Membership", "memberships", &format!("m-{at}"), spec);
    }
    let users: Vec<testkit::Api> = (0..PROJECTS)
        .map(|at| api.bearer(api.post(&format!("{IAM}/token"), &json!({"subject": format!("user-{at}")})).ok()["token"].as_str().unwrap()))
        .collect();
    let maps = |at: usize| format!("/api/v1/namespaces/project-{at}/configmaps");
    let quota = |at: usize| api.get(&format!("/api/v1/namespaces/project-{at}/resourcequotas/project-object-quota"));
    for (at, user) in users.iter().enumerate() {
        wait_until("the project is furnished and counted", SOON, || {
            quota(at).json()["status"]["used"]["configmaps"] == "1" && user.get(&maps(at)).json()["items"].as_array().is_some_and(|items| items.len() == 1)
        });
        // The root's certificate is one of the fifty.
        let codes = user.post_all(&maps(at), (1..OBJECTS).map(|number| config_map(&format!("c{number}"), &json!({"of": at.to_string()}))));
        assert!(codes.iter().all(|code| *code == 201), "{at}: {codes:?}");
    }
    for (at, user) in users.iter().enumerate() {
        let mut connection = user.connection();
        let (code, _, message) = connection.send(&Ask::new("POST", &maps(at)).json(&config_map("more", &json!({})))).refusal();
        let exceeded = "exceeded quota: project-object-quota, requested: configmaps=1, used: configmaps=50, limited: configmaps=50";
        assert_eq!((code, message), (403, format!("configmaps \"more\" is forbidden: {exceeded}")));
        let listed = connection.send(&Ask::new("GET", &maps(at))).ok();
        let items = listed["items"].as_array().unwrap();
        let own = at.to_string();
        assert_eq!(items.len(), OBJECTS);
        assert!(items.iter().all(|item| item["data"]["of"].is_null() && item["metadata"]["name"] == "kube-root-ca.crt" || item["data"]["of"] == *own));
        let next = (at + 1) % PROJECTS;
        assert_eq!(connection.send(&Ask::new("GET", &maps(next))).code, 403);
        wait_until("the quota tells so", SOON, || quota(at).json()["status"]["used"]["configmaps"] == "50");
    }
    // Room that is made may be used at once.
    users[7].delete(&format!("{}/c7", maps(7))).ok();
    wait_until("one more fits", SOON, || users[7].post(&maps(7), &config_map("more", &json!({}))).code == 201);
}
