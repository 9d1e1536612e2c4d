//! The CNI plugin: ADD, DEL, CHECK, GC, STATUS and VERSION of specification 1.1 (and back to 0.3.1).
//!
//! <https://github.com/containernetworking/cni/blob/main/SPEC.md>
use crate::kubernetes::PodIdentity;
use crate::loopback;
use crate::network_namespace::identity_at;
use crate::node::is_alive;
use crate::plan::host_interface;
use crate::policy::{self, Isolation};
use crate::settings::{check_interface_name, check_second};
use crate::{
    AddressFile, AddressPool, Attachment, Engine, Error, Lease, NativeEngine, NetworkConf, NetworkNamespace, PodCluster, PodClusters, PortAddresses, PortPlan,
    isolation, nft, sources,
};
use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::IpAddr;

/// The specification's versions that are understood, oldest first.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The parameters a runtime passes as `CNI_*` variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub command: String,
    pub container: String,
    /// Path of the network namespace; a runtime may leave it out of DEL.
    pub namespace: String,
    pub interface: String,
    pub arguments: String,
}

impl Parameters {
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        Self {
            command: variable("CNI_COMMAND"),
            container: variable("CNI_CONTAINERID"),
            namespace: variable("CNI_NETNS"),
            interface: variable("CNI_IFNAME"),
            arguments: variable("CNI_ARGS"),
        }
    }
}

/// What goes back to the runtime: an exit code and what to print.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub code: i32,
    /// `None`: print nothing.
    pub body: Option<Value>,
}

/// Answers the runtime that started this process: environment and standard input in, standard output and exit code out.
pub fn run() -> i32 {
    let mut input = Vec::new();
    // Without a configuration the call fails with a message of its own.
    let _ = std::io::stdin().read_to_end(&mut input);
    let reply = main(&Parameters::from_environment(), &input);
    if let Some(body) = reply.body {
        // A runtime that closed its end does not listen: there is nobody to tell.
        let _ = writeln!(std::io::stdout(), "{body}");
    }
    reply.code
}

/// Answers one call. Acts in the network namespace of the calling thread, which is the node's.
pub fn main(parameters: &Parameters, input: &[u8]) -> Reply {
    call(parameters, input, &NativeEngine).map_or_else(|failure| failure.reply(input), |body| Reply { code: 0, body })
}

/// A CNI error: one of the specification's codes, or 100 and up for our own.
#[derive(Debug)]
struct Failure {
    code: u32,
    message: String,
    details: String,
}

const INCOMPATIBLE_VERSION: u32 = 1;
const INVALID_ENVIRONMENT: u32 = 4;
const IO_FAILURE: u32 = 5;
const DECODING_FAILURE: u32 = 6;
const INVALID_CONFIGURATION: u32 = 7;
const TRY_AGAIN_LATER: u32 = 11;
const NOT_AVAILABLE: u32 = 50;
const NOT_AS_PLANNED: u32 = 100;
const EXHAUSTED: u32 = 101;

