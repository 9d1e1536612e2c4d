//! Administrators of an organisation see and change who belongs to it, by the same commands, and nobody else's.
use crate::iam::{IAM, iam, server, with_token};
use crate::support::SOON;
use serde_json::{Value, json};
use testkit::{Api, Server, wait_until};

const PASSWORD: &str = "correct horse battery";

/// Two organisations with a project and an administrator each.
fn organizations(server: &Server) {
    let k8shost = testkit::binary().display().to_string();
    for org in ["a", "b"] {
        iam(server, &format!("org create Org{org} --id org-{org} --email-domain {org}.example.com"));
        iam(server, &format!("project create web-{org} --org org-{org} --id proj-{org}"));
        let create = format!("printf '{PASSWORD}\\n' | {k8shost} iam user create boss@{org}.example.com --org org-{org} --id user-boss-{org} --password-stdin");
        server.tool().sh(&create).ok();
        iam(server, &format!("role grant org_admin --user boss@{org}.example.com --org org-{org}"));
    }
}

#[test]
fn administrators_manage_their_own_members_by_the_same_commands() {
    let server = server();
    organizations(&server);
    iam(&server, "user create bob@b.example.com --org org-b --id user-bob");
    iam(&server, "group create devs --org org-b --id group-devs-b");
    let (k8shost, tool) = (testkit::binary().display().to_string(), server.tool());
    tool.sh(&format!("printf '{PASSWORD}\\n' | {k8shost} iam login boss@a.example.com --kubeconfig-output boss.yaml")).ok();
    let boss = |line: &str| tool.sh(&format!("KUBECONFIG=boss.yaml {k8shost} iam {line}"));
    let carol = boss("user create carol@a.example.com --org Orga --name Carol").ok().trim().to_owned();
    let group = boss("group create devs --org Orga --member carol@a.example.com").ok().trim().to_owned();
    boss(&format!("role grant project_member --group {group} --project web-a")).ok();
    boss("role create restarters-a --org Orga --rule get,update:deployments:apps").ok();
    boss("role grant restarters-a --user carol@a.example.com --org Orga").ok();
    assert_eq!(boss("service-account create ci --project web-a --role project_viewer").ok().trim(), "sa-ci@proj-a");
    assert!(boss("token create sa-ci@proj-a").ok().contains('.'));
    assert!(boss("key create sa-ci@proj-a --description ci").ok().starts_with("k8i_"));
    boss("user set-password carol@a.example.com <<< 'another long password'").ok();
    // What she was given counts.
    let pods = "/api/v1/namespaces/project-a/pods";
    let token = with_token(&server, &carol, None);
    wait_until("she may", SOON, || token.get(pods).code == 200);
    boss("group remove devs carol@a.example.com").ok();
    wait_until("she may no more", SOON, || token.get(pods).code == 403);
    boss("user disable carol@a.example.com").ok();
    wait_until("she is nobody", SOON, || token.get(pods).code == 401);
    boss("user enable carol@a.example.com").ok();
    // Lists are the organisation's own.
    let listed = |line: &str| boss(line).ok();
    assert_eq!(listed("org list -o name").trim(), "organization.iam.plasmacloud.io/org-a");
    assert_eq!(listed("project list -o name").trim(), "project.iam.plasmacloud.io/proj-a");
    assert_eq!(listed("group list -o name").trim(), format!("group.iam.plasmacloud.io/{group}"));
    let users = listed("user list");
    assert!(users.starts_with("NAME") && users.contains("carol@a.example.com") && !users.contains("b.example.com"), "{users}");
    let members = listed("role members");
    assert!(members.contains("project_member") && !members.contains("org-b"), "{members}");
    // Others' are not there, and what is the platform's is not theirs.
    assert!(boss("user delete user-bob").err().contains("no user"));
    assert!(boss("group add group-devs-b carol@a.example.com").err().contains("no group"));
    assert!(boss(&format!("role grant project_member --user {carol} --project proj-b")).err().contains("no project"));
    assert!(boss("user create eve@b.example.com --org Orga").err().contains("none of the organisation's domains"));
    assert!(boss("user create eve@a.example.com --org org-b").err().contains("no organization"));
    assert!(boss("user create carol@a.example.com --org Orga").err().contains("already"));
    assert!(boss("org rename Orga Better").err().contains("only the platform's administrators"));
    assert!(boss("org set-email-domains Orga b.example.com").err().contains("only the platform's administrators"));
    assert!(boss("token rotate-keys").err().to_lowercase().contains("forbidden"));
    boss("user delete carol@a.example.com").ok();
    wait_until("she is gone, with what roles she had", SOON, || {
        server.api().get(&format!("{IAM}/users/{carol}")).code == 404 && !iam(&server, "role members").contains(&carol)
    });
    // What was done was done by the administrator, as the log has it.
    let log = std::fs::read_to_string(server.data_dir().join("server/iam-audit.log")).unwrap();
    let decisions: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(decisions.iter().any(|entry| entry["decision"] == "create" && entry["subject"] == "user-boss-a" && entry["name"] == carol.as_str()));
}

