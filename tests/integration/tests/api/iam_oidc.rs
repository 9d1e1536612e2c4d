//! Logging in at a provider elsewhere: by a browser here, by a code on another machine, and what tokens of it are refused.
use crate::iam::{IAM, iam};
use crate::support::SOON;
use serde_json::{Value, json};
use std::io::{Read, Write};
use testkit::{Api, Ask, CLIENT_ID, Provider, Server, ServerOptions, Tool, wait_until};

struct Stand {
    server: Server,
    provider: Provider,
    /// A browser that trusts the provider.
    browser: Api,
}

fn stand() -> Stand {
    let provider = Provider::start();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("providers.json");
    let trusted = json!({"issuer": provider.issuer, "clientId": CLIENT_ID, "organization": "org-a", "certificateAuthority": provider.authority_pem});
    std::fs::write(&file, json!({ "providers": [trusted] }).to_string()).unwrap();
    let arguments = ["--disable-agent", "--disable", "scheduler", "--iam-oidc-config-file", file.to_str().unwrap()].map(Into::into).into();
    let server = Server::start(ServerOptions { arguments, is_host: true, ..ServerOptions::default() });
    for org in ["a", "b"] {
        iam(&server, &format!("org create Org{org} --id org-{org}"));
        iam(&server, &format!("project create web-{org} --org org-{org} --id proj-{org}"));
        iam(&server, &format!("user create eve@{org}.example.com --org org-{org} --id user-eve-{org}"));
        iam(&server, &format!("role grant project_member --user eve@{org}.example.com --project proj-{org}"));
    }
    let browser = Api::of_authority(provider.issuer.trim_start_matches("https://"), &provider.authority_pem);
    std::fs::write(server.tool().home.join("provider.crt"), &provider.authority_pem).unwrap();
    Stand { server, provider, browser }
}

impl Stand {
    fn tool(&self) -> Tool {
        self.server.tool()
    }
    fn login(&self, more: &str) -> String {
        let (k8shost, issuer) = (testkit::binary().display().to_string(), &self.provider.issuer);
        format!("exec {k8shost} iam login --issuer {issuer} --issuer-certificate-authority provider.crt --kubeconfig-output eve.yaml {more} 2>&1")
    }
    fn with_id_token(&self, token: &str) -> testkit::Reply {
        let login = json!({"issuer": self.provider.issuer, "idToken": token});
        self.server.api().anonymous().post(&format!("{IAM}/oidc"), &login)
    }
}

/// GET of a plain http URL, as a browser does that was sent there; gives what the page says.
fn visit(url: &str) -> String {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn users_log_in_at_a_provider_with_a_browser_or_a_code() {
    let stand = stand();
    stand.provider.log_in("1234", "eve@a.example.com", true);
    let mut running = stand.tool().background(&stand.login(""));
    running.until_printed("code_challenge_method=S256", SOON);
    let printed = running.printed();
    let url = printed.lines().find(|line| line.starts_with("https://")).unwrap();
    let path = url.strip_prefix(&stand.provider.issuer).unwrap();
    let sent = stand.browser.send(&Ask::new("GET", path));
    assert_eq!(sent.code, 302, "{}", sent.text());
    let location = sent.header("location").unwrap().to_owned();
    // Somebody else's page sends the browser there with a code of theirs: it is not this login's.
    let (callback, _) = location.split_once('?').unwrap();
    assert!(visit(&format!("{callback}?code=theirs&state=guessed")).contains("another login"));
    assert!(visit(&callback.replace("/callback", "/favicon.ico")).contains("404"));
    assert!(visit(&location).contains("You are logged in"));
    assert!(running.until_ended(SOON).0);
    let eve = |line: &str| stand.tool().sh(&format!("KUBECONFIG=eve.yaml {line}"));
    assert_eq!(eve("kubectl auth whoami -o jsonpath={.status.userInfo.username}").ok(), "eve@a.example.com");
    wait_until("she may what she may", SOON, || eve("kubectl -n project-a get pods").success);
    assert!(eve("kubectl -n project-b get pods").err().contains("orbidden"));
    // On a machine without a browser.
    let mut running = stand.tool().background(&stand.login("--device --project proj-a"));
    running.until_printed("type in BCDF-GHJK", SOON);
    stand.provider.approve();
    assert!(running.until_ended(SOON).0, "{}", running.printed());
    eve("kubectl -n project-a get pods").ok();
    // The provider's keys rotate: its new ones are asked for when a token names one.
    let log = std::fs::read_to_string(stand.server.data_dir().join("server/iam-audit.log")).unwrap();
    let logins =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter(|entry| entry["decision"] == "login" && entry["outcome"] == "allowed");
    assert!(logins.clone().count() == 2 && logins.clone().all(|entry| entry["issuer"] == stand.provider.issuer.as_str() && entry["subject"] == "user-eve-a"));
    let other = stand.tool().sh(&format!("{} iam login --issuer https://127.0.0.1:1 --kubeconfig-output no.yaml", testkit::binary().display()));
    assert!(other.err().contains("the server trusts no provider"));
}

#[test]
fn tokens_of_a_provider_are_good_once_for_its_users_alone() {
    let stand = stand();
    stand.provider.log_in("1234", "eve@a.example.com", true);
    let good = stand.provider.token(&Value::Null);
    let answer = stand.with_id_token(&good).ok();
    let eve = stand.server.api().bearer(answer["token"].as_str().unwrap());
    wait_until("she is let in", SOON, || eve.get("/api/v1/namespaces/project-a/pods").code == 200);
    let refused = stand.with_id_token("garbage");
    assert_eq!(refused.code, 401);
    let now = clock::Clock::now(&clock::SystemClock).as_second();
    let stranger = Provider::start();
    stranger.log_in("1234", "eve@a.example.com", true);
    for (what, token) in [
        ("shown again", good.clone()),
        ("expired", stand.provider.token(&json!({"exp": now - 60}))),
        ("for another client", stand.provider.token(&json!({"aud": "other"}))),
        ("of another issuer", stand.provider.token(&json!({"iss": stranger.issuer}))),
        ("of another provider", stranger.token(&Value::Null)),
        ("of another provider in this one's name", stranger.token(&json!({"iss": stand.provider.issuer}))),
        ("without a verified address", stand.provider.token(&json!({"email_verified": false}))),
        ("about a user of another organisation", stand.provider.token(&json!({"email": "eve@b.example.com"}))),
        ("about nobody", stand.provider.token(&json!({"email": "nobody@a.example.com"}))),
        ("that is one of ours", iam(&stand.server, "token create eve@a.example.com")),
    ] {
        let reply = stand.with_id_token(&token);
        assert_eq!((reply.code, reply.text()), (refused.code, refused.text()), "a token {what}");
    }
    // Nor is the provider's token one at the API, nor a password's login open to a provider's user without one.
    assert_eq!(stand.server.api().bearer(&stand.provider.token(&Value::Null)).get("/api").code, 401);
    let other = json!({"issuer": stranger.issuer, "idToken": stranger.token(&Value::Null)});
    let reply = stand.server.api().anonymous().post(&format!("{IAM}/oidc"), &other);
    assert_eq!((reply.code, reply.text()), (refused.code, refused.text()));
    iam(&stand.server, "user disable eve@a.example.com");
    let reply = stand.with_id_token(&stand.provider.token(&Value::Null));
    assert_eq!((reply.code, reply.text()), (refused.code, refused.text()), "who is disabled");
}
