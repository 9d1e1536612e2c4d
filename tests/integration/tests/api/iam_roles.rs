//! Who may do what: every role, verb, resource and namespace of three organisations against a model, by review, by request and by kubectl.
use crate::iam::{IAM, server};
use crate::support::SOON;
use serde_json::{Value, json};
use std::fmt::Write;
use testkit::{Api, Ask, Connection, Server, wait_until};

const ORGANIZATIONS: usize = 3;
const PROJECTS: usize = 2;
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
/// `resource.group`, or `resource/part.group`.
const RESOURCES: [&str; 20] = [
    "pods",
    "pods/log",
    "pods/exec",
    "services",
    "configmaps",
    "secrets",
    "serviceaccounts",
    "serviceaccounts/token",
    "resourcequotas",
    "persistentvolumeclaims",
    "deployments.apps",
    "deployments/scale.apps",
    "replicasets.apps",
    "jobs.batch",
    "networkpolicies.networking.k8s.io",
    "ingresses.networking.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "poddisruptionbudgets.policy",
    "horizontalpodautoscalers.autoscaling",
    "clusters.k3k.io",
];
/// Not a project's.
const OTHERS: [&str; 3] = ["default", "kube-system", "iam-system"];

#[derive(Clone, Copy, PartialEq)]
enum Role {
    OrgAdmin,
    Admin,
    Member,
    Viewer,
    /// Of the organisation's own: may get and update Deployments.
    Restarter,
    Nothing,
}

/// Somebody with a role in one organisation, and, unless it is the organisation's, in one project.
struct Principal {
    name: String,
    organization: usize,
    project: usize,
    role: Role,
    token: String,
}

/// The specification's templates, as a table.
fn role_allows(role: Role, verb: &str, resource: &str) -> bool {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    let reads = ["get", "list", "watch"].contains(&verb);
    let seen = ["pods", "services", "deployments", "replicasets", "configmaps", "secrets"];
    match role {
        Role::OrgAdmin => true,
        Role::Admin | Role::Member => ["", "apps", "batch", "networking.k8s.io", "storage.k8s.io"].contains(&group),
        Role::Viewer if resource == "pods/log" => group.is_empty() && ["get", "list"].contains(&verb),
        Role::Viewer => reads && ["", "apps", "batch", "networking.k8s.io"].contains(&group) && seen.contains(&resource),
        Role::Restarter => (resource, group) == ("deployments", "apps") && ["get", "update"].contains(&verb),
        Role::Nothing => false,
    }
}

/// Whether `who` may, in the namespace of that project.
fn model(who: &Principal, verb: &str, resource: &str, organization: usize, project: usize) -> bool {
    let part = who.organization == organization && (who.role == Role::OrgAdmin || who.project == project);
    part && role_allows(who.role, verb, resource)
}

fn namespace(organization: usize, project: usize) -> String {
    format!("project-{organization}{project}")
}

fn create(api: &Api, kind: &str, plural: &str, name: &str, spec: Value) {
    api.post(&format!("{IAM}/{plural}"), &json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})).ok();
}

/// Three organisations with two projects each, and in each project one of every role, people and programs.
fn principals(api: &Api) -> Vec<Principal> {
    let mut all = Vec::new();
    let add = |all: &mut Vec<Principal>, name: &str, subject: &str, organization: usize, project: usize, role: Role| {
        let token = api.post(&format!("{IAM}/token"), &json!({ "subject": subject })).ok()["token"].as_str().unwrap().to_owned();
        all.push(Principal { name: name.to_owned(), organization, project, role, token });
    };
    for organization in 0..ORGANIZATIONS {
        let org = format!("org-{organization}");
        create(api, "Organization", "organizations", &org, json!({"displayName": org}));
        let restarters = format!("restarters-{organization}");
        let rules = json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "update"]}]);
        create(api, "Role", "roles", &restarters, json!({"organization": org, "displayName": "restarters", "rules": rules}));
        let user = |name: &str, role: Option<&str>, project: &str| {
            let (id, email) = (format!("user-{name}-{organization}"), format!("{name}@o{organization}.example.com"));
            create(api, "User", "users", &id, json!({"organization": org, "email": email}));
            if let Some(role) = role {
                create(api, "Membership", "memberships", &format!("of-{id}"), json!({"subject": id, "role": role, "organization": org, "project": project}));
            }
            (email, id)
        };
        for project in 0..PROJECTS {
            let id = format!("proj-{organization}{project}");
            create(api, "Project", "projects", &id, json!({"organization": org, "displayName": id}));
            let named = [
                ("admin", "project_admin", Role::Admin),
                ("member", "project_member", Role::Member),
                ("viewer", "project_viewer", Role::Viewer),
                ("restarter", restarters.as_str(), Role::Restarter),
            ];
            for (name, role, is) in named {
                let (email, subject) = user(&format!("{name}{project}"), Some(role), &id);
                add(&mut all, &email, &subject, organization, project, is);
            }
            create(api, "ServiceAccount", "serviceaccounts", &format!("sa-ci.{id}"), json!({"project": id, "role": "project_viewer"}));
            let subject = format!("sa-ci@{id}");
            add(&mut all, &subject, &subject, organization, project, Role::Viewer);
        }
        let (email, subject) = user("boss", Some("org_admin"), "");
        add(&mut all, &email, &subject, organization, 0, Role::OrgAdmin);
        let (email, subject) = user("newcomer", None, "");
        add(&mut all, &email, &subject, organization, 0, Role::Nothing);
    }
    all
}

