//! Five thousand Services with fifty thousand endpoints: the first rules, one change, memory, and connections that last.
use crate::figure::{Budget, Figure, percentile};
use crate::memory_source::MemorySource;
use anyhow::{Context, Result, bail, ensure};
use clock::{Clock, SystemClock};
use serde_json::{Value, json};
use service_proxy::ProxySettings;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SERVICES: u32 = 5_000;
const ENDPOINTS: u32 = 10;
const CHANGES: usize = 60;
const CONNECTIONS: usize = 50;
const CHURN: Duration = Duration::from_secs(10);
const CHURN_A_SECOND: u32 = 30;
const PATIENCE: Duration = Duration::from_secs(120);
const STREAM: Duration = Duration::from_secs(2);
const STREAM_ROUNDS: usize = 3;
/// The one endpoint that there is, on two ports.
const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const BALANCER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

/// Runs itself in a network namespace of its own, so that the machine's rules stay as they are.
pub fn measure() -> Result<Vec<Figure>> {
    let mut inside = Command::new("unshare");
    inside.arg("--net").arg(std::env::current_exe()?).arg("measure-services").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = inside.output().context("unshare is installed (util-linux), and this is root")?;
    ensure!(output.status.success(), "measuring inside a network namespace failed");
    let told: Value = serde_json::from_slice(&output.stdout).context("what was measured is JSON")?;
    let value = |name: &str| told[name].as_f64().with_context(|| format!("{name} was not measured"));
    let size = format!("{SERVICES} Services, {} endpoints", SERVICES * ENDPOINTS);
    let churn = format!("{CONNECTIONS} connections, {CHURN_A_SECOND} changes/s for {} s", CHURN.as_secs());
    Ok(vec![
        Figure::new("all Services' first rules", value("first")?, "ms", Budget::None, size.clone()),
        Figure::new(
            "a Service's change until packets follow, p99",
            value("change")?,
            "ms",
            Budget::AtMost(100.0),
            format!("{size}; p50 {:.1} ms", value("median")?),
        ),
        Figure::new("memory of the Service proxy", value("memory")?, "MB", Budget::None, size),
        Figure::new("connections broken by endpoint changes", value("broken")?, "", Budget::AtMost(0.0), churn),
        Figure::new("TCP through a balancer address, of none", value("through")?, "x", Budget::AtLeast(0.95), format!("{:.2} GB/s without", value("direct")?)),
    ])
}

fn address(service: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 2)) + service)
}

fn service(number: u32, more: Value) -> Value {
    let mut spec = json!({"clusterIP": address(number).to_string(), "clusterIPs": [address(number).to_string()], "ports": [{"name": "http", "port": 80, "targetPort": 8080}]});
    spec.as_object_mut().expect("it is one").extend(more.as_object().cloned().unwrap_or_default());
    json!({"metadata": {"name": format!("s{number}"), "namespace": "default"}, "spec": spec})
}

/// A slice of these addresses, all at one port.
fn slice(number: u32, addresses: &[Ipv4Addr], port: u16) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address.to_string()], "conditions": {"ready": true}})).collect();
    json!({
        "metadata": {"name": format!("s{number}-1"), "namespace": "default", "labels": {"kubernetes.io/service-name": format!("s{number}")}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": port, "protocol": "TCP"}], "endpoints": endpoints,
    })
}

fn nobody(service: u32, endpoint: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 1, 0)) + service * ENDPOINTS + endpoint)
}

