//! Views: whose names a client gets, by the address that it asked.
use crate::settings::Listener;
use api_cache::HostedClusters;
use api_meta::ClusterName;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Whom an address means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    Cluster(ClusterName),
    /// An address for virtual clusters that is none's (yet): nothing is known of its names.
    Unknown,
    /// Not one to be asked at.
    Nobody,
}

/// The listeners' own addresses, and those of virtual clusters.
pub struct Views {
    listeners: Vec<Listener>,
    virtual_clusters: Option<(ipnet::Ipv4Net, Arc<HostedClusters>)>,
}

impl Views {
    pub fn new(listeners: Vec<Listener>, virtual_clusters: Option<(ipnet::Ipv4Net, Arc<HostedClusters>)>) -> Self {
        Self { listeners, virtual_clusters }
    }

    /// What to bind: each listener's address, or, where virtual clusters have theirs too, all addresses at its port.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let at = |listener: &Listener| match self.virtual_clusters {
            Some(_) => SocketAddr::from(([0, 0, 0, 0], listener.address.port())),
            None => listener.address,
        };
        let mut addresses: Vec<SocketAddr> = self.listeners.iter().map(at).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    pub fn at(&self, asked: IpAddr, port: u16) -> View {
        // Who stands alone may listen at all addresses.
        let is_asked = |at: SocketAddr| at.port() == port && (at.ip() == asked || at.ip().is_unspecified());
        if let Some(listener) = self.listeners.iter().find(|listener| is_asked(listener.address)) {
            return View::Cluster(listener.cluster.clone());
        }
        match (&self.virtual_clusters, asked) {
            (Some((range, clusters)), IpAddr::V4(asked)) if range.contains(&asked) => clusters.cluster_at(asked).map_or(View::Unknown, View::Cluster),
            _ => View::Nobody,
        }
    }
}
