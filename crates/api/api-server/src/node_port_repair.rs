//! Node port repair: when the server starts, each node port of a Service is recorded as that Service's, and no record is left over.
//!
//! Source: upstream's portallocator repair controller. Every write of a Service keeps the records right, in its own
//! transaction; what is mended here was changed below the server, or by one that did not know of records.
use crate::allocate::{node_ports, port_key, port_record};
use crate::in_process::InProcess;
use crate::server::ApiServer;
use crate::stored::stored;
use crate::{errors, metadata};
use api_auth::{MASTERS, User};
use api_meta::{ClusterName, GroupResource, Status};
use bytes::Bytes;
use clock::rfc3339_seconds;
use http::{Request, header};
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use store::{Key, Op, Precondition, RangeRequest, Revision, Scope, StoreError, Txn};
use tower::Service;

/// Whose a port is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    cluster: String,
    namespace: String,
    name: String,
}

#[derive(Debug, PartialEq)]
enum Repair {
    /// The record is the Service's from now on.
    Record(u64, Holder),
    /// Nobody has the port.
    Release(u64),
    Warn(Holder, &'static str, String),
}

/// What has to be done, given the ports of all Services and who is recorded as theirs.
fn plan(services: &BTreeMap<Holder, BTreeSet<u64>>, records: &BTreeMap<u64, Holder>, range: &RangeInclusive<u16>) -> Vec<Repair> {
    let has = |holder: &Holder, port: &u64| services.get(holder).is_some_and(|ports| ports.contains(port));
    let mut repairs = Vec::new();
    let mut taken: BTreeSet<u64> = BTreeSet::new();
    for (holder, ports) in services {
        for port in ports {
            let warn = |reason, message| Repair::Warn(holder.clone(), reason, message);
            if !u16::try_from(*port).is_ok_and(|port| range.contains(&port)) {
                let message = format!("Port {port} is not within the port range {}-{}; please recreate service", range.start(), range.end());
                repairs.push(warn("PortOutOfRange", message));
                continue;
            }
            let recorded = records.get(port).filter(|recorded| has(recorded, port));
            if recorded == Some(holder) {
                continue;
            }
            if recorded.is_some() || !taken.insert(*port) {
                repairs.push(warn("PortAlreadyAllocated", format!("Port {port} was assigned to multiple services; please recreate service")));
                continue;
            }
            repairs.push(Repair::Record(*port, holder.clone()));
        }
    }
    let held: BTreeSet<&u64> = services.values().flatten().collect();
    repairs.extend(records.keys().filter(|port| !held.contains(port)).map(|port| Repair::Release(*port)));
    repairs
}

/// What was found, and at which revisions.
#[derive(Default)]
struct Found {
    services: BTreeMap<Holder, BTreeSet<u64>>,
    service_keys: BTreeMap<Holder, (Key, Revision)>,
    records: BTreeMap<u64, Holder>,
    record_keys: BTreeMap<u64, (Key, Revision)>,
}

/// Looks once, and mends what it finds.
pub async fn repair_node_ports(server: Arc<ApiServer>) {
    let mended = async {
        let found = Found::of(&server).await?;
        for repair in plan(&found.services, &found.records, &server.node_ports) {
            server.repair_node_port(&found, repair).await?;
        }
        Ok::<(), Status>(())
    };
    if let Err(status) = mended.await {
        tracing::warn!(error = status.message, "node ports could not be repaired");
    }
}

impl Found {
    async fn of(server: &ApiServer) -> Result<Self, Status> {
        let mut found = Self::default();
        let all = |resource: &str| RangeRequest { scope: Scope::AllClusters(GroupResource::new("", resource)), after: None, limit: 0, revision: None };
        // Records first: one whose Service is not there a moment later is of none.
        for record in server.store.range(all("servicenodeports")).await.map_err(errors::from_store)?.records {
            let (Ok(port), Ok(value)) = (record.key.name().parse::<u64>(), serde_json::from_slice::<Value>(&record.value)) else { continue };
            let text = |field: &str| value["service"][field].as_str().unwrap_or_default().to_owned();
            found.records.insert(port, Holder { cluster: text("cluster"), namespace: text("namespace"), name: text("name") });
            found.record_keys.insert(port, (record.key.clone(), record.mod_revision));
        }
        for record in server.store.range(all("services")).await.map_err(errors::from_store)?.records {
            let key = record.key.clone();
            // Most Services have neither nodePort nor healthCheckNodePort, and a parsed form that is kept is many times as large as its text.
            if !stored(&record).object.mentions("odePort") {
                continue;
            }
            let ports = node_ports(&stored(&record).object.to_value());
            if !ports.is_empty() {
                let holder = Holder { cluster: key.cluster().into(), namespace: key.namespace().into(), name: key.name().into() };
                found.service_keys.insert(holder.clone(), (key, record.mod_revision));
                found.services.insert(holder, ports);
            }
        }
        Ok(found)
    }
}

impl ApiServer {
    async fn repair_node_port(self: &Arc<Self>, found: &Found, repair: Repair) -> Result<(), Status> {
        let at = |(key, revision): &(Key, Revision)| Precondition::AtRevision(key.clone(), *revision);
        let record = |port: u64| found.record_keys.get(&port).map_or_else(|| Precondition::Absent(port_key(port)), at);
        let (txn, told) = match repair {
            Repair::Warn(holder, reason, message) => return self.warn_of_service(&holder, reason, &message).await,
            Repair::Record(port, holder) => {
                let Some(service) = found.service_keys.get(&holder) else { return Ok(()) };
                let cluster = ClusterName::parse(&holder.cluster).map_err(Status::internal)?;
                let value = port_record(port, &cluster, &holder.namespace, &holder.name);
                let txn = Txn { preconditions: vec![record(port), at(service)], ops: vec![Op::Put { key: port_key(port), value }] };
                (txn, Some((holder, format!("Port {port} is not allocated; repairing"))))
            }
            Repair::Release(port) => {
                tracing::warn!(port, "a node port that no Service has is recorded as taken; it is given back");
                (Txn { preconditions: vec![record(port)], ops: vec![Op::Delete { key: port_key(port) }] }, None)
            }
        };
        match (self.store.txn(txn).await, told) {
            (Ok(_), Some((holder, message))) => self.warn_of_service(&holder, "PortNotAllocated", &message).await,
            // Whoever wrote the Service meanwhile has written the record too.
            (Ok(_) | Err(StoreError::PreconditionFailed { .. }), _) => Ok(()),
            (Err(error), _) => Err(errors::from_store(error)),
        }
    }