impl Failure {
    fn new(code: u32, message: &str, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into() }
    }

    fn reply(self, input: &[u8]) -> Reply {
        let version = serde_json::from_slice::<Versioned>(input).map(|conf| conf.cni_version).unwrap_or_default();
        let version = if VERSIONS.contains(&&*version) { version } else { VERSIONS[VERSIONS.len() - 1].to_owned() };
        Reply { code: 1, body: Some(json!({ "cniVersion": version, "code": self.code, "msg": self.message, "details": self.details })) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Settings(_) => INVALID_CONFIGURATION,
            Error::File { .. } | Error::Namespace { .. } | Error::Netlink { .. } | Error::Program { .. } | Error::Nft(_) => IO_FAILURE,
            Error::AddressFile { .. } | Error::Records { .. } => DECODING_FAILURE,
            Error::Exhausted(_) => EXHAUSTED,
            Error::Port { .. } => NOT_AS_PLANNED,
            Error::NotReady { .. } | Error::Pod { .. } => TRY_AGAIN_LATER,
        };
        Self { code, message: error.to_string(), details: String::new() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versioned {
    #[serde(default)]
    cni_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

fn call(parameters: &Parameters, input: &[u8], engine: &dyn Engine) -> Result<Option<Value>, Failure> {
    if kind(input) == loopback::TYPE {
        return call_loopback(parameters, input);
    }
    match parameters.command.as_str() {
        "VERSION" => {
            let asked: Versioned = serde_json::from_slice(input).map_err(undecodable)?;
            Ok(Some(json!({ "cniVersion": asked.cni_version, "supportedVersions": VERSIONS })))
        }
        "ADD" => add(parameters, &configuration(input)?, engine).map(Some),
        "DEL" => delete(parameters, &configuration(input)?, engine).map(|()| None),
        "CHECK" => check(parameters, &configuration(input)?, input, engine).map(|()| None),
        "GC" => collect_garbage(&configuration(input)?, input, engine).map(|()| None),
        "STATUS" => status(&configuration(input)?, engine).map(|()| None),
        "" => Err(Failure::new(INVALID_ENVIRONMENT, "CNI_COMMAND is not set", "this is a CNI plugin: a container runtime calls it")),
        other => Err(Failure::new(INVALID_ENVIRONMENT, &format!("unknown CNI_COMMAND \"{other}\""), "")),
    }
}

/// The plugin a configuration is for.
fn kind(input: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type", default)]
        kind: String,
    }
    serde_json::from_slice::<Typed>(input).map(|conf| conf.kind).unwrap_or_default()
}

fn call_loopback(parameters: &Parameters, input: &[u8]) -> Result<Option<Value>, Failure> {
    let Versioned { cni_version } = serde_json::from_slice(input).map_err(undecodable)?;
    match parameters.command.as_str() {
        "VERSION" => Ok(Some(json!({ "cniVersion": cni_version, "supportedVersions": VERSIONS }))),
        "ADD" => Ok(Some(loopback::add(&cni_version, &namespace(parameters)?)?)),
        // The interface goes with its namespace, so there is nothing to take back or to look after.
        "DEL" | "CHECK" | "GC" | "STATUS" => Ok(None),
        other => Err(Failure::new(INVALID_ENVIRONMENT, &format!("unknown CNI_COMMAND \"{other}\""), "")),
    }
}

fn undecodable(error: serde_json::Error) -> Failure {
    Failure::new(DECODING_FAILURE, "network configuration can't be decoded", error.to_string())
}

fn configuration(input: &[u8]) -> Result<NetworkConf, Failure> {
    let versioned: Versioned = serde_json::from_slice(input).map_err(undecodable)?;
    if !VERSIONS.contains(&&*versioned.cni_version) {
        return Err(Failure::new(
            INCOMPATIBLE_VERSION,
            &format!("CNI version \"{}\" is not supported", versioned.cni_version),
            format!("supported are {}", VERSIONS.join(", ")),
        ));
    }
    let conf: NetworkConf =
        serde_json::from_slice(input).map_err(|error| Failure::new(INVALID_CONFIGURATION, "network configuration is invalid", error.to_string()))?;
    if let Err(why) = conf.runtime_config.bandwidth.unwrap_or_default().check() {
        return Err(Failure::new(INVALID_CONFIGURATION, &format!("bandwidth: {why}"), ""));
    }
    if conf.pod_cidr.prefix_len() > 30 {
        return Err(Failure::new(INVALID_CONFIGURATION, &format!("pod range {} has no room for pods", conf.pod_cidr), ""));
    }
    if let Some(Err(why)) = conf.second_pod_cidr.map(|second| check_second(conf.pod_cidr, second)) {
        return Err(Failure::new(INVALID_CONFIGURATION, &why, ""));
    }
    Ok(conf)
}

/// The cluster of the pod that a port is asked for.
///
/// Where there are virtual clusters, a pod that nobody told of gets none: to guess could let it in with others' pods.
fn cluster_of(conf: &NetworkConf, pod: Option<&PodIdentity>) -> Result<PodCluster, Failure> {
    if conf.virtual_cluster_cidr.is_none() {
        return Ok(host_cluster());
    }
    let uid = pod.map(|pod| pod.uid.as_str()).unwrap_or_default();
    if uid.is_empty() {
        return Err(Failure::new(INVALID_ENVIRONMENT, "CNI_ARGS has no K8S_POD_UID", "the node must know which cluster the pod is of"));
    }
    PodClusters::new(&conf.state_dir).of(uid)?.ok_or_else(|| Failure::new(TRY_AGAIN_LATER, &format!("the cluster of pod {uid:?} is not known"), ""))
}

fn host_cluster() -> PodCluster {
    PodCluster { number: 0, name: "root".into(), isolation: Isolation::default() }
}

/// Lets go of a lease's place in the rules; before the lease, as the next holder of its address must not inherit it.
fn withdraw(range: Option<Ipv4Net>, pool: &AddressPool, addresses: PortAddresses, lease: &Lease) -> Result<(), Error> {
    if lease.held {
        unless_gone(nft::run(&addresses.iter().map(policy::let_go).collect::<String>()))?;
    }
    let mut rules = sources::withdraw(addresses, lease);
    if let Some(range) = range.filter(|_| lease.cluster != 0) {
        rules.push_str(&isolation::withdraw(range, addresses, lease, !pool.has_other(lease.cluster, addresses.first)));
    }
    unless_gone(nft::run(&rules))
}

/// Where the table went before, all that was in it went too.
fn unless_gone(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::Nft(text)) if text.contains("No such file or directory") => Ok(()),
        done => done,
    }
}