/// Inside the namespace: measures, and prints figures as JSON.
pub fn inside() -> Result<()> {
    for line in ["link set lo up", "address add 10.244.0.1/32 dev lo", "route add 10.96.0.0/12 dev lo", "route add 192.0.2.0/24 dev lo"] {
        ensure!(Command::new("ip").args(line.split(' ')).status()?.success(), "ip {line}");
    }
    // What says its port in one byte, and then everything it is told.
    for port in [8080, 8081] {
        let listener = TcpListener::bind((BACKEND, port))?;
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(std::thread::spawn(move || echo(stream, port)))));
    }
    let sink = TcpListener::bind((BACKEND, 9000))?;
    std::thread::spawn(move || sink.incoming().flatten().for_each(|stream| drop(std::thread::spawn(move || drain(stream)))));
    let empty = resident()?;
    let source = MemorySource::default();
    for number in 0..SERVICES {
        source.apply("services", service(number, json!({})));
        let addresses: Vec<Ipv4Addr> = (0..ENDPOINTS).map(|endpoint| nobody(number, endpoint)).collect();
        source.apply("endpointslices", slice(number, &addresses, 8080));
    }
    // The last Service is the one looked at; the next one is a balancer's.
    let probe = SERVICES - 1;
    source.apply("endpointslices", slice(probe, &[BACKEND], 8080));
    let mut balancer = service(SERVICES, json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false}));
    balancer["status"] = json!({"loadBalancer": {"ingress": [{"ip": BALANCER.to_string(), "ipMode": "VIP"}]}});
    source.apply("services", balancer);
    source.apply("endpointslices", slice(SERVICES, &[BACKEND], 9000));

    let runtime = super::runtime()?;
    let began = SystemClock.instant();
    let settings = ProxySettings::new("n1", "10.244.0.0/16".parse()?);
    runtime.spawn(service_proxy::run(settings, Arc::new(source.clone()), std::future::pending()));
    let first = until(began, || asked(probe) == Some(8080))?;
    let memory = resident()? - empty;

    let mut changes = Vec::new();
    for number in 0..CHANGES {
        let port = if number % 2 == 0 { 8081 } else { 8080 };
        let began = SystemClock.instant();
        source.apply("endpointslices", slice(probe, &[BACKEND], port));
        changes.push(until(began, || asked(probe) == Some(port))?);
        std::thread::sleep(Duration::from_millis(20));
    }
    let broken = churn(&source, probe)?;
    let (mut direct, mut through) = (0.0, 0.0);
    for _ in 0..STREAM_ROUNDS {
        direct += stream(SocketAddrV4::new(BACKEND, 9000))?;
        through += stream(SocketAddrV4::new(BALANCER, 80))?;
    }
    let figures = json!({
        "first": first, "median": percentile(&mut changes, 0.5), "change": percentile(&mut changes, 0.99), "memory": memory, "broken": broken,
        "through": through / direct, "direct": direct / STREAM_ROUNDS as f64,
    });
    println!("{figures}");
    // What still runs has nothing to finish.
    runtime.shutdown_background();
    Ok(())
}

/// Milliseconds until it is so.
fn until(began: Instant, mut is_so: impl FnMut() -> bool) -> Result<f64> {
    while !is_so() {
        if SystemClock.instant() - began > PATIENCE {
            bail!("the rules never came");
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok((SystemClock.instant() - began).as_secs_f64() * 1e3)
}

/// Who answers at a Service's address.
fn asked(number: u32) -> Option<u16> {
    let mut stream = TcpStream::connect_timeout(&SocketAddrV4::new(address(number), 80).into(), Duration::from_millis(200)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    let mut port = [0; 2];
    stream.read_exact(&mut port).ok()?;
    Some(u16::from_be_bytes(port))
}

fn echo(mut stream: TcpStream, port: u16) {
    let mut buffer = [0; 64];
    if stream.write_all(&port.to_be_bytes()).is_err() {
        return;
    }
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

fn drain(mut stream: TcpStream) {
    let mut buffer = vec![0; 256 << 10];
    while let Ok(1..) = stream.read(&mut buffer) {}
}

/// Connections through a Service whose endpoints change all the time, as do those of others: how many broke.
fn churn(source: &MemorySource, probe: u32) -> Result<usize> {
    source.apply("endpointslices", slice(probe, &[BACKEND], 8080));
    let began = SystemClock.instant();
    until(began, || asked(probe) == Some(8080))?;
    let (stop, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect((address(probe), 80))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut port = [0; 2];
        stream.read_exact(&mut port)?;
        let (stop, broken) = (stop.clone(), broken.clone());
        clients.push(std::thread::spawn(move || {
            let mut byte = [7];
            while !stop.load(Ordering::Relaxed) {
                if stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).is_err() {
                    broken.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }));
    }
    let pause = Duration::from_secs(1) / CHURN_A_SECOND;
    let mut number = 0;
    while SystemClock.instant() - began < CHURN {
        number += 1;
        // Its own endpoints come and go beside the one that serves; then another's do.
        let others: Vec<Ipv4Addr> = (0..number % 5).map(|endpoint| nobody(probe, endpoint)).chain([BACKEND]).collect();
        let other = number % probe;
        let changed = if number % 2 == 0 { slice(probe, &others, 8080) } else { slice(other, &[nobody(other, number % ENDPOINTS)], 8080) };
        source.apply("endpointslices", changed);
        std::thread::sleep(pause);
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| drop(client.join()));
    Ok(broken.load(Ordering::Relaxed))
}

/// Gigabytes a second of one connection.
fn stream(to: SocketAddrV4) -> Result<f64> {
    let mut stream = TcpStream::connect(to)?;
    let (block, began, mut sent) = (vec![7; 256 << 10], SystemClock.instant(), 0usize);
    while SystemClock.instant() - began < STREAM {
        stream.write_all(&block)?;
        sent += block.len();
    }
    Ok(sent as f64 / (SystemClock.instant() - began).as_secs_f64() / 1e9)
}

/// This process' memory in MB.
fn resident() -> Result<f64> {
    crate::process::memory(std::process::id()).map(|memory| memory.resident)
}
