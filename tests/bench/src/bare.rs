//! The bare server: hyper over rustls, one body for every request. What others are compared with.
use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A bare server in a process of its own, with the certificates of a control plane.
pub struct Bare {
    child: Child,
    pub port: u16,
}

impl Bare {
    /// Starts it; it answers everything with `body`.
    pub fn start(tls_directory: &Path, body: &Path) -> Result<Self> {
        let file = |name: &str| tls_directory.join(name);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve-bare").arg("--certificate").arg(file("serving-kube-apiserver.crt")).arg("--key").arg(file("serving-kube-apiserver.key"));
        command.arg("--client-ca").arg(file("client-ca.crt")).arg("--body").arg(body);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        let port = line.trim().parse().context("the bare server did not say its port")?;
        Ok(Self { child, port })
    }

    pub fn processor_time(&self) -> Result<std::time::Duration> {
        crate::process::processor_time(self.child.id())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        if let Err(error) = crate::process::end(&mut self.child) {
            eprintln!("the bare server could not be ended: {error}");
        }
    }
}

/// Serves until it is ended. Prints its port first.
pub fn main(certificate: &Path, key: &Path, client_ca: &Path, body: &Path) -> Result<()> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("reading {path:?}"));
    let tls = pki::server_config(&read(certificate)?, &read(key)?, &[&read(client_ca)?], &[b"http/1.1"])?;
    let body = Bytes::from(std::fs::read(body)?);
    let workers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    runtime.block_on(serve(TlsAcceptor::from(Arc::new(tls)), body))
}

async fn serve(acceptor: TlsAcceptor, body: Bytes) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, body) = (acceptor.clone(), body.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |_| {
                let mut answer = hyper::Response::new(Full::new(body.clone()));
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that goes away is how every connection here ends.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
