//! HTTPS to a backend through FiberLB, against nginx with the same certificate, backend and number of workers.
use crate::balancer::Balancer;
use crate::figure::{Budget, Figure, percentile};
use crate::http1::{Http1, request};
use anyhow::{Context, Result, ensure};
use clock::{Clock, SystemClock};
use pki::{CertificateAuthority, LeafRequest};
use rustls::ClientConfig;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const BODY: &str = "What a backend answers: a page of some hundred bytes, so that the proxy and not the copying is measured. ";

/// nginx, proxying and as the backend of both.
struct Nginx {
    child: Child,
    port: u16,
    backend: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Err(error) = crate::process::end(&mut self.child) {
            eprintln!("nginx could not be ended: {error}");
        }
    }
}

impl Nginx {
    fn start(directory: &Path) -> Result<Self> {
        let free = || -> Result<u16> { Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()) };
        let (port, backend) = (free()?, free()?);
        let place = directory.display();
        let page = BODY.repeat(5);
        let text = format!(
            r#"
worker_processes 2; daemon off; pid {place}/nginx.pid; error_log {place}/error.log; user root;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {place}/t1; proxy_temp_path {place}/t2; fastcgi_temp_path {place}/t3; uwsgi_temp_path {place}/t4; scgi_temp_path {place}/t5;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 64; }}
  server {{ listen 127.0.0.1:{backend}; location / {{ return 200 "{page}"; }} }}
  server {{
    listen 127.0.0.1:{port} ssl; server_name localhost;
    ssl_certificate {place}/tls.crt; ssl_certificate_key {place}/tls.key;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Port $server_port;
    }}
  }}
}}
"#
        );
        let file = directory.join("nginx.conf");
        std::fs::write(&file, text)?;
        let child = Command::new("nginx").arg("-c").arg(&file).stdin(Stdio::null()).spawn().context("nginx is installed (xtask/install.sh)")?;
        let nginx = Self { child, port, backend };
        for _ in 0..100 {
            if std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(nginx);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        anyhow::bail!("nginx does not listen: {}", std::fs::read_to_string(directory.join("error.log")).unwrap_or_default())
    }
}

pub fn measure() -> Result<Vec<Figure>> {
    let directory = crate::api::directory()?;
    let authority = CertificateAuthority::generate("bench", &SystemClock)?;
    let leaf = LeafRequest {
        common_name: "localhost".into(),
        organizations: Vec::new(),
        dns_names: vec!["localhost".into()],
        ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        server: true,
        client: false,
        validity: Duration::from_secs(3600),
    };
    let issued = authority.issue(&leaf, &SystemClock)?;
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    std::fs::write(&certificate, &issued.certificate_pem)?;
    std::fs::write(&key, &issued.key_pem)?;
    let tls = Arc::new(pki::client_config(authority.certificate_pem(), None)?);
    let nginx = Nginx::start(directory.path())?;
    let balancer = Balancer::start(&certificate, &key, nginx.backend)?;
    super::runtime()?.block_on(async {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let before = balancer.processor_time()?;
        // They take turns, so that a slow moment of the machine hits both.
        for _ in 0..ROUNDS {
            theirs.extend(round(nginx.port, &tls).await?);
            ours.extend(round(balancer.port, &tls).await?);
        }
        let processor = (balancer.processor_time()? - before).as_secs_f64() / ours.len() as f64 * 1e6;
        let rate = |all: &[f64]| all.len() as f64 / (ROUND * ROUNDS as u32).as_secs_f64();
        let detail = format!("{:.0}/s against {:.0}/s, {CONNECTIONS} connections; our processor time {processor:.0} us each", rate(&ours), rate(&theirs));
        let requests = Figure::new("HTTPS requests through FiberLB, of nginx", rate(&ours) / rate(&theirs), "x", Budget::AtLeast(1.0), detail);
        let (ours, theirs) = (percentile(&mut ours, 0.99), percentile(&mut theirs, 0.99));
        let detail = format!("{ours:.2} ms against {theirs:.2} ms");
        Ok(vec![requests, Figure::new("their p99, of nginx", ours / theirs, "x", Budget::AtMost(1.0), detail)])
    })
}

/// How long each answer took, in milliseconds.
async fn round(port: u16, tls: &Arc<ClientConfig>) -> Result<Vec<f64>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Http1::connect(port, tls).await?);
    }
    let end = SystemClock.instant() + ROUND;
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            tokio::spawn(async move {
                let (request, mut took) = (request("GET", "/page", b""), Vec::new());
                loop {
                    let started = SystemClock.instant();
                    if started >= end {
                        return Ok::<_, anyhow::Error>(took);
                    }
                    let answer = connection.drain(&request).await?;
                    ensure!(answer.status == 200 && answer.body_bytes == BODY.len() * 5, "an answer of {} with {} bytes", answer.status, answer.body_bytes);
                    took.push((SystemClock.instant() - started).as_secs_f64() * 1e3);
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await??);
    }
    Ok(all)
}
