//! IamService by gRPC: an organisation from nothing to its first pod's permission, in the server and in the webhook that stands alone.
use crate::SOON;
use crate::service_alone::{channel, with_token};
use iam::v1::iam_service_client::IamServiceClient;
use iam::v1::{
    ApiKey, DeleteRequest, ExchangeRequest, GetRequest, Group, IssueTokenRequest, ListDecisionsRequest, ListRequest, LoginRequest, Membership, Organization,
    Project, ReviewTokenRequest, RevokeTokensRequest, Role, Rule, ServiceAccount, SetPasswordRequest, User,
};
use testkit::{Server, ServerOptions, binary, free_port, wait_until};
use tonic::{Code, Request};

/// A server whose IAM also answers by itself, and at which port.
fn server(arguments: &[&str]) -> (Server, u16) {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let all = ["--disable-agent", "--disable", "scheduler", "--iam-listen", &address].iter().chain(arguments).map(|text| (*text).to_owned()).collect();
    (Server::start(ServerOptions { arguments: all, is_host: true, ..ServerOptions::default() }), port)
}

fn token_of_administrator(server: &Server) -> String {
    let iam = |line: &str| server.tool().run(binary().to_str().expect("text"), ["iam"].into_iter().chain(line.split_whitespace())).ok().trim().to_owned();
    iam("org create Acme --id org-a --email-domain a.example.com");
    iam("org create Other --id org-b");
    iam("user create other@b.example.com --org org-b --id user-b");
    iam("project create web --org org-a --id proj-a");
    iam("user create boss@a.example.com --org org-a --id user-boss");
    iam("role grant org_admin --user boss@a.example.com --org org-a");
    iam("token create boss@a.example.com")
}

fn run(calls: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(calls);
}

