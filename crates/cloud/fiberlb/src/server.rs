//! The gRPC API: who may do what, records kept on disk before an answer, and an engine that follows them.
use crate::engine::Engine;
use crate::node_network::{Doors, NodeNetwork, teardown};
use crate::proto::load_balancer_service_server::{LoadBalancerService, LoadBalancerServiceServer};
use crate::proto::{
    CreateListenerRequest, CreateLoadBalancerRequest, DeleteListenerRequest, DeleteLoadBalancerRequest, DeletePoolRequest, Empty, GetLoadBalancerRequest,
    HealthCheck, ListLoadBalancersRequest, ListLoadBalancersResponse, Listener, LoadBalancer, Passthrough, Pool, PoolMember, UpdateLoadBalancerRequest,
    UpdatePoolRequest,
};
use crate::records::{CheckRecord, ListenerProtocol, ListenerRecord, LoadBalancerWish, PoolRecord, Records, TlsRecord};
use crate::{Error, NodeSettings, ProxyProtocol};
use clock::Clock;
use cloud_api::{Caller, Ownership, TokenVerifier};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// What FiberLB alone runs with.
pub struct ServiceSettings {
    /// Where records are kept.
    pub data_dir: PathBuf,
    /// Pool, table and device. The node's name is not used.
    pub node: NodeSettings,
}

/// The service behind the API. Cheap to clone.
#[derive(Clone)]
pub struct LoadBalancers {
    shared: Arc<Shared>,
}

struct Shared {
    file: PathBuf,
    settings: NodeSettings,
    /// INVARIANT: what is in here is on disk.
    records: Mutex<Records>,
    /// The version that is to be served.
    latest: watch::Sender<Arc<Records>>,
}

/// Serves the API and what was asked for by it until `stop`. A call without a good token is `UNAUTHENTICATED`; what
/// belongs to others is not found.
pub async fn serve(
    settings: ServiceSettings,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    verifier: Arc<dyn TokenVerifier>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let service = LoadBalancers::open(&settings.data_dir, settings.node.clone())?;
    let routes = Routes::new(LoadBalancerServiceServer::new(service.clone()));
    let serving = tokio::spawn(cloud_api::serve(listener, tls, routes, verifier, stop.clone()));
    let mut engine = Engine::new(clock);
    let mut network = NodeNetwork::new(settings.node.clone());
    let mut latest = service.shared.latest.subscribe();
    while !stop.is_cancelled() {
        let records = latest.borrow_and_update().clone();
        let errors = apply(&records, &mut engine, &mut network).await;
        for error in &errors {
            tracing::warn!(error = error as &dyn std::error::Error, "not all load balancers could be put in place; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = latest.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(RETRY), if !errors.is_empty() => {}
        }
    }
    engine.stop().await;
    teardown(&settings.node.table, &settings.node.device).await?;
    if let Err(error) = serving.await {
        tracing::error!(%error, "the API panicked");
    }
    Ok(())
}

async fn apply(records: &Records, engine: &mut Engine, network: &mut NodeNetwork) -> Vec<Error> {
    let configuration = records.configuration();
    let addresses = records.addresses();
    let open = configuration.listeners.keys().map(|at| (*at.ip(), "tcp".to_owned(), at.port())).collect();
    let mut errors = Vec::new();
    errors.extend(network.add(&Doors { addresses: addresses.clone(), open, proxied: BTreeSet::new() }).await.err());
    errors.extend(engine.apply(&configuration).await);
    errors.extend(network.retain(&addresses).await.err());
    errors
}

impl LoadBalancers {
    /// With the records of an earlier run.
    pub fn open(data_dir: &Path, settings: NodeSettings) -> Result<Self, Error> {
        let file = data_dir.join("load-balancers.json");
        let failed = |why: String| Error::Records { path: file.clone(), why };
        let records: Records = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Records::default(),
            Err(error) => return Err(failed(error.to_string())),
        };
        std::fs::create_dir_all(data_dir).map_err(|error| failed(error.to_string()))?;
        let latest = watch::channel(Arc::new(records.clone())).0;
        Ok(Self { shared: Arc::new(Shared { file, settings, records: Mutex::new(records), latest }) })
    }

    /// Changes the records: on disk first, then for everybody to see. What is refused changes nothing.
    async fn change<T>(&self, decide: impl FnOnce(&mut Records) -> Result<T, Status>) -> Result<T, Status> {
        let mut records = self.shared.records.lock().await;
        let mut next = records.clone();
        let outcome = decide(&mut next)?;
        if next != *records {
            let (text, file) = (serde_json::to_vec(&next).map_err(|error| Status::internal(error.to_string()))?, self.shared.file.clone());
            // Certificates' keys are in it.
            let written = tokio::task::spawn_blocking(move || pki::write_atomically(&file, &text, 0o600)).await;
            let written = written.map_err(|error| error.to_string()).and_then(|outcome| outcome.map_err(|error| error.to_string()));
            if let Err(error) = written {
                tracing::error!(error, "a change could not be written");
                return Err(Status::unavailable("the change could not be written"));
            }
            *records = next;
            self.shared.latest.send_replace(Arc::new(records.clone()));
        }
        Ok(outcome)
    }
}

