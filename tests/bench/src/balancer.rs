//! The balancer: FiberLB's engine in a process of its own, HTTPS in front of one backend. What nginx is compared with.
use anyhow::{Context, Result, ensure};
use clock::SystemClock;
use fiberlb::{Algorithm, BackendProtocol, Certificates, Configuration, Engine, Listener, Member, PathMatch, Pool, Route, RouteTable, certified_key};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

pub struct Balancer {
    child: Child,
    pub port: u16,
}

impl Balancer {
    /// Starts it with this certificate and key, in front of a backend on this port.
    pub fn start(certificate: &Path, key: &Path, backend: u16) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve-balancer").arg("--certificate").arg(certificate).arg("--key").arg(key).arg("--backend").arg(backend.to_string());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        let port = line.trim().parse().context("the balancer did not say its port")?;
        Ok(Self { child, port })
    }

    pub fn processor_time(&self) -> Result<Duration> {
        crate::process::processor_time(self.child.id())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Err(error) = crate::process::end(&mut self.child) {
            eprintln!("the balancer could not be ended: {error}");
        }
    }
}

/// Serves until it is ended. Prints its port first.
pub fn main(certificate: &Path, key: &Path, backend: u16) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {path:?}"));
    let certificate = certified_key(&read(certificate)?, &read(key)?, &pki::provider())?;
    // Two workers, as nginx has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let members = vec![Member { at: SocketAddrV4::new(Ipv4Addr::LOCALHOST, backend), weight: 1 }];
        let (algorithm, protocol, timeout) = (Algorithm::RoundRobin, BackendProtocol::Http1, Duration::from_secs(10));
        let pool = Pool { algorithm, members, health_check: None, protocol, tls: None, proxy_protocol: None, mark: 0, timeout };
        let mut routes = RouteTable::default();
        routes.add("localhost", Route { path: PathMatch::Prefix("/".into()), pool: "backend".into(), limit: None });
        let certificates = Arc::new(Certificates { only: Some(Arc::new(certificate)), ..Certificates::default() });
        let mut configuration = Configuration::default();
        configuration.pools.insert("backend".into(), Arc::new(pool));
        configuration.listeners.insert(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), Listener::Https { routes: Arc::new(routes), certificates });
        let mut engine = Engine::new(Arc::new(SystemClock));
        let errors = engine.apply(&configuration).await;
        ensure!(errors.is_empty(), "{errors:?}");
        println!("{port}");
        std::future::pending::<()>().await;
        Ok(())
    })
}
