//! Service addresses and node ports: claimed in the same transaction as the Service that uses them.
//!
//! A cluster address is claimed by its IPAddress object, a node port by a record of its own. A claim
//! that already exists fails the transaction, so nothing is ever handed out twice, on any number of
//! servers and across any crash.
use crate::context::Context;
use crate::kinds::Kind;
use crate::service_families::{self, family_of, texts};
use crate::service_ranges::{self, ServiceRange};
use crate::{ApiServer, errors, metadata};
use api_meta::{ClusterName, FieldError, FieldPath, GroupResource, Status, object};
use clock::rfc3339_seconds;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use store::{Key, Op, Precondition, Txn};

/// What a write claims and gives back.
#[derive(Default)]
pub(crate) struct Claims {
    claimed: Vec<(Key, bytes::Bytes)>,
    released: Vec<Key>,
    /// The addresses and ports that the server chose, so that another choice may be tried.
    chosen_addresses: BTreeSet<String>,
    chosen_ports: Vec<usize>,
    /// The ranges of the claimed addresses, as they were seen.
    ranges: Vec<Precondition>,
}

impl Claims {
    pub(crate) fn join(&self, txn: &mut Txn) {
        txn.preconditions.extend(self.ranges.iter().cloned());
        for (key, value) in &self.claimed {
            txn.preconditions.push(Precondition::Absent(key.clone()));
            txn.ops.push(Op::Put { key: key.clone(), value: value.clone() });
        }
        txn.ops.extend(self.released.iter().map(|key| Op::Delete { key: key.clone() }));
    }

    /// Takes back what the server chose, so that the next attempt chooses anew.
    pub(crate) fn forget_chosen(object: &mut Value, claims: &Self) {
        let mut kept = texts(&object["spec"], "clusterIPs");
        kept.retain(|address| !claims.chosen_addresses.contains(address));
        if !claims.chosen_addresses.is_empty()
            && let Some(spec) = object["spec"].as_object_mut()
        {
            if kept.is_empty() {
                spec.remove("clusterIP");
            }
            spec.insert("clusterIPs".into(), kept.into());
        }
        for index in &claims.chosen_ports {
            object["spec"]["ports"][*index].as_object_mut().map(|port| port.remove("nodePort"));
        }
    }
}

fn is_service(kind: &Kind) -> bool {
    kind.names().group.is_empty() && kind.names().plural == "services"
}

fn address_key(cluster: &ClusterName, address: &str) -> Key {
    Key::new(cluster, &GroupResource::new("networking.k8s.io", "ipaddresses"), "", address)
}

/// Not a served resource: the record that a node port is taken. Nodes are the host's, so their ports are shared by all clusters.
pub(crate) fn port_key(port: u64) -> Key {
    Key::new(&ClusterName::root(), &GroupResource::new("", "servicenodeports"), "", &port.to_string())
}

/// The addresses a Service has, each spelled as its IPAddress is.
fn addresses(service: &Value) -> BTreeSet<String> {
    let listed = service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let all = listed.chain(service["spec"]["clusterIP"].as_str()).filter(|a| !a.is_empty() && *a != "None");
    all.map(|text| text.parse::<IpAddr>().map_or_else(|_| text.to_owned(), |address| address.to_string())).collect()
}

pub(crate) fn node_ports(service: &Value) -> BTreeSet<u64> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten().filter_map(|p| p["nodePort"].as_u64());
    ports.chain(service["spec"]["healthCheckNodePort"].as_u64()).filter(|p| *p != 0).collect()
}