#[test]
fn an_organisation_is_administered_by_calls() {
    let (server, port) = server(&[]);
    let boss = token_of_administrator(&server);
    let authority = std::fs::read_to_string(server.data_dir().join("server/tls/server-ca.crt")).expect("the authority");
    run(async {
        let mut iam = IamServiceClient::new(channel(&format!("127.0.0.1:{port}"), "localhost", &authority).await);
        assert_eq!(iam.list_users(Request::new(ListRequest::default())).await.expect_err("nobody asks").code(), Code::Unauthenticated);
        assert_eq!(iam.list_users(with_token("a.b.c", ListRequest::default())).await.expect_err("no token").code(), Code::Unauthenticated);
        let user = User { email: "carol@a.example.com".into(), display_name: "Carol".into(), ..Default::default() };
        let carol = iam.create_user(with_token(&boss, user)).await.expect("a user is made").into_inner();
        assert!(carol.id.starts_with("user-") && carol.organization == "org-a", "{carol:?}");
        let again = User { email: "Carol@a.example.com".into(), ..Default::default() };
        assert_eq!(iam.create_user(with_token(&boss, again)).await.expect_err("the address is taken").code(), Code::InvalidArgument);
        let group = Group { display_name: "devs".into(), members: vec![carol.id.clone()], ..Default::default() };
        let group = iam.create_group(with_token(&boss, group)).await.expect("a group is made").into_inner();
        let membership = Membership { subject: group.id.clone(), role: "project_member".into(), project: "proj-a".into(), ..Default::default() };
        let granted = iam.grant(with_token(&boss, membership.clone())).await.expect("a role is given").into_inner();
        assert_eq!(granted.id, format!("{}.project-member.proj-a", group.id));
        assert_eq!(iam.grant(with_token(&boss, membership)).await.expect("twice is once").into_inner(), granted);
        let rule = Rule { api_groups: vec!["apps".into()], resources: vec!["deployments".into()], verbs: vec!["get".into()], ..Default::default() };
        let role = Role { id: "readers-a".into(), display_name: "readers".into(), rules: vec![rule.clone()], organization: "org-a".into() };
        assert_eq!(iam.create_role(with_token(&boss, role)).await.expect("a role is made").into_inner().rules, [rule]);

        let password = SetPasswordRequest { user: carol.id.clone(), password: "correct horse battery".into(), ..Default::default() };
        iam.set_password(with_token(&boss, password)).await.expect("a password is set");
        let login = LoginRequest { email: "carol@a.example.com".into(), password: "correct horse battery".into(), ..Default::default() };
        let token = iam.login(Request::new(login.clone())).await.expect("who knows it is let in").into_inner();
        let wrong = LoginRequest { password: "wrong".into(), ..login };
        assert_eq!(iam.login(Request::new(wrong)).await.expect_err("others are not").code(), Code::Unauthenticated);
        let next = iam.exchange(Request::new(ExchangeRequest { key: token.key.clone(), ..Default::default() })).await.expect("a next token").into_inner();
        assert_eq!(server.api().bearer(&next.token).get("/api/v1/namespaces/project-a/pods").code, 200);
        // Who administers nothing sees nothing.
        assert_eq!(iam.list_users(with_token(&next.token, ListRequest::default())).await.expect_err("a member").code(), Code::PermissionDenied);

        let account = ServiceAccount { id: "ci".into(), project: "proj-a".into(), role: "project_viewer".into(), ..Default::default() };
        let account = iam.create_service_account(with_token(&boss, account)).await.expect("an account is made").into_inner();
        assert_eq!(account.id, "sa-ci@proj-a");
        let key = ApiKey { subject: account.id.clone(), description: "ci".into(), ..Default::default() };
        let key = iam.create_api_key(with_token(&boss, key)).await.expect("a key is made").into_inner();
        iam.exchange(Request::new(ExchangeRequest { key: key.key.clone(), ..Default::default() })).await.expect("it gives tokens");
        let keys = iam.list_api_keys(with_token(&boss, ListRequest::default())).await.expect("keys are listed").into_inner().api_keys;
        assert!(keys.iter().any(|listed| listed.id == key.id && listed.subject == "sa-ci@proj-a"), "{keys:?}");
        iam.delete_api_key(with_token(&boss, DeleteRequest { id: key.id })).await.expect("it is deleted");
        assert_eq!(
            iam.exchange(Request::new(ExchangeRequest { key: key.key, ..Default::default() })).await.expect_err("it is no more").code(),
            Code::Unauthenticated
        );
        let issued =
            iam.issue_token(with_token(&boss, IssueTokenRequest { subject: account.id.clone(), ..Default::default() })).await.expect("a token").into_inner();
        iam.revoke_tokens(with_token(&boss, RevokeTokensRequest { subject: account.id.clone(), ..Default::default() })).await.expect("they are taken back");
        assert_eq!(server.api().bearer(&issued.token).get("/api").code, 401);
        assert_eq!(
            iam.review_token(with_token(&boss, ReviewTokenRequest { token: next.token.clone(), ..Default::default() })).await.expect_err("no part").code(),
            Code::PermissionDenied
        );

        // Lists and what is others'.
        let users = iam.list_users(with_token(&boss, ListRequest::default())).await.expect("users").into_inner().users;
        assert_eq!(
            users.iter().map(|user| user.email.as_str()).collect::<std::collections::BTreeSet<_>>(),
            ["boss@a.example.com", "carol@a.example.com"].into()
        );
        for id in ["user-b", "user-none"] {
            let refused = iam.get_user(with_token(&boss, GetRequest { id: id.into() })).await.expect_err("it is not there");
            assert_eq!((refused.code(), refused.message().replace(id, "ID")), (Code::NotFound, "user \"ID\" not found".to_owned()));
        }
        let organizations = iam.list_organizations(with_token(&boss, ListRequest::default())).await.expect("organisations").into_inner().organizations;
        assert_eq!(
            organizations,
            [Organization { id: "org-a".into(), display_name: "Acme".into(), email_domains: vec!["a.example.com".into()], max_projects: None }]
        );
        let project = iam.get_project(with_token(&boss, GetRequest { id: "proj-a".into() })).await.expect("a project").into_inner();
        assert_eq!((project.display_name.as_str(), project.organization.as_str(), project.namespace.as_str()), ("web", "org-a", "project-a"));
        assert_eq!((project.created_by.as_str(), project.phase.as_str()), ("system:admin", "Active"));
        let new = Project { display_name: "more".into(), created_by: "somebody".into(), deletion_grace_period_seconds: Some(0), ..Default::default() };
        let more = iam.create_project(with_token(&boss, new)).await.expect("a project is made").into_inner();
        assert_eq!((more.organization.as_str(), more.created_by.as_str()), ("org-a", "boss@a.example.com"));
        wait_until("its namespace is there", SOON, || server.api().bearer(&boss).get(&format!("/api/v1/namespaces/{}/pods", more.namespace)).code == 200);
        let renamed = Project { id: more.id.clone(), display_name: "less".into(), ..Default::default() };
        let renamed = iam.update_project(with_token(&boss, renamed)).await.expect("it is renamed").into_inner();
        assert_eq!((renamed.display_name.as_str(), renamed.deletion_grace_period_seconds), ("less", Some(0)), "what is not said stays");
        let moved = Project { id: more.id.clone(), organization: "org-b".into(), ..Default::default() };
        assert_eq!(iam.update_project(with_token(&boss, moved)).await.expect_err("to another's").code(), Code::NotFound);
        iam.delete_project(with_token(&boss, DeleteRequest { id: more.id.clone() })).await.expect("it is deleted");
        wait_until("its namespace is gone", SOON, || server.api().get(&format!("/api/v1/namespaces/{}", more.namespace)).code == 404);
        let new = Organization { display_name: "mine".into(), ..Default::default() };
        assert_eq!(iam.create_organization(with_token(&boss, new)).await.expect_err("the platform's").code(), Code::PermissionDenied);
        let changed = User { id: carol.id.clone(), disabled: true, ..Default::default() };
        let changed = iam.update_user(with_token(&boss, changed)).await.expect("she is disabled").into_inner();
        assert_eq!((changed.disabled, changed.email.as_str(), changed.display_name.as_str()), (true, "carol@a.example.com", "Carol"));
        assert_eq!(server.api().bearer(&next.token).get("/api").code, 401);
        iam.revoke(with_token(&boss, DeleteRequest { id: granted.id })).await.expect("the role is taken away");
        iam.delete_user(with_token(&boss, DeleteRequest { id: carol.id.clone() })).await.expect("she is deleted");
        let decisions = iam.list_decisions(with_token(&boss, ListDecisionsRequest::default())).await.expect("decisions").into_inner().decisions;
        assert!(decisions.iter().any(|told| told.decision == "delete" && told.subject == "user-boss" && told.more.contains(&carol.id)), "{decisions:?}");
        assert!(decisions.iter().all(|told| told.subject != "user-b"), "{decisions:?}");
    });
}

