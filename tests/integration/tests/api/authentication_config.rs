//! AuthenticationConfiguration: tokens of providers elsewhere, who is let in without credentials, and a file that changes.
use crate::support::SOON;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::{Api, CLIENT_ID, Provider, Server, ServerOptions, wait_until};

fn written(file: &Path, authenticators: &Value, anonymous: &Value) {
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": authenticators, "anonymous": anonymous,
    });
    // As a whole, or the server might read half of it.
    let new = file.with_extension("new");
    std::fs::write(&new, configuration.to_string()).unwrap();
    std::fs::rename(&new, file).unwrap();
}

fn by_expression(provider: &Provider) -> Value {
    json!({
        "issuer": {"url": provider.issuer, "audiences": [CLIENT_ID, "other"], "audienceMatchPolicy": "MatchAny", "certificateAuthority": provider.authority_pem},
        "claimMappings": {
            "username": {"expression": "'oidc:' + claims.sub"}, "groups": {"expression": "claims.?roles.orValue([]).map(role, 'oidc:' + role)"},
            "uid": {"claim": "jti"}, "extra": [{"key": "example.org/mail", "valueExpression": "claims.email"}],
        },
        "claimValidationRules": [{"claim": "tenant", "requiredValue": "red"}, {"expression": "claims.email_verified == true", "message": "verify first"}],
        "userValidationRules": [{"expression": "user.username != 'oidc:banned'", "message": "banned"}],
    })
}

fn whoami(api: &Api) -> Value {
    api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).ok()["status"]["userInfo"].take()
}

fn metric(api: &Api, sample: &str) -> f64 {
    let text = api.get("/metrics").text();
    text.lines().filter(|line| line.starts_with(sample)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[test]
fn tokens_of_configured_issuers_are_taken_as_the_file_says_now() {
    let (first, second) = (Provider::start(), Provider::start());
    first.log_in("eve", "eve@example.com", true);
    second.log_in("ada", "ada@example.com", true);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authentication.yaml");
    let anonymous = json!({"enabled": true, "conditions": [{"path": "/livez"}, {"path": "/version"}, {"path": "/api"}]});
    written(&file, &json!([by_expression(&first)]), &anonymous);
    let arguments = ["--disable-agent", "--disable", "controllers,scheduler,hosting,iam", "--authentication-config", file.to_str().unwrap()];
    let server = Server::start(ServerOptions { arguments: arguments.map(Into::into).into(), ..ServerOptions::default() });
    let api = server.api();
    let red = |more: Value| {
        let mut claims = json!({"tenant": "red", "jti": "7"});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let code = |token: &str| api.bearer(token).get("/api").code;

    let eve = first.token(&red(json!({"roles": ["dev"]})));
    let want = json!({
        "username": "oidc:eve", "uid": "7", "groups": ["oidc:dev", "system:authenticated"], "extra": {"example.org/mail": ["eve@example.com"]},
    });
    assert_eq!(whoami(&api.bearer(&eve)), want);
    // It is a user like any other: RBAC has the word.
    assert_eq!(api.bearer(&eve).get("/api/v1/pods").refusal().0, 403);
    for (what, changes) in [
        ("another tenant's", json!({"tenant": "blue"})),
        ("an unverified address", json!({"email_verified": false})),
        ("somebody unwanted", json!({"sub": "banned"})),
        ("one for somebody else", json!({"aud": "elsewhere"})),
        ("an old one", json!({"exp": 1_700_000_000})),
        ("one of the future", json!({"nbf": 4_000_000_000_u64})),
        ("of another issuer", json!({"iss": "https://127.0.0.1:1"})),
    ] {
        assert_eq!(code(&first.token(&red(changes))), 401, "{what}");
    }
    assert_eq!(code(&first.token(&red(json!({"aud": ["x", "other"]})))), 200);
    assert_eq!(code(&second.token(&red(json!({"iss": first.issuer})))), 401, "signed by somebody else");
    let unverified =
        api.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": first.token(&red(json!({"email_verified": false})))}})).ok();
    let why = "oidc: error evaluating claim validation expression: validation expression 'claims.email_verified == true' failed: verify first";
    assert_eq!(unverified["status"]["error"], why);

    // Keys rotate: what the new one signs is taken, and nothing more that the old one did.
    let late = first.token(&red(json!({"jti": "late"})));
    first.rotate();
    let rotated = first.token(&red(json!({"jti": "rotated"})));
    wait_until("the new key is known", SOON, || code(&rotated) == 200);
    assert_eq!(code(&late), 401);

    // Nobody in particular is let in where the file says, and authorized like anybody.
    let nobody = api.anonymous();
    let codes = |paths: &[&str]| paths.iter().map(|path| nobody.get(path).code).collect::<Vec<_>>();
    assert_eq!(codes(&["/livez", "/version", "/api", "/readyz", "/livez/ping", "/apis"]), [200, 200, 403, 401, 401, 401]);

    // A file that is wrong changes nothing; one that is right takes the place of all that was said before.
    written(&file, &json!([{"issuer": {"url": "http://a"}}]), &anonymous);
    let reloads = |status: &str| metric(&api, &format!("apiserver_authentication_config_controller_automatic_reloads_total{{status=\"{status}\""));
    wait_until("the wrong file was looked at", SOON, || reloads("failure") >= 1.0);
    assert_eq!(code(&first.token(&red(json!({"jti": "still"})))), 200);
    let by_claim = json!({
        "issuer": {
            "url": second.issuer, "discoveryURL": format!("{}/elsewhere", second.issuer), "audiences": [CLIENT_ID], "certificateAuthority": second.authority_pem,
        },
        "claimMappings": {"username": {"claim": "email", "prefix": "mail:"}, "groups": {"claim": "team", "prefix": ""}},
    });
    written(&file, &json!([by_claim]), &json!({"enabled": false}));
    let ada = second.token(&json!({"team": "ops"}));
    wait_until("the new file is in force", SOON, || code(&ada) == 200);
    assert_eq!(whoami(&api.bearer(&ada)), json!({"username": "mail:ada@example.com", "groups": ["ops", "system:authenticated"]}));
    assert_eq!(code(&first.token(&red(json!({"jti": "gone"})))), 401);
    assert_eq!(codes(&["/livez", "/version"]), [401, 401]);
    assert_eq!(code(&second.token(&json!({"email_verified": false}))), 401);
    assert_eq!(reloads("success"), 1.0);
    assert_eq!(metric(&api, "apiserver_authentication_config_controller_last_config_info{"), 1.0);
    let latency = "apiserver_authentication_jwt_authenticator_latency_seconds_count";
    assert!(metric(&api, &format!("{latency}{{result=\"success\"")) >= 4.0 && metric(&api, &format!("{latency}{{result=\"failure\"")) >= 8.0);
}

#[test]
fn a_server_does_not_start_with_a_file_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.yaml");
    std::fs::write(&file, "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{issuer: {url: 'https://a'}}]\n").unwrap();
    let data = directory.path().join("data");
    let port = testkit::free_port();
    let output = Command::new(testkit::binary())
        .args(["server", "--disable-agent", "--https-listen-port", &port.to_string(), "--data-dir"])
        .arg(&data)
        .args(["--authentication-config", file.to_str().unwrap(), "--write-kubeconfig"])
        .arg(directory.path().join("kubeconfig"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let want = "[jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required, jwt[0].claimMappings.username: Required value: claim or expression is required]";
    assert!(told.contains(want), "{told}");
}
