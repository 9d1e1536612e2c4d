//! A hundred full projects: what a member's answers cost beside them, of what they cost with one project alone.
use crate::api::{Api, directory};
use crate::figure::{Budget, Figure, percentile};
use crate::http1::{Http1, request};
use anyhow::{Context, Result, ensure};
use clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::time::Duration;

const PROJECTS: usize = 100;
const OBJECTS: usize = 50;
const ASKED: usize = 3_000;
const CREATED: usize = 200;
/// What is answered for one project may not grow dearer by much with the other ninety-nine.
const SHARE: f64 = 0.7;
const IAM: &str = "/apis/iam.plasmacloud.io/v1";

/// Processor time of the server for each answer, in microseconds, and the slowest hundredth in milliseconds.
struct Cost {
    processor: f64,
    p99: f64,
}

pub fn measure() -> Result<Vec<Figure>> {
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let api = Api::start(&directory.path().join("data")).await?;
        while api.get(&format!("{IAM}/jwks")).await?.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        create(&api, "Organization", "organizations", "org-bench", json!({"displayName": "bench"})).await?;
        let token = project(&api, 0).await?;
        let path = "/api/v1/namespaces/project-0/configmaps";
        let get = with_token("GET", &format!("{path}/c1"), &token, b"");
        let list = with_token("GET", path, &token, b"");
        let alone = [asked(&api, &get).await?, asked(&api, &list).await?, written(&api, &token).await?];
        for at in 1..PROJECTS {
            project(&api, at).await?;
        }
        let beside = [asked(&api, &get).await?, asked(&api, &list).await?, written(&api, &token).await?];
        let names = ["GET by a member", "LIST of a project's 50 by a member", "create under three quotas"];
        Ok(names
            .iter()
            .zip(alone.iter().zip(&beside))
            .map(|(name, (alone, beside))| {
                let detail = format!(
                    "{:.0} us of processor each, {:.0} with one project; p99 {:.2} ms, {:.2} ms",
                    beside.processor, alone.processor, beside.p99, alone.p99
                );
                Figure::new(format!("{name}, {PROJECTS} full projects, of one"), alone.processor / beside.processor, "x", Budget::AtLeast(SHARE), detail)
            })
            .collect())
    })
}

async fn create(api: &Api, kind: &str, plural: &str, name: &str, spec: Value) -> Result<()> {
    let object = json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    api.create(&format!("{IAM}/{plural}"), &object).await
}

/// A project with a member and as many objects as its quota allows; gives the member's token.
async fn project(api: &Api, at: usize) -> Result<String> {
    let (project, user, namespace) = (format!("proj-{at}"), format!("user-{at}"), format!("project-{at}"));
    create(api, "Project", "projects", &project, json!({"displayName": project, "organization": "org-bench"})).await?;
    create(api, "User", "users", &user, json!({"email": format!("{at}@example.com"), "organization": "org-bench"})).await?;
    let membership = json!({"subject": user, "role": "project_member", "organization": "org-bench", "project": project});
    create(api, "Membership", "memberships", &format!("m-{at}"), membership).await?;
    let mut connection = api.connect().await?;
    let answer = connection.exchange(&request("POST", &format!("{IAM}/token"), &serde_json::to_vec(&json!({ "subject": user }))?)).await?;
    let answer: Value = serde_json::from_slice(&answer.body)?;
    let token = answer["token"].as_str().context("an answer without a token")?.to_owned();
    let began = SystemClock.instant();
    loop {
        // The quota has counted the root's certificate, which is one of the fifty.
        let quota = api.get(&format!("/api/v1/namespaces/{namespace}/resourcequotas/project-object-quota")).await?;
        let bound = api.get(&format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/project-admin-binding")).await?;
        if quota.is_some_and(|quota| quota["status"]["used"]["configmaps"] == "1") && bound.is_some() {
            break;
        }
        ensure!(SystemClock.instant() - began < Duration::from_secs(60), "project {project:?} was not furnished");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut connection = Http1::connect(api.server.port, &anonymous(api)?).await?;
    for number in 1..OBJECTS {
        let body = serde_json::to_vec(&json!({"metadata": {"name": format!("c{number}")}, "data": {"text": "a line of some length, as settings have it"}}))?;
        let answer = connection.exchange(&with_token("POST", &format!("/api/v1/namespaces/{namespace}/configmaps"), &token, &body)).await?;
        ensure!(answer.status == 201, "creating in {namespace}: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(token)
}

fn with_token(method: &str, path: &str, token: &str, body: &[u8]) -> Vec<u8> {
    let plain = request(method, path, body);
    let end = plain.windows(2).position(|pair| pair == b"\r\n").map_or(plain.len(), |at| at + 2);
    let mut whole = plain[..end].to_vec();
    whole.extend_from_slice(format!("authorization: Bearer {token}\r\n").as_bytes());
    whole.extend_from_slice(&plain[end..]);
    whole
}

async fn asked(api: &Api, ask: &[u8]) -> Result<Cost> {
    // Whoever shows no certificate is known by the token.
    let mut connection = Http1::connect(api.server.port, &anonymous(api)?).await?;
    let mut times = Vec::new();
    let before = api.server.processor_time()?;
    for _ in 0..ASKED {
        let began = SystemClock.instant();
        let answer = connection.drain(ask).await?;
        times.push((SystemClock.instant() - began).as_secs_f64() * 1000.0);
        ensure!(answer.status == 200, "{}", answer.status);
    }
    let used = (api.server.processor_time()? - before).as_secs_f64();
    Ok(Cost { processor: used / ASKED as f64 * 1e6, p99: percentile(&mut times, 0.99) })
}

/// Secrets made and deleted again, one after the other.
async fn written(api: &Api, token: &str) -> Result<Cost> {
    let path = "/api/v1/namespaces/project-0/secrets";
    let make = with_token("POST", path, token, &serde_json::to_vec(&json!({"metadata": {"name": "s"}}))?);
    let delete = with_token("DELETE", &format!("{path}/s"), token, b"");
    let mut connection = Http1::connect(api.server.port, &anonymous(api)?).await?;
    let mut times = Vec::new();
    let before = api.server.processor_time()?;
    for _ in 0..CREATED {
        let began = SystemClock.instant();
        let answer = connection.exchange(&make).await?;
        times.push((SystemClock.instant() - began).as_secs_f64() * 1000.0);
        ensure!(answer.status == 201, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        ensure!(connection.drain(&delete).await?.status == 200, "a Secret can be deleted");
    }
    let used = (api.server.processor_time()? - before).as_secs_f64();
    Ok(Cost { processor: used / CREATED as f64 * 1e6, p99: percentile(&mut times, 0.99) })
}

fn anonymous(api: &Api) -> Result<std::sync::Arc<rustls::ClientConfig>> {
    let authority = std::fs::read_to_string(api.server.tls_directory().join("server-ca.crt"))?;
    let mut tls = pki::client_config(&authority, None)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(std::sync::Arc::new(tls))
}
