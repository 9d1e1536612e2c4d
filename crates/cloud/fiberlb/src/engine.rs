//! Engine: serves a configuration, and goes over to the next one without dropping what is under way.
use crate::backends::Backends;
use crate::health;
use crate::http_service::{HttpService, Pools};
use crate::listening::{Listening, Serving};
use crate::tcp_service::TcpService;
use crate::tls::{self, Resolver};
use crate::tls_service::TlsService;
use crate::workers::Workers;
use crate::{Configuration, Error, Listener, PoolId};
use clock::Clock;
use parking_lot::RwLock;
use rustls::sign::CertifiedKey;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddrV4;
use std::sync::{Arc, OnceLock};
use tokio::task::JoinHandle;

/// A pool that is served, and its health checks.
struct RunningPool {
    backends: Arc<Backends>,
    checks: Option<JoinHandle<()>>,
}

impl Drop for RunningPool {
    fn drop(&mut self) {
        if let Some(checks) = &self.checks {
            checks.abort();
        }
    }
}

/// The pools by id, shared with whoever serves a request.
#[derive(Default)]
pub(crate) struct PoolTable(RwLock<HashMap<PoolId, RunningPool>>);

impl Pools for PoolTable {
    fn backends(&self, pool: &str) -> Option<Arc<Backends>> {
        self.0.read().get(pool).map(|running| running.backends.clone())
    }
}

/// Listeners, pools and health checks at work. Must be used inside a tokio runtime.
pub struct Engine {
    clock: Arc<dyn Clock>,
    pools: Arc<PoolTable>,
    listeners: BTreeMap<SocketAddrV4, (Listener, Listening)>,
    fallback: OnceLock<Arc<CertifiedKey>>,
    /// Started for the first listener that needs them.
    workers: OnceLock<Arc<Workers>>,
}

impl Engine {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, pools: Arc::default(), listeners: BTreeMap::new(), fallback: OnceLock::new(), workers: OnceLock::new() }
    }

    /// Serves this from now on. Listeners that stay are not closed, and connections of those that go may end what they
    /// have begun. What could not be listened on is told, and tried again with the next call.
    pub async fn apply(&mut self, configuration: &Configuration) -> Vec<Error> {
        // Pools first, so that no route leads nowhere; those that are gone last.
        for (id, pool) in &configuration.pools {
            let mut pools = self.pools.0.write();
            let running = pools.entry(id.clone()).or_insert_with(|| RunningPool { backends: Arc::new(Backends::new(pool.clone())), checks: None });
            let before = running.backends.pool();
            if *before != **pool {
                running.backends.update(pool.clone());
            }
            // A check that goes on reads its settings anew in each round.
            let is_checked = running.checks.as_ref().is_some_and(|checks| !checks.is_finished());
            if pool.health_check.is_some() && (!is_checked || before.health_check != pool.health_check) {
                if let Some(checks) = running.checks.take() {
                    checks.abort();
                }
                running.checks = Some(tokio::spawn(health::check(running.backends.clone())));
            }
        }
        self.listeners.retain(|address, _| configuration.listeners.contains_key(address));
        let mut errors = Vec::new();
        for (address, listener) in &configuration.listeners {
            if let Err(error) = self.listen(*address, listener).await {
                errors.push(error);
            }
        }
        self.pools.0.write().retain(|id, _| configuration.pools.contains_key(id));
        errors
    }

    async fn listen(&mut self, address: SocketAddrV4, listener: &Listener) -> Result<(), Error> {
        if let Some((known, listening)) = self.listeners.get_mut(&address) {
            if known == listener {
                return Ok(());
            }
            if listening.change(listener) {
                *known = listener.clone();
                return Ok(());
            }
            // Another kind of listener.
            self.listeners.remove(&address);
        }
        let serving = match listener {
            Listener::Tcp { pool, sources } => Serving::Tcp(Arc::new(TcpService::new(pool.clone(), sources.clone(), self.pools.clone()))),
            Listener::Tls { routes } => Serving::Tls(Arc::new(TlsService::new(routes.clone(), self.pools.clone()))),
            Listener::Http { routes } => self.http(HttpService::new(routes.clone(), self.pools.clone(), self.clock.clone(), None))?,
            Listener::Https { routes, certificates } => {
                let resolver = Resolver::new(certificates.clone(), self.fallback()?);
                let config = tls::server_config(resolver.clone())?;
                self.http(HttpService::new(routes.clone(), self.pools.clone(), self.clock.clone(), Some((resolver, config))))?
            }
        };
        self.listeners.insert(address, (listener.clone(), Listening::start(address, serving).await?));
        Ok(())
    }

    fn http(&self, service: HttpService) -> Result<Serving, Error> {
        if self.workers.get().is_none() {
            let started = Workers::start().map_err(Error::Workers)?;
            self.workers.get_or_init(|| Arc::new(started));
        }
        Ok(Serving::Http(Arc::new(service), self.workers.get().expect("they were just started").clone()))
    }

    fn fallback(&self) -> Result<Arc<CertifiedKey>, Error> {
        if let Some(fallback) = self.fallback.get() {
            return Ok(fallback.clone());
        }
        let made = tls::fallback(&*self.clock)?;
        Ok(self.fallback.get_or_init(|| made).clone())
    }

    /// Takes no more connections, and lets those under way end, for a while.
    pub async fn stop(self) {
        futures::future::join_all(self.listeners.into_values().map(|(_, listening)| listening.stop())).await;
    }
}