/// Ends a container interface's lease, if it has one.
fn release(conf: &NetworkConf, pool: &mut AddressPool, container: &str, interface: &str) -> Result<(), Error> {
    if let Some(address) = pool.address_of(container, interface) {
        withdraw(conf.virtual_cluster_cidr, pool, pool.addresses(address), &pool.leases[&address])?;
        pool.release(container, interface);
    }
    Ok(())
}

fn attachment(parameters: &Parameters) -> Result<Attachment, Failure> {
    let invalid = |message: String| Failure::new(INVALID_ENVIRONMENT, &message, "");
    let container = &parameters.container;
    let legal =
        container.starts_with(|c: char| c.is_ascii_alphanumeric()) && container.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !legal {
        return Err(invalid(format!("CNI_CONTAINERID {container:?} is no container id")));
    }
    check_interface_name(&parameters.interface).map_err(|reason| invalid(format!("CNI_IFNAME: {reason}")))?;
    Ok(Attachment {
        container: container.clone(),
        interface: parameters.interface.clone(),
        pod: PodIdentity::from_cni_args(&parameters.arguments),
        cluster: host_cluster(),
    })
}

fn namespace(parameters: &Parameters) -> Result<NetworkNamespace, Failure> {
    if parameters.namespace.is_empty() {
        return Err(Failure::new(INVALID_ENVIRONMENT, "CNI_NETNS is not set", ""));
    }
    Ok(NetworkNamespace::open(&parameters.namespace)?)
}