/// What is others' does not exist to the caller.
fn balancer_of(records: &Records, caller: &Caller, id: &str) -> Result<(), Status> {
    match records.load_balancers.get(id) {
        Some(balancer) if balancer.owner.is_usable_by(caller) => Ok(()),
        _ => Err(Status::not_found(format!("there is no load balancer {id:?}"))),
    }
}

fn pool_of(records: &Records, caller: &Caller, id: &str) -> Result<(), Status> {
    match records.pools.get(id) {
        Some(pool) if pool.owner.is_usable_by(caller) => Ok(()),
        _ => Err(Status::not_found(format!("there is no pool {id:?}"))),
    }
}

fn told(records: &Records, id: &str) -> LoadBalancer {
    let balancer = &records.load_balancers[id];
    LoadBalancer {
        id: id.to_owned(),
        name: balancer.name.clone(),
        description: balancer.description.clone(),
        external_ip: balancer.address.to_string(),
        org_id: balancer.owner.org_id.clone(),
        project_id: balancer.owner.project_id.clone(),
        listeners: records.listeners.iter().filter(|(_, listener)| listener.load_balancer == id).map(|(id, listener)| told_listener(id, listener)).collect(),
    }
}

fn told_listener(id: &str, listener: &ListenerRecord) -> Listener {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let check = |check: &CheckRecord| HealthCheck {
        path: check.path.clone().unwrap_or_default(),
        interval_seconds: number(check.interval_seconds),
        timeout_seconds: number(check.timeout_seconds),
        retries: number(check.retries),
    };
    let protocol = match listener.protocol {
        ListenerProtocol::Tcp => "TCP",
        ListenerProtocol::Http => "HTTP",
        ListenerProtocol::Https => "HTTPS",
        ListenerProtocol::Tls => "TLS",
    };
    Listener {
        id: id.to_owned(),
        load_balancer_id: listener.load_balancer.clone(),
        protocol: protocol.into(),
        port: listener.port.into(),
        default_pool_id: listener.pool.clone(),
        health_check: listener.health_check.as_ref().map(check),
        passthrough: listener.passthrough.iter().map(|(host, pool)| Passthrough { host: host.clone(), pool_id: pool.clone() }).collect(),
    }
}

fn wanted_check(check: HealthCheck) -> Result<CheckRecord, Status> {
    let number = |name: &str, number: i32, default: u32, most: u32| match u32::try_from(number) {
        Ok(0) => Ok(default),
        Ok(number) if number <= most => Ok(number),
        _ => Err(Status::invalid_argument(format!("{name} is not between 1 and {most}"))),
    };
    if !check.path.is_empty() && (!check.path.starts_with('/') || check.path.bytes().any(|byte| byte <= b' ' || byte == 127)) {
        return Err(Status::invalid_argument(format!("health check path {:?} is no path such as \"/health\"", check.path)));
    }
    Ok(CheckRecord {
        path: Some(check.path).filter(|path| !path.is_empty()),
        interval_seconds: number("interval_seconds", check.interval_seconds, 10, 3600)?,
        timeout_seconds: number("timeout_seconds", check.timeout_seconds, 5, 3600)?,
        retries: number("retries", check.retries, 3, 100)?,
    })
}

fn wanted_member(member: &PoolMember) -> Result<(SocketAddrV4, u32), Status> {
    let wrong = |what: &str| Status::invalid_argument(format!("member {}:{}: {what}", member.address, member.port));
    let address: Ipv4Addr = member.address.parse().map_err(|_| wrong("it has no IPv4 address"))?;
    // Connections start here: what only this machine reaches is nobody's backend.
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.is_link_local() || address.is_broadcast() {
        return Err(wrong("this address can't be a backend's"));
    }
    let port = u16::try_from(member.port).ok().filter(|port| *port != 0).ok_or_else(|| wrong("its port is not between 1 and 65535"))?;
    let weight =
        u32::try_from(member.weight.unwrap_or(1)).ok().filter(|weight| *weight <= 1000).ok_or_else(|| wrong("its weight is not between 0 and 1000"))?;
    Ok((SocketAddrV4::new(address, port), weight))
}