    async fn warn_of_service(self: &Arc<Self>, holder: &Holder, reason: &str, message: &str) -> Result<(), Status> {
        const REPORTER: &str = "portallocator-repair-controller";
        let Holder { cluster, namespace, name } = holder;
        let cluster = ClusterName::parse(cluster).map_err(Status::internal)?;
        let key = Key::new(&cluster, &GroupResource::new("", "services"), namespace, name);
        let Some(record) = self.store.get(&key).await.map_err(errors::from_store)? else { return Ok(()) };
        let uid = metadata::text(&stored(&record).object.to_value(), "uid").to_owned();
        let now = rfc3339_seconds(self.clock.now());
        let event = json!({
            "kind": "Event", "apiVersion": "v1", "metadata": { "generateName": format!("{name}."), "namespace": namespace },
            "involvedObject": { "kind": "Service", "apiVersion": "v1", "namespace": namespace, "name": name, "uid": uid },
            "type": "Warning", "reason": reason, "message": message, "source": { "component": REPORTER },
            "count": 1, "firstTimestamp": now, "lastTimestamp": now,
        });
        let user = Arc::new(User::authenticated("system:apiserver", [MASTERS.to_owned()]));
        let request = Request::post(format!("/api/v1/namespaces/{namespace}/events")).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Full::new(Bytes::from(event.to_string()))).expect("names of objects make a path");
        let Ok(answer) = InProcess::new(self.clone(), cluster, user).call(request).await;
        if !answer.status().is_success() {
            tracing::warn!(namespace, name, reason, message, code = %answer.status(), "an event of a Service could not be written");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str) -> Holder {
        Holder { cluster: "root".into(), namespace: "n".into(), name: name.into() }
    }

    fn planned(services: &[(&str, &[u64])], records: &[(u64, &str)]) -> Vec<String> {
        let services = services.iter().map(|(name, ports)| (holder(name), ports.iter().copied().collect())).collect();
        let records = records.iter().map(|(port, name)| (*port, holder(name))).collect();
        let shown = |repair| match repair {
            Repair::Record(port, holder) => format!("record {port} for {}", holder.name),
            Repair::Release(port) => format!("release {port}"),
            Repair::Warn(holder, reason, message) => format!("{}: {reason} {message}", holder.name),
        };
        plan(&services, &records, &(30000..=30010)).into_iter().map(shown).collect()
    }

    #[test]
    fn every_port_is_its_services_and_nobody_elses() {
        assert_eq!(planned(&[("a", &[30001, 30002])], &[(30001, "a"), (30002, "a")]), Vec::<String>::new());
        assert_eq!(planned(&[("a", &[30001])], &[]), ["record 30001 for a"]);
        assert_eq!(planned(&[("a", &[30001])], &[(30001, "gone")]), ["record 30001 for a"]);
        let twice = "Port 30001 was assigned to multiple services; please recreate service";
        assert_eq!(planned(&[("a", &[30001]), ("b", &[30001])], &[(30001, "b")]), [format!("a: PortAlreadyAllocated {twice}")]);
        assert_eq!(planned(&[("a", &[30001]), ("b", &[30001])], &[]).len(), 2, "the first has it, the other is told");
        assert_eq!(planned(&[], &[(30001, "gone"), (30002, "gone")]), ["release 30001", "release 30002"]);
        assert_eq!(planned(&[("a", &[80])], &[]), ["a: PortOutOfRange Port 80 is not within the port range 30000-30010; please recreate service"]);
    }
}