fn add(parameters: &Parameters, conf: &NetworkConf, engine: &dyn Engine) -> Result<Value, Failure> {
    let mut attachment = attachment(parameters)?;
    attachment.cluster = cluster_of(conf, attachment.pod.as_ref())?;
    let namespace = namespace(parameters)?;
    let identity = namespace.identity()?;
    if identity_at("/proc/thread-self/ns/net") == Some(identity) {
        return Err(Failure::new(INVALID_ENVIRONMENT, "CNI_NETNS is the node's own network namespace", ""));
    }
    engine.ready(&conf.bridge, &conf.gateways())?;
    let lease = Lease {
        container: attachment.container.clone(),
        interface: attachment.interface.clone(),
        namespace: parameters.namespace.clone(),
        identity,
        cluster: attachment.cluster.number,
        pod: attachment.pod.clone(),
        held: attachment.cluster.isolation != Isolation::default(),
    };
    let file = AddressFile::new(&conf.state_dir);
    let addresses = file.change(|pool| {
        let leased = match pool.lease(conf.pod_cidr, lease.clone()) {
            // Only then is it worth a look who is gone without giving back.
            Err(Error::Exhausted(_)) => {
                for (addresses, ended) in pool.retain(is_alive) {
                    engine.detach(&host_interface(&ended.container, &ended.interface))?;
                    withdraw(conf.virtual_cluster_cidr, pool, addresses, &ended)?;
                }
                pool.lease(conf.pod_cidr, lease.clone())
            }
            leased => leased,
        };
        let address = leased?;
        Ok(match conf.second_pod_cidr {
            Some(second) => pool.pair(address, conf.pod_cidr, second),
            None => pool.addresses(address),
        })
    })?;
    let port = PortPlan::new(conf, &attachment, addresses);
    // First the rules, then the port: a pod's first packet is judged right.
    let mut rules: String = addresses.iter().map(|address| policy::hold(address, attachment.cluster.isolation)).collect();
    if let Some(range) = conf.virtual_cluster_cidr.filter(|_| lease.cluster != 0) {
        rules.push_str(&isolation::admit(range, addresses, &lease));
    }
    rules.push_str(&sources::admit(addresses, &lease));
    match nft::run(&rules).and_then(|()| engine.attach(&port, &namespace)) {
        Ok(hardware_address) => Ok(result(conf, &port, &parameters.namespace, hardware_address)),
        Err(error) => {
            // The first error tells why. A lease that can't be given back here ends with DEL or with its namespace.
            let _ = file.change(|pool| release(conf, pool, &attachment.container, &attachment.interface));
            Err(error.into())
        }
    }
}