/// Has every project's namespace with its bindings, and something to read in it.
fn furnish(api: &Api) {
    for organization in 0..ORGANIZATIONS {
        for project in 0..PROJECTS {
            let namespace = namespace(organization, project);
            let bindings = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
            wait_until("the project's roles are bound", SOON, || api.get(&bindings).json()["items"].as_array().is_some_and(|items| items.len() == 4));
            let metadata = json!({"name": "seen"});
            wait_until("the project's quotas are counted", SOON, || {
                let made = api.post(&format!("/api/v1/namespaces/{namespace}/configmaps"), &json!({"metadata": metadata, "data": {"a": "b"}}));
                matches!(made.code, 201 | 409)
            });
            api.post(&format!("/api/v1/namespaces/{namespace}/secrets"), &json!({"metadata": metadata, "stringData": {"a": "b"}})).ok();
            let labels = json!({"app": "seen"});
            let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
            let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
            api.post(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), &json!({"metadata": metadata, "spec": spec})).ok();
        }
    }
}

fn review(connection: &mut Connection, verb: &str, resource: &str, namespace: &str) -> bool {
    let (path, group) = resource.split_once('.').unwrap_or((resource, ""));
    let (resource, part) = path.split_once('/').unwrap_or((path, ""));
    let attributes = json!({"namespace": namespace, "verb": verb, "resource": resource, "subresource": part, "group": group});
    let ask = Ask::new("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews").json(&json!({"spec": {"resourceAttributes": attributes}}));
    connection.send(&ask).ok()["status"]["allowed"] == true
}