#[test]
fn what_is_anothers_can_neither_be_seen_nor_named() {
    let server = server();
    organizations(&server);
    let api = server.api();
    for (org, domain) in [("a", "a.example.com"), ("b", "b.example.com")] {
        iam(&server, &format!("user create member@{domain} --org org-{org} --id user-member-{org}"));
        iam(&server, &format!("group create devs --org org-{org} --id group-devs-{org}"));
        iam(&server, &format!("role create own-{org} --org org-{org} --rule get:pods"));
        iam(&server, &format!("role grant project_admin --user user-member-{org} --project proj-{org}"));
        iam(&server, &format!("service-account create ci --project proj-{org}"));
    }
    let boss = with_token(&server, "boss@a.example.com", None);
    let own = |path: &str| format!("{IAM}/own/{path}");
    wait_until("what is made is known", SOON, || boss.get(&own("serviceaccounts")).json()["items"].as_array().is_some_and(|items| items.len() == 1));
    let membership = "user-member-b.project-admin.proj-b";
    for (there, none) in [
        ("users/user-member-b", "users/user-none"),
        ("groups/group-devs-b", "groups/group-none"),
        ("roles/own-b", "roles/none"),
        ("projects/proj-b", "projects/proj-none"),
        ("organizations/org-b", "organizations/org-none"),
        ("serviceaccounts/sa-ci.proj-b", "serviceaccounts/sa-ci.proj-none"),
        (&format!("memberships/{membership}"), "memberships/none"),
    ] {
        let last = |path: &str| path.rsplit('/').next().unwrap().to_owned();
        let told = |reply: testkit::Reply, path: &str| (reply.code, reply.text().replace(&last(path), "NAME"));
        let patch = json!({"spec": {"displayName": "mine"}});
        let answers = |path: &str| {
            [
                told(boss.get(&own(path)), path),
                told(boss.patch("merge", &own(path), &patch), path),
                told(boss.delete(&own(path)), path),
                // The objects themselves are the platform's.
                told(boss.get(&format!("{IAM}/{path}")), path),
                told(boss.patch("merge", &format!("{IAM}/{path}"), &patch), path),
                told(boss.delete(&format!("{IAM}/{path}")), path),
            ]
        };
        let answered = answers(there);
        assert_eq!(answered, answers(none), "{there}");
        assert_eq!(answered.each_ref().map(|(code, _)| *code), [404, 404, 404, 403, 403, 403], "{there}");
    }
    let post = |plural: &str, name: &str, spec: Value| boss.post(&own(plural), &json!({"metadata": {"name": name}, "spec": spec})).code;
    let grant = |subject: &str, role: &str, organization: &str, project: &str| {
        post("memberships", "made", json!({"subject": subject, "role": role, "organization": organization, "project": project}))
    };
    assert_eq!(grant("user-member-b", "project_admin", "org-a", "proj-a"), 404, "somebody else's user");
    assert_eq!(grant("group-devs-b", "project_admin", "org-a", "proj-a"), 404, "somebody else's group");
    assert_eq!(grant("user-member-a", "project_admin", "org-a", "proj-b"), 404, "somebody else's project");
    assert_eq!(grant("user-member-a", "own-b", "org-a", "proj-a"), 404, "somebody else's role");
    assert_eq!(grant("user-member-a", "project_admin", "org-b", "proj-b"), 404, "somebody else's organisation");
    assert_eq!(grant("user-member-a", "org_admin", "org-a", "proj-a"), 422, "an administrator of a part");
    assert_eq!(post("users", "user-made", json!({"organization": "org-b"})), 404);
    assert_eq!(post("users", "user-made", json!({"email": "x@b.example.com"})), 403);
    assert_eq!(post("groups", "group-made", json!({"displayName": "g", "members": ["user-member-b"]})), 404);
    assert_eq!(post("serviceaccounts", "sa-made.proj-b", json!({"project": "proj-b", "role": "project_admin"})), 404);
    assert_eq!(post("roles", "made", json!({"organization": "org-b", "rules": []})), 404);
    assert_eq!(post("apikeys", "key-made", json!({"subject": "user-boss-b"})), 422);
    assert_eq!(boss.patch("merge", &own("users/user-member-a"), &json!({"spec": {"organization": "org-b"}})).code, 404, "nobody is sent away");
    assert_eq!(boss.patch("merge", &own("users/user-member-a"), &json!({"spec": {"email": "boss@b.example.com"}})).code, 403);
    assert_eq!(boss.patch("merge", &own("groups/group-devs-a"), &json!({"spec": {"members": ["user-member-b"]}})).code, 404);
    assert_eq!(boss.patch("merge", &own("projects/proj-a"), &json!({"spec": {"organization": "org-b"}})).code, 404, "no project is given away");
    assert_eq!(boss.patch("merge", &own("projects/proj-a"), &json!({"spec": {"createdBy": "somebody"}})).code, 403);
    assert_eq!(boss.patch("merge", &own("organizations/org-a"), &json!({"spec": {"maxProjects": 99}})).code, 403);
    assert_eq!(post("projects", "proj-made", json!({"displayName": "made", "organization": "org-b"})), 404);
    assert_eq!(post("projects", "proj-b", json!({"displayName": "made", "organization": "org-a"})), 409, "a name is given once");
    // Owners are said by IAM: a foreign one would have the object collected with it.
    let foreign = json!([{"apiVersion": "iam.plasmacloud.io/v1", "kind": "Project", "name": "proj-b", "uid": "x"}]);
    let made = boss.post(&own("groups"), &json!({"metadata": {"name": "group-own", "ownerReferences": foreign}, "spec": {"displayName": "own"}}));
    assert!(made.ok()["metadata"]["ownerReferences"].is_null());
    // Whoever does not administer the whole organisation administers none of it.
    let member: Api = with_token(&server, "member@a.example.com", None);
    let scoped = with_token(&server, "boss@a.example.com", Some("proj-a"));
    for user in [&member, &scoped, &with_token(&server, "sa-ci@proj-a", None)] {
        assert_eq!(user.get(&own("users")).code, 403);
        assert_eq!(user.post(&own("groups"), &json!({"metadata": {"name": "group-x"}, "spec": {"displayName": "x"}})).code, 403);
    }
    assert_eq!(api.anonymous().get(&own("users")).code, 401);
    // The platform's administrator sees all there.
    let all = api.get(&own("users")).ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 4);
    iam(&server, "role revoke org_admin --user boss@a.example.com --org org-a");
    wait_until("who was an administrator is none", SOON, || boss.get(&own("users")).code == 403);
}