fn wanted_proxy_protocol(text: &str) -> Result<Option<ProxyProtocol>, Status> {
    let unknown = || Status::invalid_argument(format!("proxy_protocol {text:?} is none of \"v1\", \"v2\""));
    if text.is_empty() { Ok(None) } else { ProxyProtocol::parse(text).ok_or_else(unknown).map(Some) }
}

fn wanted_tls(wanted: &UpdatePoolRequest) -> Result<Option<TlsRecord>, Status> {
    let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let tls = TlsRecord { authority: some(&wanted.certificate_authority), name: some(&wanted.server_name) };
    match wanted.backend_protocol.as_str() {
        "HTTPS" => Ok(Some(tls)),
        "" | "HTTP" if tls == TlsRecord::default() => Ok(None),
        "" | "HTTP" => Err(Status::invalid_argument("certificate_authority and server_name need backend_protocol to be \"HTTPS\"")),
        other => Err(Status::invalid_argument(format!("backend_protocol {other:?} is none of \"HTTP\", \"HTTPS\""))),
    }
}

fn new_id(prefix: &str) -> String {
    clock::random_bytes::<8>().iter().fold(format!("{prefix}-"), |id, byte| format!("{id}{byte:02x}"))
}

#[tonic::async_trait]
impl LoadBalancerService for LoadBalancers {
    async fn create_load_balancer(&self, request: Request<CreateLoadBalancerRequest>) -> Result<Response<LoadBalancer>, Status> {
        let caller = Caller::of(&request)?.clone();
        let wanted = request.into_inner();
        let owner = Ownership::named(&caller, wanted.org_id, wanted.project_id)?;
        let id = new_id("lb");
        let wish = LoadBalancerWish { name: wanted.name, description: wanted.description, external_ip: wanted.external_ip, owner };
        let made = self.change(|records| {
            records.add_load_balancer(&id, wish, &self.shared.settings.pool)?;
            Ok(told(records, &id))
        });
        Ok(Response::new(made.await?))
    }

    async fn update_load_balancer(&self, request: Request<UpdateLoadBalancerRequest>) -> Result<Response<LoadBalancer>, Status> {
        let caller = Caller::of(&request)?.clone();
        let wanted = request.into_inner();
        let changed = self.change(|records| {
            balancer_of(records, &caller, &wanted.id)?;
            if wanted.name.is_empty() || wanted.name.len() > 253 || wanted.description.len() > 4096 {
                return Err(Status::invalid_argument("a load balancer needs a name of 1 to 253 bytes and a description of no more than 4096"));
            }
            let balancer = records.load_balancers.get_mut(&wanted.id).expect("it was just found");
            (balancer.name, balancer.description) = (wanted.name, wanted.description);
            Ok(told(records, &wanted.id))
        });
        Ok(Response::new(changed.await?))
    }