/// Requests for what is in every project's namespace: the verb and resource that each stands for. None leaves a trace.
fn requests(namespace: &str) -> Vec<(&'static str, &'static str, Ask)> {
    let core = format!("/api/v1/namespaces/{namespace}");
    let apps = format!("/apis/apps/v1/namespaces/{namespace}");
    let bindings = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
    let ask = |method: &str, path: String| Ask::new(method, &path);
    let patch = |path: String, body: Value| Ask::new("PATCH", &path).body("application/merge-patch+json", body.to_string());
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "project-viewer"});
    vec![
        ("list", "pods", ask("GET", format!("{core}/pods"))),
        ("get", "configmaps", ask("GET", format!("{core}/configmaps/seen"))),
        ("get", "secrets", ask("GET", format!("{core}/secrets/seen"))),
        ("list", "secrets", ask("GET", format!("{core}/secrets"))),
        ("get", "deployments.apps", ask("GET", format!("{apps}/deployments/seen"))),
        ("list", "jobs.batch", ask("GET", format!("/apis/batch/v1/namespaces/{namespace}/jobs"))),
        ("list", "networkpolicies.networking.k8s.io", ask("GET", format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"))),
        ("list", "rolebindings.rbac.authorization.k8s.io", ask("GET", bindings.clone())),
        ("create", "configmaps", ask("POST", format!("{core}/configmaps?dryRun=All")).json(&json!({"metadata": {"name": "made"}}))),
        ("patch", "configmaps", patch(format!("{core}/configmaps/seen?dryRun=All"), json!({"data": {"a": "c"}}))),
        ("update", "configmaps", ask("PUT", format!("{core}/configmaps/seen?dryRun=All")).json(&json!({"metadata": {"name": "seen"}}))),
        ("delete", "configmaps", ask("DELETE", format!("{core}/configmaps/seen?dryRun=All"))),
        ("deletecollection", "secrets", ask("DELETE", format!("{core}/secrets?dryRun=All"))),
        ("patch", "deployments.apps", patch(format!("{apps}/deployments/seen?dryRun=All"), json!({"spec": {"replicas": 1}}))),
        (
            "create",
            "rolebindings.rbac.authorization.k8s.io",
            ask("POST", format!("{bindings}?dryRun=All")).json(&json!({"metadata": {"name": "made"}, "roleRef": role})),
        ),
    ]
}

/// The refusal of RBAC, in upstream's words.
fn forbidden(who: &str, verb: &str, resource: &str, namespace: &str) -> String {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    format!("User \"{who}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" in the namespace \"{namespace}\"")
}

#[test]
fn roles_give_what_the_model_says_in_every_namespace() {
    let server = server();
    let api = server.api();
    let principals = principals(&api);
    furnish(&api);
    let (mut reviewed, mut asked) = (0, 0);
    for who in &principals {
        let user = api.bearer(&who.token);
        let mut connection = user.connection();
        let places = (0..ORGANIZATIONS).flat_map(|organization| (0..PROJECTS).map(move |project| (organization, project)));
        for (organization, project) in places {
            let namespace = namespace(organization, project);
            for (verb, resource) in VERBS.iter().flat_map(|verb| RESOURCES.iter().map(move |resource| (*verb, *resource))) {
                let allowed = review(&mut connection, verb, resource, &namespace);
                assert_eq!(allowed, model(who, verb, resource, organization, project), "{} {verb} {resource} in {namespace}", who.name);
                reviewed += 1;
            }
            for (verb, resource, ask) in requests(&namespace) {
                let (reply, what) = (connection.send(&ask), format!("{} {verb} {resource} in {namespace}", who.name));
                if model(who, verb, resource, organization, project) {
                    reply.ok();
                } else {
                    let (code, reason, message) = reply.refusal();
                    assert_eq!((code, reason.as_str()), (403, "Forbidden"), "{what}");
                    assert!(message.ends_with(&forbidden(&who.name, verb, resource, &namespace)), "{what}: {message}");
                }
                asked += 1;
            }
        }
        for (namespace, resource) in OTHERS.iter().flat_map(|namespace| RESOURCES.iter().map(move |resource| (*namespace, *resource))) {
            for verb in VERBS {
                assert!(!review(&mut connection, verb, resource, namespace), "{} {verb} {resource} in {namespace}", who.name);
                reviewed += 1;
            }
        }
        // Nothing of the cluster's own, nor what IAM knows of others.
        for path in ["/api/v1/nodes", "/api/v1/namespaces", "/api/v1/secrets", &format!("{IAM}/users"), "/api/v1/namespaces/iam-system/secrets"] {
            assert_eq!(connection.send(&Ask::new("GET", path)).code, 403, "{} {path}", who.name);
        }
    }
    let (people, projects) = (ORGANIZATIONS * (PROJECTS * 5 + 2), ORGANIZATIONS * PROJECTS);
    assert_eq!(reviewed, people * (projects + OTHERS.len()) * VERBS.len() * RESOURCES.len());
    assert_eq!(asked, people * projects * requests("").len());
    by_kubectl(&server, &principals);
}

/// The same once more by asking for it, with kubectl, for all of one organisation's in their own projects and a foreign one.
fn by_kubectl(server: &Server, principals: &[Principal]) {
    let mut script = String::from("unset KUBECONFIG\n");
    let mut expected = String::new();
    script.push_str(&format!("sed '/client-/d' {} > bare.yaml\n", server.kubeconfig().display()));
    for who in principals.iter().filter(|who| who.organization == 1) {
        for (organization, project) in [(1, 0), (1, 1), (2, 0)] {
            let namespace = namespace(organization, project);
            for (verb, resource, line) in [
                ("get", "configmaps", "get configmap seen"),
                ("delete", "configmaps", "delete configmap seen --dry-run=server"),
                ("patch", "deployments.apps", "scale deployment seen --replicas=1 --dry-run=server"),
            ] {
                // What scaling needs is the part alone, which is asked for by its own name.
                let resource = if verb == "patch" { "deployments/scale.apps" } else { resource };
                let read = verb != "patch" || model(who, "get", "deployments.apps", organization, project);
                let may = read && model(who, verb, resource, organization, project);
                writeln!(
                    script,
                    "kubectl --kubeconfig bare.yaml --token {} -n {namespace} {line} >/dev/null 2>&1 && echo '{} {namespace} {verb} yes' || echo '{} {namespace} {verb} no'",
                    who.token, who.name, who.name
                )
                .unwrap();
                writeln!(expected, "{} {namespace} {verb} {}", who.name, if may { "yes" } else { "no" }).unwrap();
            }
        }
    }
    assert_eq!(server.tool().sh(&script).ok(), expected);
}

#[test]
fn a_token_for_one_project_gives_nothing_in_another() {
    let server = server();
    let api = server.api();
    create(&api, "Organization", "organizations", "org-a", json!({"displayName": "a"}));
    create(&api, "User", "users", "user-eve", json!({"organization": "org-a", "email": "eve@example.com"}));
    for project in ["proj-one", "proj-two"] {
        create(&api, "Project", "projects", project, json!({"organization": "org-a", "displayName": project}));
        let spec = json!({"subject": "user-eve", "role": "project_admin", "organization": "org-a", "project": project});
        create(&api, "Membership", "memberships", &format!("eve-{project}"), spec);
    }
    let token =
        |project: &str| api.post(&format!("{IAM}/token"), &json!({"subject": "user-eve", "project": project})).ok()["token"].as_str().unwrap().to_owned();
    let (both, one) = (api.bearer(&token("")), api.bearer(&token("proj-one")));
    let pods = |place: &str| format!("/api/v1/namespaces/project-{place}/pods");
    wait_until("both are there", SOON, || both.get(&pods("one")).code == 200 && both.get(&pods("two")).code == 200);
    assert_eq!((one.get(&pods("one")).code, one.get(&pods("two")).code), (200, 403));
    // Nor may it be exchanged for one that does.
    assert_eq!(one.post(&format!("{IAM}/token"), &json!({"project": "proj-two"})).code, 403);
    assert_eq!(one.post(&format!("{IAM}/key"), &json!({"subject": "user-eve"})).code, 403);
}