/// The result in the form of the configuration's version: before 1.0 an address says its family.
fn result(conf: &NetworkConf, port: &PortPlan, namespace: &str, host_address: [u8; 6]) -> Value {
    let address = |(prefix, gateway): (IpNet, IpAddr)| {
        let mut address = json!({ "address": prefix.to_string(), "gateway": gateway.to_string(), "interface": 1 });
        if conf.cni_version.starts_with("0.") {
            address["version"] = json!(if gateway.is_ipv4() { "4" } else { "6" });
        }
        address
    };
    let route = |(_, gateway): (IpNet, IpAddr)| json!({ "dst": if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" }, "gw": gateway.to_string() });
    json!({
        "cniVersion": conf.cni_version,
        "interfaces": [
            { "name": port.host_interface, "mac": text(host_address) },
            { "name": port.interface, "mac": text(port.hardware_address), "sandbox": namespace },
        ],
        "ips": port.addresses().map(address).collect::<Vec<_>>(),
        "routes": port.addresses().map(route).collect::<Vec<_>>(),
        "dns": {},
    })
}

fn text(hardware_address: [u8; 6]) -> String {
    hardware_address.map(|byte| format!("{byte:02x}")).join(":")
}

fn delete(parameters: &Parameters, conf: &NetworkConf, engine: &dyn Engine) -> Result<(), Failure> {
    let attachment = attachment(parameters)?;
    // First the port, then its address: nobody else may get it while it is still on the network.
    engine.detach(&host_interface(&attachment.container, &attachment.interface))?;
    AddressFile::new(&conf.state_dir).change(|pool| release(conf, pool, &attachment.container, &attachment.interface))?;
    Ok(())
}

fn check(parameters: &Parameters, conf: &NetworkConf, input: &[u8], engine: &dyn Engine) -> Result<(), Failure> {
    let attachment = attachment(parameters)?;
    let namespace = namespace(parameters)?;
    let not_as_planned = |message: String| Failure::new(NOT_AS_PLANNED, &message, "");
    let pool = AddressFile::new(&conf.state_dir).read()?;
    let Some(address) = pool.address_of(&attachment.container, &attachment.interface) else {
        return Err(not_as_planned(format!("container \"{}\" has no address", attachment.container)));
    };
    let addresses = pool.addresses(address);
    if conf.second_pod_cidr.is_some() && addresses.second.is_none() {
        return Err(not_as_planned(format!("container \"{}\" has no IPv6 address", attachment.container)));
    }
    let input: Value = serde_json::from_slice(input).map_err(undecodable)?;
    if let Some(previous) = input.pointer("/prevResult/ips").and_then(Value::as_array) {
        let previous: Vec<IpAddr> = previous.iter().filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok()).collect();
        if let Some(address) = addresses.iter().find(|address| !previous.contains(address)) {
            return Err(not_as_planned(format!("the previous result lacks address {address}")));
        }
    }
    engine.check(&PortPlan::new(conf, &attachment, addresses), &namespace)?;
    let number = pool.leases[&address].cluster;
    if conf.virtual_cluster_cidr.is_some() && number != 0 && nft::run(&isolation::look(addresses, number)).is_err() {
        return Err(not_as_planned(format!("the rules do not know {address} as a pod of cluster number {number}")));
    }
    Ok(())
}

fn collect_garbage(conf: &NetworkConf, input: &[u8], engine: &dyn Engine) -> Result<(), Failure> {
    let input: Value = serde_json::from_slice(input).map_err(undecodable)?;
    // The key's name changed between drafts of the specification; runtimes send one or the other.
    let valid = input.get("cni.dev/valid-attachments").or_else(|| input.get("cni.dev/attachments"));
    let Some(valid) = valid else {
        return Err(Failure::new(INVALID_CONFIGURATION, "\"cni.dev/valid-attachments\" is missing", ""));
    };
    let valid: Vec<ValidAttachment> = serde_json::from_value(valid.clone()).map_err(undecodable)?;
    let valid: BTreeSet<(String, String)> = valid.into_iter().map(|attachment| (attachment.container, attachment.ifname)).collect();
    let is_valid = |lease: &Lease| valid.contains(&(lease.container.clone(), lease.interface.clone()));
    let addresses = AddressFile::new(&conf.state_dir);
    for lease in addresses.read()?.leases.values().filter(|lease| !is_valid(lease)) {
        engine.detach(&host_interface(&lease.container, &lease.interface))?;
        addresses.change(|pool| release(conf, pool, &lease.container, &lease.interface))?;
    }
    Ok(())
}

fn status(conf: &NetworkConf, engine: &dyn Engine) -> Result<(), Failure> {
    engine.ready(&conf.bridge, &conf.gateways()).map_err(|error| Failure::new(NOT_AVAILABLE, &error.to_string(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &str, input: &str) -> (i32, Value) {
        let reply = main(&Parameters { command: command.into(), ..Parameters::default() }, input.as_bytes());
        (reply.code, reply.body.unwrap_or_default())
    }

    #[test]
    fn version_tells_what_is_supported() {
        let (code, body) = call("VERSION", r#"{"cniVersion":"1.0.0"}"#);
        assert_eq!(code, 0);
        assert_eq!(body, json!({ "cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] }));
    }

    #[test]
    fn bad_calls_get_the_specifications_codes() {
        let conf = r#"{"cniVersion":"1.0.0","name":"n","type":"prismnet","bridge":"prism0","podCIDR":"10.244.0.0/24","mtu":1500,"stateDir":"/nonexistent"}"#;
        for (command, input, expected) in [
            ("ADD", r#"{"cniVersion":"0.2.0"}"#, INCOMPATIBLE_VERSION),
            ("ADD", "{", DECODING_FAILURE),
            ("ADD", r#"{"cniVersion":"1.0.0"}"#, INVALID_CONFIGURATION),
            ("ADD", conf, INVALID_ENVIRONMENT),
            ("", conf, INVALID_ENVIRONMENT),
            ("JUMP", conf, INVALID_ENVIRONMENT),
            ("GC", conf, INVALID_CONFIGURATION),
        ] {
            let (code, body) = call(command, input);
            assert_eq!((code, body["code"].as_u64()), (1, Some(expected.into())), "{command} {input}: {body}");
        }
    }
}