#[test]
fn administrators_make_and_end_their_projects_as_many_as_they_may() {
    let server = server();
    organizations(&server);
    let api = server.api();
    iam(&server, "org set-max-projects Orga 3");
    let (k8shost, tool) = (testkit::binary().display().to_string(), server.tool());
    tool.sh(&format!("printf '{PASSWORD}\\n' | {k8shost} iam login boss@a.example.com --kubeconfig-output boss.yaml")).ok();
    let boss = |line: &str| tool.sh(&format!("KUBECONFIG=boss.yaml {line}"));
    // As the command answers, the project can be used.
    let id = boss(&format!("{k8shost} iam project create shop --org Orga --grace-period 1s")).ok().trim().to_owned();
    let namespace = format!("project-{}", id.strip_prefix("proj-").unwrap());
    boss(&format!("kubectl -n {namespace} create configmap made")).ok();
    let found = api.get(&format!("/api/v1/namespaces/{namespace}")).ok();
    assert_eq!(found["metadata"]["annotations"], json!({"plasmacloud.io/project-name": "shop", "plasmacloud.io/created-by": "boss@a.example.com"}));
    assert_eq!(found["metadata"]["labels"]["plasmacloud.io/org-id"], "org-a");
    assert_eq!(api.get(&format!("/api/v1/namespaces/{namespace}/resourcequotas/project-object-quota")).ok()["spec"]["hard"]["pods"], "50");
    boss(&format!("{k8shost} iam project rename shop store")).ok();
    wait_until("it is called so", SOON, || api.get(&format!("{IAM}/projects/{id}")).ok()["spec"]["displayName"] == "store");
    // Those of nobody else, and no more than the platform lets them, also all at once.
    assert!(boss(&format!("{k8shost} iam project create shop --org org-b")).err().contains("no organization"));
    assert!(boss(&format!("{k8shost} iam project delete proj-b")).err().contains("no project"));
    assert!(boss(&format!("{k8shost} iam project move store --org org-b")).err().contains("no organization"));
    let user = with_token(&server, "boss@a.example.com", None);
    let made: Vec<u16> = std::thread::scope(|scope| {
        let make = |at: usize| {
            let (user, project) = (&user, json!({"metadata": {"name": format!("proj-more-{at}")}, "spec": {"displayName": "more", "organization": "org-a"}}));
            scope.spawn(move || user.post(&format!("{IAM}/own/projects"), &project).code)
        };
        let all: Vec<_> = (0..6).map(make).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!((made.iter().filter(|code| **code == 201).count(), made.iter().filter(|code| **code == 403).count()), (1, 5), "{made:?}");
    let (_, _, message) = user.post(&format!("{IAM}/own/projects"), &json!({"metadata": {"name": "proj-x"}, "spec": {"displayName": "x"}})).refusal();
    assert_eq!(message, "organization \"org-a\" has 3 projects and may have 3; the platform's administrators can let it have more");
    boss(&format!("{k8shost} iam project delete store")).ok();
    wait_until("its namespace is gone, and there is room again", SOON, || {
        api.get(&format!("/api/v1/namespaces/{namespace}")).code == 404 && api.get(&format!("{IAM}/projects/{id}")).code == 404
    });
    wait_until("another can be made", SOON, || boss(&format!("{k8shost} iam project create again --org Orga")).success);
    // The platform is not bound; whoever is no administrator makes none.
    iam(&server, "project create beyond --org Orga");
    iam(&server, "user create member@a.example.com --org org-a");
    iam(&server, "role grant project_admin --user member@a.example.com --project proj-a");
    let member = with_token(&server, "member@a.example.com", None);
    assert_eq!(member.post(&format!("{IAM}/own/projects"), &json!({"metadata": {"name": "proj-y"}, "spec": {"displayName": "y"}})).code, 403);
}