    async fn delete_load_balancer(&self, request: Request<DeleteLoadBalancerRequest>) -> Result<Response<Empty>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().id;
        self.change(|records| {
            balancer_of(records, &caller, &id)?;
            records.remove_load_balancer(&id);
            Ok(())
        })
        .await?;
        Ok(Response::new(Empty {}))
    }

    async fn get_load_balancer(&self, request: Request<GetLoadBalancerRequest>) -> Result<Response<LoadBalancer>, Status> {
        let (caller, records) = (Caller::of(&request)?, self.shared.records.lock().await);
        let id = &request.get_ref().id;
        balancer_of(&records, caller, id)?;
        Ok(Response::new(told(&records, id)))
    }

    async fn list_load_balancers(&self, request: Request<ListLoadBalancersRequest>) -> Result<Response<ListLoadBalancersResponse>, Status> {
        let (caller, records) = (Caller::of(&request)?, self.shared.records.lock().await);
        let own = records.load_balancers.iter().filter(|(_, balancer)| balancer.owner.is_usable_by(caller));
        Ok(Response::new(ListLoadBalancersResponse { load_balancers: own.map(|(id, _)| told(&records, id)).collect() }))
    }

    async fn create_listener(&self, request: Request<CreateListenerRequest>) -> Result<Response<Listener>, Status> {
        let caller = Caller::of(&request)?.clone();
        let wanted = request.into_inner();
        let protocol = match wanted.protocol.as_str() {
            "TCP" => ListenerProtocol::Tcp,
            "HTTP" => ListenerProtocol::Http,
            "HTTPS" => ListenerProtocol::Https,
            "TLS" => ListenerProtocol::Tls,
            "UDP" => return Err(Status::unimplemented("FiberLB alone serves TCP, TLS, HTTP and HTTPS")),
            other => return Err(Status::invalid_argument(format!("protocol {other:?} is none of \"TCP\", \"TLS\", \"HTTP\", \"HTTPS\""))),
        };
        let port = u16::try_from(wanted.port).map_err(|_| Status::invalid_argument("a listener needs a port of 1 to 65535"))?;
        let certificate = (!wanted.certificate.is_empty() || !wanted.private_key.is_empty()).then_some((wanted.certificate, wanted.private_key));
        let health_check = wanted.health_check.map(wanted_check).transpose()?;
        let (load_balancer, pool) = (wanted.load_balancer_id, wanted.default_pool_id);
        let mut passthrough = BTreeMap::new();
        for Passthrough { host, pool_id } in wanted.passthrough {
            if let Some(host) = passthrough.insert(host.to_ascii_lowercase(), pool_id).map(|_| host) {
                return Err(Status::invalid_argument(format!("host {host:?} is said twice")));
            }
        }
        let record = ListenerRecord { load_balancer, protocol, port, pool, passthrough, health_check, certificate };
        let id = new_id("listener");
        let made = self.change(|records| {
            balancer_of(records, &caller, &record.load_balancer)?;
            if record.protocol != ListenerProtocol::Tls && record.pool.is_empty() {
                return Err(Status::not_found("there is no pool \"\""));
            }
            record.pools().try_for_each(|pool| pool_of(records, &caller, pool))?;
            let made = told_listener(&id, &record);
            records.add_listener(&id, record)?;
            Ok(made)
        });
        Ok(Response::new(made.await?))
    }

    async fn delete_listener(&self, request: Request<DeleteListenerRequest>) -> Result<Response<Empty>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().id;
        self.change(|records| {
            let balancer = records.listeners.get(&id).map(|listener| listener.load_balancer.clone());
            if balancer.is_none_or(|balancer| balancer_of(records, &caller, &balancer).is_err()) {
                return Err(Status::not_found(format!("there is no listener {id:?}")));
            }
            records.listeners.remove(&id);
            Ok(())
        })
        .await?;
        Ok(Response::new(Empty {}))
    }

    async fn update_pool(&self, request: Request<UpdatePoolRequest>) -> Result<Response<Pool>, Status> {
        let caller = Caller::of(&request)?.clone();
        let wanted = request.into_inner();
        let members = wanted.members.iter().map(wanted_member).collect::<Result<_, _>>()?;
        let (proxy_protocol, tls) = (wanted_proxy_protocol(&wanted.proxy_protocol)?, wanted_tls(&wanted)?);
        let made = self.change(|records| {
            let owner = match records.pools.get(&wanted.pool_id) {
                Some(pool) if pool.owner.is_usable_by(&caller) => pool.owner.clone(),
                Some(_) => return Err(Status::already_exists(format!("the id {:?} is taken", wanted.pool_id))),
                None => Ownership { org_id: caller.org_id.clone(), project_id: caller.project_id.clone() },
            };
            let record = PoolRecord { owner, members, algorithm: wanted.algorithm, proxy_protocol, tls };
            records.set_pool(&wanted.pool_id, record)?;
            let pool = &records.pools[&wanted.pool_id];
            let member =
                |(at, weight): (&SocketAddrV4, &u32)| PoolMember { address: at.ip().to_string(), port: at.port().into(), weight: i32::try_from(*weight).ok() };
            Ok(Pool {
                id: wanted.pool_id,
                members: pool.members.iter().map(member).collect(),
                algorithm: pool.algorithm.clone(),
                proxy_protocol: wanted.proxy_protocol,
                backend_protocol: wanted.backend_protocol,
                certificate_authority: wanted.certificate_authority,
                server_name: wanted.server_name,
            })
        });
        Ok(Response::new(made.await?))
    }

    async fn delete_pool(&self, request: Request<DeletePoolRequest>) -> Result<Response<Empty>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().pool_id;
        self.change(|records| {
            pool_of(records, &caller, &id)?;
            records.remove_pool(&id).map_err(Status::from)
        })
        .await?;
        Ok(Response::new(Empty {}))
    }
}
