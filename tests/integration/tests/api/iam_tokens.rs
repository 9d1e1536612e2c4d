//! Bad tokens of every make are refused, and all alike: by the API, by the webhook inside and by the one that stands alone.
use crate::iam::{IAM, alone, iam, server};
use crate::support::SOON;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clock::{Clock, SystemClock};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pki::SigningKey;
use serde_json::{Value, json};
use testkit::{Api, Reply, Server, wait_until};

const ISSUER: &str = "https://iam.plasmacloud.io";

fn base64url(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The key that this server signs with, as only its administrator can have it.
fn signing_key(api: &Api) -> SigningKey {
    let secret = api.get("/api/v1/namespaces/iam-system/secrets/signing-keys").ok();
    let stored = STANDARD.decode(secret["data"]["keys.json"].as_str().unwrap()).unwrap();
    let keys: Value = serde_json::from_slice(&stored).unwrap();
    SigningKey::from_pem(keys["keys"][0]["pem"].as_str().unwrap()).unwrap()
}

fn signed(key: &SigningKey, header: Header, claims: &Value) -> String {
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_pem(key.pem().as_bytes()).unwrap()).unwrap()
}

fn header(key: &SigningKey) -> Header {
    Header { kid: Some(key.key_id()), ..Header::new(Algorithm::ES256) }
}

