//! TLS names: which cluster a connection means by the name its client asked for, and the certificate that is shown for it.
use crate::server::ApiServer;
use api_meta::ClusterName;
use clock::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;
use pki::{CertificateAuthority, LeafRequest, Renewable};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a certificate for names lasts. It is made when somebody asks for it, and again after two thirds of its time.
const LASTS: Duration = Duration::from_hours(24 * 90);

/// INVARIANT: a name means one cluster until that gives it up or is gone; the server's own mean none.
#[derive(Default)]
pub(crate) struct Names {
    owners: HashMap<String, ClusterName>,
    of_cluster: HashMap<ClusterName, Vec<String>>,
}

impl Names {
    /// Has these names, and no others, mean the cluster, unless they mean another. Addresses and wildcards are no names that clients ask for.
    pub fn set(&mut self, cluster: &ClusterName, wanted: &[String], own: &HashSet<String>) {
        self.remove(cluster);
        let free = |name: &String| !own.contains(name) && !self.owners.contains_key(name) && name.parse::<IpAddr>().is_err() && !name.contains('*');
        let had: Vec<String> = wanted.iter().filter(|name| free(name)).cloned().collect();
        for name in &had {
            self.owners.insert(name.clone(), cluster.clone());
        }
        if !had.is_empty() {
            self.of_cluster.insert(cluster.clone(), had);
        }
    }

    pub fn remove(&mut self, cluster: &ClusterName) {
        for name in self.of_cluster.remove(cluster).unwrap_or_default() {
            self.owners.remove(&name);
        }
    }

    pub fn find(&self, name: &str) -> Option<&ClusterName> {
        if self.owners.is_empty() {
            return None;
        }
        self.owners.get(&name.to_ascii_lowercase())
    }

    pub fn of(&self, cluster: &ClusterName) -> &[String] {
        self.of_cluster.get(cluster).map_or(&[], Vec::as_slice)
    }
}

/// The certificates shown for names: one for each cluster that was asked for by one.
pub struct NamedCertificates {
    authority: CertificateAuthority,
    clock: Arc<dyn Clock>,
    made: Mutex<HashMap<ClusterName, Made>>,
}

struct Made {
    names: Vec<String>,
    renew: Timestamp,
    certificate: Arc<Renewable>,
}

impl NamedCertificates {
    /// Signed by the authority that signs the server's own.
    pub fn new(authority: CertificateAuthority, clock: Arc<dyn Clock>) -> Self {
        Self { authority, clock, made: Mutex::default() }
    }

    fn of(&self, cluster: &ClusterName, names: &[String]) -> Result<Arc<Renewable>, pki::PkiError> {
        let now = self.clock.now();
        let mut made = self.made.lock();
        if let Some(found) = made.get(cluster).filter(|found| found.names == names && found.renew > now) {
            return Ok(found.certificate.clone());
        }
        let request = LeafRequest {
            common_name: cluster.to_string(),
            organizations: vec![],
            dns_names: names.to_vec(),
            ip_addresses: vec![],
            server: true,
            client: false,
            validity: LASTS,
        };
        let certificate = Renewable::new(&self.authority.issue(&request, &*self.clock)?)?;
        let renew = now.checked_add(jiff::SignedDuration::try_from(LASTS * 2 / 3).unwrap_or_default()).unwrap_or(Timestamp::MAX);
        // Clusters that are gone, or have other names, need none.
        made.retain(|_, made| made.renew > now);
        made.insert(cluster.clone(), Made { names: names.to_vec(), renew, certificate: certificate.clone() });
        Ok(certificate)
    }

    pub(crate) fn forget(&self, cluster: &ClusterName) {
        self.made.lock().remove(cluster);
    }
}

impl ApiServer {
    /// The certificate to show to a client that asks for this name, if it means a virtual cluster.
    pub fn certificate_for(&self, name: &str) -> Option<Arc<Renewable>> {
        let (cluster, names) = self.tenants.named(name)?;
        match self.tenancy.certificates.of(&cluster, &names) {
            Ok(certificate) => Some(certificate),
            Err(error) => {
                tracing::error!(%cluster, error = &error as &dyn std::error::Error, "no certificate could be made for the cluster's names");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_who_had_it_first_until_they_give_it_up_and_never_whoever_takes_the_servers() {
        let cluster = |name: &str| ClusterName::hosted("team", name).unwrap();
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let own: HashSet<String> = ["localhost".to_owned()].into();
        let mut known = Names::default();
        known.set(&cluster("a"), &names(&["a.example.com", "localhost", "192.0.2.1", "*.example.com"]), &own);
        known.set(&cluster("b"), &names(&["a.example.com", "b.example.com"]), &own);
        assert_eq!((known.find("A.Example.com"), known.find("b.example.com")), (Some(&cluster("a")), Some(&cluster("b"))));
        assert_eq!((known.find("localhost"), known.find("192.0.2.1"), known.find("*.example.com")), (None, None, None));
        assert_eq!(known.of(&cluster("b")), names(&["b.example.com"]));
        known.set(&cluster("a"), &[], &own);
        assert_eq!(known.find("a.example.com"), None);
        known.set(&cluster("b"), &names(&["a.example.com", "b.example.com"]), &own);
        assert_eq!(known.find("a.example.com"), Some(&cluster("b")));
        known.remove(&cluster("b"));
        assert!(known.owners.is_empty() && known.of_cluster.is_empty());
    }
}
