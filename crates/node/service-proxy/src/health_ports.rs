//! Health check node ports: tell balancers outside whether this node has endpoints of a Service whose traffic stays local.
//!
//! <https://kubernetes.io/docs/reference/networking/virtual-ips/#external-traffic-policy>; the answers are kube-proxy's.
use api_cache::ObjectKey;
use k8s_openapi::api::core::v1::Service;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_LIMIT: usize = 8 << 10;
/// Asked at once, of one port.
const CONNECTIONS: usize = 64;
const RETRY: Duration = Duration::from_secs(5);

/// The port a Service wants to be asked at; only balanced Services whose outside traffic stays local have one.
pub fn health_port(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref()?;
    let local = spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    spec.health_check_node_port.filter(|_| local).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

struct Port {
    number: u16,
    endpoints: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The ports that are served. Dropping it closes them.
pub struct HealthPorts {
    /// They are asked at any address of these families.
    dual: bool,
    ports: HashMap<ObjectKey, Port>,
}

impl HealthPorts {
    pub fn new(dual: bool) -> Self {
        Self { dual, ports: HashMap::new() }
    }

    /// Notes what a Service has: its port, if it wants one, and how many endpoints of it are on this node.
    pub fn set(&mut self, service: &ObjectKey, wanted: Option<(u16, usize)>) {
        let Some((number, endpoints)) = wanted else {
            self.ports.remove(service);
            return;
        };
        if let Some(port) = self.ports.get(service).filter(|port| port.number == number) {
            port.endpoints.store(endpoints, Ordering::Relaxed);
            return;
        }
        self.ports.remove(service);
        let endpoints = Arc::new(AtomicUsize::new(endpoints));
        let serving = tokio::spawn(serve(service.clone(), self.dual, number, endpoints.clone()));
        self.ports.insert(service.clone(), Port { number, endpoints, serving });
    }
}

async fn serve(service: ObjectKey, dual: bool, number: u16, endpoints: Arc<AtomicUsize>) {
    let listener = loop {
        match bind(dual, number) {
            Ok(listener) => break listener,
            Err(error) => tracing::warn!(%service, number, %error, "the health check node port can't be served; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let text = answer(&service, endpoints.load(Ordering::Relaxed));
        tokio::spawn(async move {
            let _place = place;
            // Who asks and goes away without the answer needs none.
            let _ = tokio::time::timeout(REQUEST_TIMEOUT, reply(stream, text)).await;
        });
    }
}

fn bind(dual: bool, number: u16) -> std::io::Result<TcpListener> {
    // A socket of IPv6 takes IPv4 as well, unless the machine says otherwise.
    let (socket, any) = if dual { (TcpSocket::new_v6()?, Ipv6Addr::UNSPECIFIED.into()) } else { (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::UNSPECIFIED)) };
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((any, number)))?;
    socket.listen(128)
}

async fn reply(mut stream: TcpStream, text: String) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > REQUEST_LIMIT || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

fn answer(service: &ObjectKey, endpoints: usize) -> String {
    let code = if endpoints == 0 { "503 Service Unavailable" } else { "200 OK" };
    // Names of Services need no escapes.
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\"localEndpoints\": {endpoints},\n\t\"serviceProxyHealthy\": true\n}}",
        service.namespace, service.name
    );
    format!(
        "HTTP/1.1 {code}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {endpoints}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_meta::ClusterName;

    async fn ask(port: u16) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text.lines().next().unwrap_or_default().to_owned() + text.lines().find(|line| line.contains("localEndpoints")).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_node_without_endpoints_says_so_and_a_port_goes_with_its_service() {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let (mut ports, service) = (HealthPorts::new(false), ObjectKey::new(&ClusterName::root(), "default", "web"));
        ports.set(&service, Some((port, 2)));
        let mut told = None;
        for _ in 0..100 {
            told = ask(port).await;
            if told.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(told.as_deref(), Some("HTTP/1.1 200 OK\t\"localEndpoints\": 2,"));
        ports.set(&service, Some((port, 0)));
        assert_eq!(ask(port).await.as_deref(), Some("HTTP/1.1 503 Service Unavailable\t\"localEndpoints\": 0,"));
        ports.set(&service, None);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(ask(port).await, None);
    }
}