#[test]
fn the_webhook_alone_answers_calls_and_tokens_may_be_signed_with_rsa() {
    let (server, _) = server(&["--iam-signing-algorithm", "RS256"]);
    let boss = token_of_administrator(&server);
    let header: serde_json::Value = {
        use base64::Engine;
        let part = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(boss.split('.').next().expect("a header")).expect("base64");
        serde_json::from_slice(&part).expect("JSON")
    };
    assert_eq!(header["alg"], "RS256");
    wait_until("the token is good", SOON, || server.api().bearer(&boss).get("/api/v1/namespaces/project-a/pods").code == 200);
    let jwks = server.api().anonymous().get("/apis/iam.plasmacloud.io/v1/jwks").ok();
    assert_eq!((&jwks["keys"][0]["kty"], &jwks["keys"][0]["alg"]), (&"RSA".into(), &"RS256".into()));
    let (k8shost, tool, port) = (binary().display().to_string(), server.tool(), free_port());
    let data = server.data_dir().display().to_string();
    tool.sh(&format!("{k8shost} iam issue-cert iam-server --server --san 127.0.0.1 --san iam-server --data-dir {data} --output certs/server")).ok();
    let running = tool.background(&format!(
        "exec {k8shost} iam-server --kubeconfig {} --listen 127.0.0.1:{port} --tls-cert-file certs/server/iam-server.crt --tls-private-key-file certs/server/iam-server.key \
         --client-ca-file certs/server/ca.crt --audit-log-path audit.log 2>&1",
        server.kubeconfig().display()
    ));
    running.until_printed("k8shost iam-server is ready", SOON);
    let authority = std::fs::read_to_string(server.data_dir().join("server/tls/server-ca.crt")).expect("the authority");
    run(async {
        let mut iam = IamServiceClient::new(channel(&format!("127.0.0.1:{port}"), "iam-server", &authority).await);
        let user = User { email: "dave@a.example.com".into(), ..Default::default() };
        let dave = iam.create_user(with_token(&boss, user)).await.expect("a user is made").into_inner();
        let found = iam.get_user(with_token(&boss, GetRequest { id: dave.id.clone() })).await.expect("who was made is there at once").into_inner();
        assert_eq!(found, dave);
    });
    drop(running);
}