fn needs_node_ports(service: &Value) -> bool {
    match service["spec"]["type"].as_str() {
        Some("NodePort") => true,
        Some("LoadBalancer") => service["spec"]["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

impl ApiServer {
    /// Fills in a Service's addresses and ports and says what the write has to claim and release.
    pub(crate) async fn allocate(&self, context: &Context<'_>, kind: &Kind, object: &mut Value, old: Option<&Value>) -> Result<Claims, Status> {
        let mut claims = Claims::default();
        if !is_service(kind) {
            return Ok(claims);
        }
        let external = object["spec"]["type"] == "ExternalName";
        let (had_addresses, had_ports) = (old.map(addresses).unwrap_or_default(), old.map(node_ports).unwrap_or_default());
        if external {
            if let Some(spec) = object["spec"].as_object_mut() {
                for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                    spec.remove(field);
                }
            }
        } else {
            self.settle_families(context, kind, object, old)?;
        }
        // What was asked for, with gaps where the server chooses.
        let mut asked = texts(&object["spec"], "clusterIPs");
        asked.resize(texts(&object["spec"], "ipFamilies").len(), String::new());
        if !external {
            self.allocate_addresses(context.cluster, object, &mut claims).await?;
        }
        if needs_node_ports(object) {
            self.allocate_ports(object, &had_ports, &mut claims).await?;
        }
        let name = metadata::text(object, "name").to_owned();
        for address in addresses(object).difference(&had_addresses) {
            let chosen = claims.chosen_addresses.contains(address);
            let range = self.check_address(kind, &name, context.cluster, (address, &asked), chosen).await?;
            claims.ranges.extend(range.seen);
            claims.claimed.push((address_key(context.cluster, address), ip_address(context.now, address, &context.route.namespace, &name)));
        }
        for port in node_ports(object).difference(&had_ports) {
            self.check_port(kind, &name, object, *port).await?;
            claims.claimed.push((port_key(*port), port_record(*port, context.cluster, &context.route.namespace, &name)));
        }
        claims.released.extend(had_addresses.difference(&addresses(object)).map(|address| address_key(context.cluster, address)));
        claims.released.extend(had_ports.difference(&node_ports(object)).map(|port| port_key(*port)));
        Ok(claims)
    }

    /// What goes with a deleted Service.
    pub(crate) fn release(&self, context: &Context<'_>, kind: &Kind, object: &Value) -> Claims {
        let mut claims = Claims::default();
        if is_service(kind) {
            claims.released.extend(addresses(object).iter().map(|address| address_key(context.cluster, address)));
            claims.released.extend(node_ports(object).iter().map(|port| port_key(*port)));
        }
        claims
    }

    /// Decides which families a Service is in.
    fn settle_families(&self, context: &Context<'_>, kind: &Kind, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        // A status or a finalizer is no question of families, whatever the cluster has by now.
        if old.is_some_and(|old| old["spec"] == object["spec"]) {
            return Ok(());
        }
        let settled = service_families::settle(&mut object["spec"], old.map(|old| &old["spec"]), self.service_families(context.cluster));
        let name = metadata::text(object, "name");
        settled.map_err(|errors| Status::invalid(&kind.names().group, &kind.names().kind, name, &errors))
    }

    /// Gives a Service an address of each of its families that it has none of.
    async fn allocate_addresses(&self, cluster: &ClusterName, object: &mut Value, claims: &mut Claims) -> Result<(), Status> {
        let spec = &mut object["spec"];
        let mut addresses = texts(spec, "clusterIPs");
        if spec["clusterIP"] == "None" {
            spec["clusterIPs"] = json!(["None"]);
            return Ok(());
        }
        for family in texts(spec, "ipFamilies").iter().skip(addresses.len()) {
            let free = self.free_address(cluster, family).await?;
            claims.chosen_addresses.insert(free.clone());
            addresses.push(free);
        }
        spec["clusterIP"] = addresses.first().cloned().into();
        spec["clusterIPs"] = addresses.into();
        Ok(())
    }

    /// A free address, of the cluster's own range before others.
    async fn free_address(&self, cluster: &ClusterName, family: &str) -> Result<String, Status> {
        let ranges = self.service_ranges(cluster).await?;
        for range in ranges.into_iter().filter(|range| family_of(&range.net.to_string()) == family) {
            for address in service_ranges::candidates(range.net, || u64::from_le_bytes(clock::random_bytes())) {
                let address = address.to_string();
                if self.store.get(&address_key(cluster, &address)).await.map_err(errors::from_store)?.is_none() {
                    return Ok(address);
                }
            }
        }
        Err(Status::internal("failed to allocate a serviceIP: range is full"))
    }

    /// The range of an address, which nobody has if it is one that was asked for. A chosen one that is gone is chosen anew.
    async fn check_address(
        &self,
        kind: &Kind,
        name: &str,
        cluster: &ClusterName,
        (address, asked): (&str, &[String]),
        chosen: bool,
    ) -> Result<ServiceRange, Status> {
        let path = FieldPath::new("spec.clusterIPs");
        let refuse = |why: &str| {
            let (value, why) = (json!(asked), format!("failed to allocate IP {address}: {why}"));
            Err(Status::invalid(&kind.names().group, &kind.names().kind, name, &vec![FieldError::invalid(&path, value, why)]))
        };
        let Some(range) = self.range_of(cluster, address).await? else {
            return refuse("the provided network does not match the current range");
        };
        if !chosen && self.store.get(&address_key(cluster, address)).await.map_err(errors::from_store)?.is_some() {
            return refuse("provided IP is already allocated");
        }
        Ok(range)
    }

    async fn allocate_ports(&self, object: &mut Value, had: &BTreeSet<u64>, claims: &mut Claims) -> Result<(), Status> {
        let mut taken = node_ports(object);
        let count = object["spec"]["ports"].as_array().map_or(0, Vec::len);
        for index in 0..count {
            let port = &object["spec"]["ports"][index];
            if port["nodePort"].as_u64().unwrap_or(0) != 0 {
                continue;
            }
            // TCP and UDP of one port share a node port, as upstream has it.
            let twin = object["spec"]["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|other| other["port"] == port["port"] && other["protocol"] != port["protocol"] && other["nodePort"].as_u64().unwrap_or(0) != 0);
            let free = match twin.and_then(|twin| twin["nodePort"].as_u64()) {
                Some(port) => port,
                None => self.free_port(&taken, had).await?,
            };
            taken.insert(free);
            claims.chosen_ports.push(index);
            object["spec"]["ports"][index]["nodePort"] = free.into();
        }
        let local = object["spec"]["externalTrafficPolicy"] == "Local" && object["spec"]["type"] == "LoadBalancer";
        if local && object["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
            object["spec"]["healthCheckNodePort"] = self.free_port(&taken, had).await?.into();
        }
        Ok(())
    }

    async fn free_port(&self, taken: &BTreeSet<u64>, had: &BTreeSet<u64>) -> Result<u64, Status> {
        let (first, last) = (u64::from(*self.node_ports.start()), u64::from(*self.node_ports.end()));
        let span = last - first + 1;
        let start = u64::from_le_bytes(clock::random_bytes()) % span;
        for step in 0..span {
            let port = first + (start + step) % span;
            if taken.contains(&port) || had.contains(&port) {
                continue;
            }
            if self.store.get(&port_key(port)).await.map_err(errors::from_store)?.is_none() {
                return Ok(port);
            }
        }
        Err(Status::internal("failed to allocate a nodePort: range is full"))
    }

    async fn check_port(&self, kind: &Kind, name: &str, object: &Value, port: u64) -> Result<(), Status> {
        let index = object["spec"]["ports"].as_array().into_iter().flatten().position(|p| p["nodePort"].as_u64() == Some(port)).unwrap_or(0);
        let path = FieldPath::new("spec.ports").index(index).child("nodePort");
        let refuse = |why: String| Err(Status::invalid(&kind.names().group, &kind.names().kind, name, &vec![FieldError::invalid(&path, port, why)]));
        if u16::try_from(port).map_or(true, |p| !self.node_ports.contains(&p)) {
            return refuse(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.node_ports.start(),
                self.node_ports.end()
            ));
        }
        if self.store.get(&port_key(port)).await.map_err(errors::from_store)?.is_some() {
            return refuse("provided port is already allocated".into());
        }
        Ok(())
    }
}

fn ip_address(now: jiff::Timestamp, address: &str, namespace: &str, service: &str) -> bytes::Bytes {
    let value = json!({
        "kind": "IPAddress", "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address, "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": rfc3339_seconds(now), "generation": 1,
            "labels": { "ipaddress.kubernetes.io/ip-family": family_of(address), "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io" },
        },
        "spec": { "parentRef": { "group": "", "resource": "services", "namespace": namespace, "name": service } },
    });
    object::encode(value.as_object().expect("an object literal"))
}

pub(crate) fn port_record(port: u64, cluster: &ClusterName, namespace: &str, service: &str) -> bytes::Bytes {
    let value = json!({ "kind": "ServiceNodePort", "apiVersion": "v1", "metadata": { "name": port.to_string() }, "service": { "cluster": cluster.as_str(), "namespace": namespace, "name": service } });
    object::encode(value.as_object().expect("an object literal"))
}

impl ApiServer {
    /// Claims node ports for a Service that is written without the pipeline, and writes them into it: those it names if `keep`
    /// and its cluster has them (`had`) or nobody does, else others. `taken` are those claimed so far.
    pub(crate) async fn reclaim_ports(
        &self,
        cluster: &ClusterName,
        service: &mut Value,
        had: &BTreeSet<u64>,
        keep: bool,
        taken: &mut BTreeSet<u64>,
    ) -> Result<Txn, Status> {
        let mut claims = Txn::default();
        for old in node_ports(service) {
            let unclaimed = keep && !taken.contains(&old) && self.store.get(&port_key(old)).await.map_err(errors::from_store)?.is_none();
            let own = keep && had.contains(&old) && !taken.contains(&old);
            let port = if own || unclaimed { old } else { self.free_port(taken, had).await? };
            taken.insert(port);
            if !own {
                claims.preconditions.push(Precondition::Absent(port_key(port)));
            }
            let value = port_record(port, cluster, metadata::text(service, "namespace"), metadata::text(service, "name"));
            claims.ops.push(Op::Put { key: port_key(port), value });
            replace_port(service, old, port);
        }
        Ok(claims)
    }
}

/// Has a Service use one node port instead of another.
fn replace_port(service: &mut Value, old: u64, new: u64) {
    let spec = &mut service["spec"];
    if spec["healthCheckNodePort"].as_u64() == Some(old) {
        spec["healthCheckNodePort"] = new.into();
    }
    for port in spec["ports"].as_array_mut().into_iter().flatten().filter(|port| port["nodePort"].as_u64() == Some(old)) {
        port["nodePort"] = new.into();
    }
}

/// Gives back a node port.
pub(crate) fn port_release(port: u64) -> Op {
    Op::Delete { key: port_key(port) }
}

/// Gives back the node ports of a Service whose whole cluster goes.
pub(crate) fn node_port_releases(service: &Value) -> Vec<Op> {
    node_ports(service).into_iter().map(port_release).collect()
}

/// The claim of an address by a Service that is written without the pipeline (bootstrap).
pub(crate) fn claim(cluster: &ClusterName, address: &str, service: &Value, now: jiff::Timestamp) -> Op {
    Op::Put { key: address_key(cluster, address), value: ip_address(now, address, metadata::text(service, "namespace"), metadata::text(service, "name")) }
}
