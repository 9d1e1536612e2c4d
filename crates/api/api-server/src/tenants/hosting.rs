//! Making, changing and taking away virtual clusters.
use super::snapshot::SnapshotError;
use super::{Tenant, TenantRecord};
use crate::allocate;
use crate::bootstrap::Bootstrap;
use crate::server::ApiServer;
use crate::stored::stored;
use api_meta::{ClusterAccess, ClusterName, ClusterSettings, KeyPair};
use ipnet::IpNet;
use pki::{CertificateAuthority, LeafRequest};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{Key, Op, Precondition, RangeRequest, Record, Scope, StoreError, Txn};

/// How long an administrator's certificate lasts.
const YEAR: Duration = Duration::from_hours(24 * 365);
/// Records deleted in one transaction, so that others get their turn between.
pub(super) const AT_ONCE: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// What is asked for can't be; the message says why.
    #[error("{0}")]
    Refused(String),
    #[error("the cluster's data could not be read or written")]
    Store(#[from] StoreError),
    #[error("the cluster's record can't be read")]
    Damaged(#[from] serde_json::Error),
    #[error("the cluster's certificates")]
    Certificates(#[from] pki::PkiError),
    #[error("the cluster's authority")]
    Authority(#[from] api_auth::AuthError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Something that a restore has to create again could not be created yet.
    #[error("{path} could not be asked to create what the snapshot holds: {told}")]
    Unsettled { path: String, told: String },
}

pub(super) fn refused(why: impl Into<String>) -> ClusterError {
    ClusterError::Refused(why.into())
}

impl ApiServer {
    /// Serves the clusters that the store holds.
    pub(crate) async fn load_tenants(&self) -> Result<(), ClusterError> {
        let scope = Scope::AllClusters(TenantRecord::resource());
        for record in self.store.range(RangeRequest { scope, after: None, limit: 0, revision: None }).await?.records {
            let tenant = TenantRecord::decode(&record)?;
            match ClusterName::parse(record.key.cluster()) {
                // Its pods may still be there, and mean it by its number.
                _ if tenant.removed => self.tenants.reserve(tenant.number),
                Ok(cluster) => drop(self.serve_tenant(&cluster, &tenant)?),
                Err(why) => return Err(refused(why)),
            }
        }
        Ok(())
    }

    fn serve_tenant(&self, cluster: &ClusterName, record: &TenantRecord) -> Result<Arc<Tenant>, ClusterError> {
        if self.tenants.get(cluster).is_none() {
            self.authentication.add_authority(cluster, &record.client_ca.certificate_pem)?;
        }
        Ok(self.tenants.insert(cluster.clone(), record))
    }

    /// Makes the cluster if it is not there, whole or not at all, and serves it by these settings from now on.
    pub async fn open_cluster(self: &Arc<Self>, cluster: &ClusterName, settings: ClusterSettings) -> Result<ClusterAccess, ClusterError> {
        if cluster.host_object().is_none() {
            return Err(refused(format!("{cluster} is no virtual cluster")));
        }
        let key = TenantRecord::key(cluster);
        let mut record = match self.store.get(&key).await? {
            Some(found) => self.change_cluster(cluster, &found, settings).await?,
            None => self.make_cluster(cluster, key.clone(), settings).await?,
        };
        self.serve_tenant(cluster, &record)?;
        // From here on nobody changes a paused cluster, and what is found now is all there is.
        if record.settings.paused {
            self.hold_pods(cluster).await?;
        }
        if record.held && !record.settings.paused {
            self.let_pods_go(cluster).await?;
            record.held = false;
            self.write_record(&key, &record).await?;
        }
        if record.unsettled {
            self.create_waiting(cluster).await?;
            record.unsettled = false;
            self.write_record(&key, &record).await?;
        }
        self.cluster_access(cluster, &record)
    }

    /// Has a cluster be as other settings say, and hold what they say.
    async fn change_cluster(self: &Arc<Self>, cluster: &ClusterName, found: &Record, settings: ClusterSettings) -> Result<TenantRecord, ClusterError> {
        let mut record = TenantRecord::decode(found)?;
        if record.removed {
            return Err(refused("a cluster of this name is still being removed"));
        }
        let wanted = settings.restore.clone().filter(|wanted| record.restored.as_ref() != Some(&wanted.request));
        let before = (record.settings.clone(), record.restored.clone());
        record.held |= settings.paused;
        record.restored = settings.restore.as_ref().map(|restore| restore.request.clone());
        record.settings = settings;
        if let Some(wanted) = wanted {
            let snapshot = self.read_snapshot(&wanted.snapshot).await?;
            record.unsettled = true;
            self.restore(cluster, &snapshot, &record, Precondition::AtRevision(found.key.clone(), found.mod_revision)).await?;
        } else if before != (record.settings.clone(), record.restored.clone()) {
            let preconditions = vec![Precondition::AtRevision(found.key.clone(), found.mod_revision)];
            self.store.txn(Txn { preconditions, ops: vec![Op::Put { key: found.key.clone(), value: record.encode() }] }).await?;
        }
        Ok(record)
    }

    /// Writes what was done of a cluster. Only whoever manages clusters writes their records, one at a time.
    async fn write_record(&self, key: &Key, record: &TenantRecord) -> Result<(), ClusterError> {
        let txn = Txn { preconditions: vec![Precondition::Exists(key.clone())], ops: vec![Op::Put { key: key.clone(), value: record.encode() }] };
        Ok(self.store.txn(txn).await.map(drop)?)
    }

    /// The cluster's first objects and its record, in one transaction.
    async fn make_cluster(self: &Arc<Self>, cluster: &ClusterName, key: Key, mut settings: ClusterSettings) -> Result<TenantRecord, ClusterError> {
        let snapshot = match &settings.restore {
            Some(restore) => Some(self.read_snapshot(&restore.snapshot).await?),
            None => None,
        };
        // Services keep their addresses, wherever nothing else is asked for.
        if let (Some(snapshot), None) = (&snapshot, settings.service_cidr) {
            settings.service_cidr = Some(snapshot.header.service_cidr);
            settings.cluster_dns.get_or_insert(snapshot.header.cluster_dns);
        }
        let (service_cidr, cluster_dns) = addresses(&settings, self.service_cidr)?;
        let client_ca = match &settings.client_ca {
            Some(given) => given.clone(),
            None => {
                let authority = CertificateAuthority::generate(&format!("{cluster}-client-ca"), &*self.clock)?;
                KeyPair { certificate_pem: authority.certificate_pem().to_owned(), key_pem: authority.key_pem() }
            }
        };
        CertificateAuthority::from_pem(&client_ca.certificate_pem, &client_ca.key_pem)?;
        // What a request that was late for an earlier cluster of this name has left behind is nobody's.
        self.sweep(cluster, &key, Precondition::Absent(key.clone())).await?;
        let number = self.tenants.free_number().ok_or_else(|| refused("the range of cluster addresses is full"))?;
        let (held, restored) = (settings.paused, settings.restore.as_ref().map(|restore| restore.request.clone()));
        let record = TenantRecord { number, settings, service_cidr, cluster_dns, client_ca, removed: false, held, restored, unsettled: snapshot.is_some() };
        // Nodes are told of its objects as they are written.
        self.tenants.will_run(cluster, record.settings.own_nodes);
        let written = match &snapshot {
            Some(snapshot) => self.restore(cluster, snapshot, &record, Precondition::Absent(key)).await,
            None => self.write_first(cluster, key, &record).await,
        };
        if written.is_err() {
            self.tenants.release(number);
        }
        written.map(|()| record)
    }

    async fn write_first(&self, cluster: &ClusterName, key: Key, record: &TenantRecord) -> Result<(), ClusterError> {
        let mut ops = self.first_writes(cluster, record)?;
        ops.push(Op::Put { key: key.clone(), value: record.encode() });
        self.store.txn(Txn { preconditions: vec![Precondition::Absent(key)], ops }).await?;
        Ok(())
    }

    /// Where a cluster's API and DNS are.
    pub(super) fn start_of(&self, record: &TenantRecord) -> Result<Bootstrap, ClusterError> {
        let TenantRecord { number, service_cidr, cluster_dns, .. } = *record;
        // Pods reach their cluster at its own address, on whichever machine they are.
        let endpoint = self.tenants.address(number).map_or(self.tenancy.server, IpAddr::V4);
        Ok(Bootstrap {
            service_address: nth(service_cidr, 1).ok_or_else(|| refused("the Service range is empty"))?,
            service_cidrs: vec![service_cidr],
            client_ca_pem: record.client_ca.certificate_pem.clone(),
            advertise_address: endpoint,
            port: self.tenancy.port,
            objects: (self.tenancy.dns_objects)(cluster_dns, endpoint),
            shared: Vec::new(),
        })
    }

    fn cluster_access(&self, cluster: &ClusterName, record: &TenantRecord) -> Result<ClusterAccess, ClusterError> {
        let authority = CertificateAuthority::from_pem(&record.client_ca.certificate_pem, &record.client_ca.key_pem)?;
        let request = LeafRequest {
            common_name: "system:admin".into(),
            organizations: vec![api_auth::MASTERS.to_owned()],
            dns_names: vec![],
            ip_addresses: vec![],
            server: false,
            client: true,
            validity: YEAR,
        };
        let administrator = authority.issue(&request, &*self.clock)?;
        Ok(ClusterAccess {
            host: self.advertised.clone(),
            path: format!("/clusters/{cluster}"),
            server_ca_pem: self.tenancy.server_ca_pem.clone(),
            administrator: KeyPair { certificate_pem: administrator.certificate_pem, key_pem: administrator.key_pem },
            address: self.tenants.address(record.number).map(IpAddr::V4),
            service_cidr: record.service_cidr,
            cluster_dns: record.cluster_dns,
            tls_names: self.tenants.names_of(cluster),
        })
    }

    /// Takes the cluster away with all it holds, whatever finalizers say. What is gone already is no error.
    pub async fn remove_cluster(&self, cluster: &ClusterName) -> Result<(), ClusterError> {
        let key = TenantRecord::key(cluster);
        let Some(found) = self.store.get(&key).await? else { return Ok(()) };
        let mut record = TenantRecord::decode(&found)?;
        if !record.removed {
            // From here on nobody is let in, also not after a crash; what follows can be done again.
            record.removed = true;
            self.store.txn(Txn { preconditions: vec![], ops: vec![Op::Put { key: key.clone(), value: record.encode() }] }).await?;
        }
        self.tenants.remove(cluster);
        self.tenancy.certificates.forget(cluster);
        self.authentication.remove_authority(cluster);
        self.sweep(cluster, &key, Precondition::Exists(key.clone())).await?;
        self.store.txn(Txn { preconditions: vec![], ops: vec![Op::Delete { key }] }).await?;
        self.tenants.release(record.number);
        Ok(())
    }

    /// Deletes all that a cluster holds, marks of what it had deleted included, but its record, as long as that is there or not, as it has to be.
    async fn sweep(&self, cluster: &ClusterName, record_key: &Key, holds: Precondition) -> Result<(), ClusterError> {
        loop {
            let scope = Scope::Cluster(cluster.clone());
            let found = self.tenancy.records.range(RangeRequest { scope, after: None, limit: AT_ONCE, revision: None }).await?;
            let mut ops: Vec<Op> =
                found.records.iter().filter(|record| record.key != *record_key).map(|record| Op::Delete { key: record.key.clone() }).collect();
            if ops.is_empty() {
                return Ok(());
            }
            for record in found.records.iter().filter(|record| record.key.resource() == "services" && record.key.group().is_empty()) {
                ops.extend(allocate::node_port_releases(&stored(record).object.to_value()));
            }
            self.tenancy.records.txn(Txn { preconditions: vec![holds.clone()], ops }).await?;
        }
    }
}

/// The Service range and the DNS address that a cluster is made with.
fn addresses(settings: &ClusterSettings, default: IpNet) -> Result<(IpNet, IpAddr), ClusterError> {
    let range = settings.service_cidr.unwrap_or(default).trunc();
    match range {
        IpNet::V4(range) if (8..=28).contains(&range.prefix_len()) => {}
        _ => return Err(refused(format!("serviceCIDR {range}: Services have IPv4 addresses of a range between /8 and /28"))),
    }
    let dns = settings.cluster_dns.or_else(|| nth(range, 10)).ok_or_else(|| refused(format!("serviceCIDR {range} is too small")))?;
    if !range.contains(&dns) || Some(dns) == nth(range, 1) || dns == range.network() || dns == range.broadcast() {
        return Err(refused(format!("clusterDNS {dns} is not an address of the Service range {range} that can be had")));
    }
    Ok((range, dns))
}

fn nth(range: IpNet, n: u32) -> Option<IpAddr> {
    match range {
        IpNet::V4(range) => {
            let address = std::net::Ipv4Addr::from(u32::from(range.network()).checked_add(n)?);
            range.contains(&address).then_some(IpAddr::V4(address))
        }
        IpNet::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_get_the_range_asked_for_or_the_hosts() {
        let made = |range: Option<&str>, dns: Option<&str>| {
            let settings =
                ClusterSettings { service_cidr: range.map(|r| r.parse().unwrap()), cluster_dns: dns.map(|d| d.parse().unwrap()), ..Default::default() };
            addresses(&settings, "10.96.0.0/12".parse().unwrap()).map(|(range, dns)| format!("{range} {dns}")).map_err(|error| error.to_string())
        };
        assert_eq!(made(None, None).unwrap(), "10.96.0.0/12 10.96.0.10");
        assert_eq!(made(Some("10.43.7.9/16"), None).unwrap(), "10.43.0.0/16 10.43.0.10");
        assert_eq!(made(Some("10.43.0.0/16"), Some("10.43.0.53")).unwrap(), "10.43.0.0/16 10.43.0.53");
        for (range, dns) in [(Some("10.43.0.0/30"), None), (Some("fd00::/112"), None), (None, Some("192.0.2.1")), (None, Some("10.96.0.1"))] {
            assert!(made(range, dns).is_err(), "{range:?} {dns:?}");
        }
    }
}