/// What a good token of Eve's says, with changes; null takes a claim away.
fn claims(changes: Value) -> Value {
    let now = SystemClock.now().as_second();
    let mut claims = json!({
        "iss": ISSUER, "sub": "user-eve", "aud": ["k8shost"], "exp": now + 600, "nbf": now - 5, "iat": now - 5, "jti": "made-by-hand",
        "email": "eve@example.com", "org_id": "org-a", "project_id": "proj-a", "roles": ["project_member"],
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn organizations(server: &Server) {
    for (org, project, user) in [("org-a", "proj-a", "eve"), ("org-b", "proj-b", "bob")] {
        iam(server, &format!("org create {org} --id {org}"));
        iam(server, &format!("project create web-{org} --org {org} --id {project}"));
        iam(server, &format!("user create {user}@example.com --org {org} --id user-{user}"));
        iam(server, &format!("role grant project_member --user {user}@example.com --project {project}"));
    }
    iam(server, "user create gone@example.com --org org-a --id user-gone");
    iam(server, "user delete gone@example.com");
    iam(server, "user create off@example.com --org org-a --id user-off");
    iam(server, "user disable off@example.com");
}

/// Tokens that nobody may get anywhere with, and what is wrong with each.
fn bad_tokens(server: &Server, api: &Api) -> Vec<(&'static str, String)> {
    let now = SystemClock.now().as_second();
    let (key, foreign) = (signing_key(api), SigningKey::generate().unwrap());
    let good = signed(&key, header(&key), &claims(json!({})));
    let parts: Vec<&str> = good.split('.').collect();
    let says = |changes: Value| signed(&key, header(&key), &claims(changes));
    let forged = |header: Value, secret: Option<&[u8]>| {
        let text = format!("{}.{}", base64url(&header), parts[1]);
        match secret {
            None => format!("{text}."),
            Some(secret) => jsonwebtoken::encode(
                &Header { kid: header["kid"].as_str().map(str::to_owned), ..Header::new(Algorithm::HS256) },
                &claims(json!({})),
                &EncodingKey::from_secret(secret),
            )
            .unwrap(),
        }
    };
    let (x, y) = foreign.coordinates();
    let jwk: Value = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
    let brings_its_key = Header { jwk: Some(serde_json::from_value(jwk).unwrap()), ..header(&foreign) };
    let points_elsewhere = Header { jku: Some("https://evil.example.com/jwks".into()), ..header(&foreign) };
    let revoked: Value = serde_json::from_str(&iam(server, "token create eve@example.com --json")).unwrap();
    iam(server, &format!("token revoke {}", revoked["id"].as_str().unwrap()));
    let mut flipped = parts[2].to_owned().into_bytes();
    flipped[10] = if flipped[10] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    vec![
        ("expired", says(json!({"exp": now - 60}))),
        ("expired long ago", says(json!({"exp": 1_672_531_200}))),
        ("never ends by saying nothing", says(json!({"exp": null}))),
        ("not valid yet", says(json!({"nbf": now + 600, "iat": now + 600}))),
        ("for another audience", iam(server, "token create eve@example.com --audience vault")),
        ("for another audience, by hand", says(json!({"aud": "vault"}))),
        ("of another issuer", says(json!({"iss": "https://evil.example.com"}))),
        ("revoked, shown again", revoked["token"].as_str().unwrap().to_owned()),
        ("of another organisation than its user", says(json!({"org_id": "org-b"}))),
        ("for a project of another organisation", says(json!({"project_id": "proj-b"}))),
        ("for a project there is none of", says(json!({"project_id": "proj-none"}))),
        ("of an organisation there is none of", says(json!({"org_id": "org-none"}))),
        ("of a user there is none of", says(json!({"sub": "user-none"}))),
        ("of a deleted user", says(json!({"sub": "user-gone"}))),
        ("of a disabled user", says(json!({"sub": "user-off", "project_id": ""}))),
        ("of a service account there is none of", says(json!({"sub": "sa-none@proj-a"}))),
        ("of nobody", says(json!({"sub": null}))),
        ("signed by another key", signed(&foreign, header(&foreign), &claims(json!({})))),
        ("signed by another key under this one's id", signed(&foreign, header(&key), &claims(json!({})))),
        ("bringing the key that signed it", signed(&foreign, brings_its_key, &claims(json!({})))),
        ("naming where its key is", signed(&foreign, points_elsewhere, &claims(json!({})))),
        ("without a key's id", signed(&key, Header::new(Algorithm::ES256), &claims(json!({})))),
        ("of alg none", forged(json!({"alg": "none"}), None)),
        ("of alg none with a key's id", forged(json!({"alg": "none", "typ": "JWT", "kid": key.key_id()}), None)),
        ("of alg NoNe", forged(json!({"alg": "NoNe", "kid": key.key_id()}), None)),
        ("of a secret that is the public key", forged(json!({"alg": "HS256", "kid": key.key_id()}), Some(key.public_pem().as_bytes()))),
        ("of an empty secret", forged(json!({"alg": "HS256"}), Some(b""))),
        ("tampered with in what it says", format!("{}.{}.{}", parts[0], base64url(&claims(json!({"roles": ["org_admin"]}))), parts[2])),
        ("tampered with in its header", format!("{}.{}.{}", base64url(&json!({"alg": "ES256", "kid": key.key_id(), "x": 1})), parts[1], parts[2])),
        ("tampered with in its signature", format!("{}.{}.{flipped}", parts[0], parts[1])),
        ("without its signature", format!("{}.{}.", parts[0], parts[1])),
        ("signed with zeros", format!("{}.{}.{}", parts[0], parts[1], "A".repeat(86))),
        ("in two parts", format!("{}.{}", parts[0], parts[1])),
        ("in four parts", format!("{good}.{}", parts[2])),
        ("of another token's signature", format!("{}.{}.{}", parts[0], parts[1], says(json!({"jti": "other"})).rsplit('.').next().unwrap())),
        ("that is no token", "garbage".to_owned()),
        ("that is too long", "e".repeat(12_000)),
    ]
}

/// Everything of an answer that its reader could tell from another, but for when and for which request it was made.
fn told(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let mut headers = reply.headers.clone();
    headers.retain(|(name, _)| !["date", "audit-id"].contains(&name.as_str()));
    (reply.code, headers, reply.text())
}

#[test]
fn bad_tokens_are_refused_alike_everywhere() {
    let server = server();
    let api = server.api();
    organizations(&server);
    let key = signing_key(&api);
    let good = signed(&key, header(&key), &claims(json!({})));
    let pods = "/api/v1/namespaces/project-a/pods";
    wait_until("a good one is let in", SOON, || api.bearer(&good).get(pods).code == 200);
    let (_running, webhook) = alone(&server, "");
    let review = |token: &str| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let path = format!("{IAM}/authenticate");
    wait_until("the webhook knows what the server knows", SOON, || webhook.post(&path, &review(&good)).ok()["status"]["authenticated"] == true);
    let refusal =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": {"authenticated": false, "error": "Invalid or expired token"}});
    let bad = bad_tokens(&server, &api);
    wait_until("what was taken back is known there too", SOON, || {
        bad.iter()
            .filter(|(what, _)| what.starts_with("re") || what.starts_with("of a d"))
            .all(|(_, token)| webhook.post(&path, &review(token)).json() == refusal)
    });
    let first: Vec<_> = {
        let token = &bad[0].1;
        [
            api.bearer(token).get(pods),
            api.bearer(token).get("/api/v1/namespaces/project-none/pods"),
            api.post(&path, &review(token)),
            webhook.post(&path, &review(token)),
        ]
        .iter()
        .map(told)
        .collect()
    };
    assert_eq!(first[0].0, 401);
    assert_eq!(serde_json::from_str::<Value>(&first[0].2).unwrap()["message"], "Unauthorized");
    for (what, token) in &bad {
        let told: Vec<_> = [
            api.bearer(token).get(pods),
            api.bearer(token).get("/api/v1/namespaces/project-none/pods"),
            api.post(&path, &review(token)),
            webhook.post(&path, &review(token)),
        ]
        .iter()
        .map(told)
        .collect();
        assert_eq!(told, first, "a token {what}");
        assert_eq!(serde_json::from_str::<Value>(&told[3].2).unwrap(), refusal, "a token {what}");
        // Also who speaks in another's cluster, or asks IAM itself.
        assert_eq!(api.bearer(token).post(&format!("{IAM}/token"), &json!({})).code, 401, "a token {what}");
    }
    assert_eq!(api.bearer(&good).get(pods).code, 200, "a good one is still good");
    // A namespace there is none of looks to a stranger as one there is.
    let stranger = api.bearer(&iam(&server, "token create bob@example.com"));
    let answer = |namespace: &str| {
        let reply = stranger.get(&format!("/api/v1/namespaces/{namespace}/pods"));
        (reply.code, reply.text().replace(namespace, "NS"))
    };
    assert_eq!(answer("project-a"), answer("project-none"));
    let object = |id: &str| {
        let reply = stranger.get(&format!("{IAM}/projects/{id}"));
        (reply.code, reply.text().replace(id, "ID"))
    };
    assert_eq!(object("proj-a"), object("proj-none"));
}

#[test]
fn logins_tell_a_guesser_nothing() {
    let server = server();
    let (k8shost, tool) = (testkit::binary().display().to_string(), server.tool());
    iam(&server, "org create Acme --id org-a");
    for (email, id) in [("eve@example.com", "user-eve"), ("off@example.com", "user-off")] {
        tool.sh(&format!("printf 'correct horse battery\\n' | {k8shost} iam user create {email} --org org-a --id {id} --password-stdin")).ok();
    }
    iam(&server, "user create bare@example.com --org org-a");
    iam(&server, "user disable off@example.com");
    let nobody = server.api().anonymous();
    let login = |email: &str, password: &str| told(&nobody.post(&format!("{IAM}/login"), &json!({"email": email, "password": password})));
    let wrong = login("eve@example.com", "wrong");
    assert_eq!(wrong.0, 401);
    for (email, password) in [
        ("nobody@example.com", "wrong"),
        ("bare@example.com", "wrong"),
        ("bare@example.com", ""),
        ("off@example.com", "wrong"),
        ("off@example.com", "correct horse battery"),
        ("eve@example.com", ""),
        ("", ""),
    ] {
        assert_eq!(login(email, password), wrong, "{email} {password}");
    }
    let right = nobody.post(&format!("{IAM}/login"), &json!({"email": "eve@example.com", "password": "correct horse battery"})).ok();
    // Keys: one that was never made, one whose proof is wrong, one that is none.
    let key = right["key"].as_str().unwrap();
    let (id, _) = key.rsplit_once('_').unwrap();
    let exchange = |key: &str| told(&nobody.post(&format!("{IAM}/exchange"), &json!({ "key": key })));
    let none = exchange("k8i_bcdfghjklmnpqrst_AAAA");
    assert_eq!(none.0, 401);
    for bad in ["", "garbage", "k8i_", &format!("{id}_AAAA"), key] {
        assert_eq!(exchange(bad), none, "{bad}: a wrong proof ends the login");
    }
}
