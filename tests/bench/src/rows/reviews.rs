//! TokenReviews by IAM's webhook standing alone, over mTLS: how many one core answers, and how long one takes.
use crate::api::{Api, directory};
use crate::figure::{Budget, Figure, percentile};
use crate::http1::{Http1, request};
use crate::process::{end, processor_time};
use anyhow::{Context, Result, bail, ensure};
use clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const RATE: f64 = 5_000.0;
const P99_MS: f64 = 5.0;
const CLIENTS: usize = 8;
const EACH: usize = 4_000;
/// Users, each with a token of their own, who take turns.
const USERS: usize = 64;
const IAM: &str = "/apis/iam.plasmacloud.io/v1";

/// The process, ended when dropped.
struct Webhook(Child);

impl Drop for Webhook {
    fn drop(&mut self) {
        if let Err(error) = end(&mut self.0) {
            eprintln!("the webhook could not be ended: {error}");
        }
    }
}

pub fn measure() -> Result<Vec<Figure>> {
    let directory = directory()?;
    super::runtime()?.block_on(async {
        let data = directory.path().join("data");
        let api = Api::start(&data).await?;
        let tokens = users(&api).await?;
        let port = testkit::free_port();
        let webhook = webhook(&data, port)?;
        let tls = api.tls(&[b"http/1.1"])?;
        let bodies: Vec<Vec<u8>> = tokens.iter().map(|token| request("POST", &format!("{IAM}/authenticate"), &review(token))).collect();
        let mut connections = Vec::new();
        let began = SystemClock.instant();
        while connections.len() < CLIENTS {
            match Http1::connect(port, &tls).await {
                Ok(connection) => connections.push(connection),
                Err(error) if SystemClock.instant() - began > Duration::from_secs(30) => return Err(error).context("reaching the webhook"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        let before = processor_time(webhook.0.id())?;
        let started = SystemClock.instant();
        let tasks: Vec<_> = connections.into_iter().map(|connection| tokio::spawn(ask(connection, bodies.clone()))).collect();
        let mut times = Vec::new();
        for task in tasks {
            times.extend(task.await??);
        }
        let took = (SystemClock.instant() - started).as_secs_f64();
        let used = (processor_time(webhook.0.id())? - before).as_secs_f64();
        let count = times.len() as f64;
        let (p50, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
        let detail = format!("{:.0}/s by {CLIENTS} connections, {:.0} us of processor each, {USERS} tokens", count / took, used / count * 1e6);
        Ok(vec![
            Figure::new("token reviews, of one core", count / used, "/s", Budget::AtLeast(RATE), detail),
            Figure::new("a token review, p99", p99, "ms", Budget::AtMost(P99_MS), format!("p50 {p50:.2} ms")),
        ])
    })
}

async fn users(api: &Api) -> Result<Vec<String>> {
    // A server is ready for Kubernetes before its IAM is.
    while api.get(&format!("{IAM}/jwks")).await?.is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let create = async |kind: &str, plural: &str, name: String, spec: Value| {
        let object = json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        api.create(&format!("{IAM}/{plural}"), &object).await
    };
    create("Organization", "organizations", "org-bench".into(), json!({"displayName": "bench"})).await?;
    create("Project", "projects", "proj-bench".into(), json!({"displayName": "bench", "organization": "org-bench"})).await?;
    let mut tokens = Vec::new();
    for user in 0..USERS {
        let id = format!("user-{user}");
        create("User", "users", id.clone(), json!({"email": format!("{user}@example.com"), "organization": "org-bench"})).await?;
        let membership = json!({"subject": id, "role": "project_member", "organization": "org-bench", "project": "proj-bench"});
        create("Membership", "memberships", format!("{id}.project-member.proj-bench"), membership).await?;
        let body = serde_json::to_vec(&json!({"subject": id, "project": "proj-bench"}))?;
        let answer = api.connect().await?.exchange(&request("POST", &format!("{IAM}/token"), &body)).await?;
        ensure!(answer.status == 200, "a token: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        let answer: Value = serde_json::from_slice(&answer.body)?;
        tokens.push(answer["token"].as_str().context("an answer without a token")?.to_owned());
    }
    Ok(tokens)
}

fn review(token: &str) -> Vec<u8> {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}).to_string().into_bytes()
}

fn webhook(data: &Path, port: u16) -> Result<Webhook> {
    let tls = data.join("server/tls");
    let log = File::options().create(true).append(true).open(data.with_extension("webhook.log"))?;
    let mut command = Command::new(testkit::binary());
    command.args(["iam-server", "--reviews-per-second", "1000000", "--listen"]).arg(format!("127.0.0.1:{port}"));
    command.arg("--kubeconfig").arg(data.with_extension("kubeconfig")).arg("--audit-log-path").arg(data.with_extension("decisions.log"));
    command.arg("--tls-cert-file").arg(tls.join("serving-kube-apiserver.crt")).arg("--tls-private-key-file").arg(tls.join("serving-kube-apiserver.key"));
    command.arg("--client-ca-file").arg(tls.join("client-ca.crt"));
    Ok(Webhook(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("starting the webhook")?))
}

async fn ask(mut connection: Http1, bodies: Vec<Vec<u8>>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for body in bodies.iter().cycle().take(EACH) {
        let began = SystemClock.instant();
        let answer = connection.exchange(body).await?;
        times.push((SystemClock.instant() - began).as_secs_f64() * 1000.0);
        if answer.status != 200 || !is_yes(&answer.body) {
            bail!("a review: {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
    }
    Ok(times)
}

fn is_yes(body: &[u8]) -> bool {
    const YES: &[u8] = b"\"authenticated\":true";
    body.windows(YES.len()).any(|window| window == YES)
}
