//! NodeConfig: what a server tells a machine that joins one of its clusters.
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Where a machine gets it, below the address of the cluster.
pub const NODE_CONFIG_PATH: &str = "/v1-k8shost/node-config";
/// Where anybody gets the authority of the server's certificate, PEM.
pub const CA_PATH: &str = "/cacerts";
/// Where a node is led to a cluster's API as its pods reach it: an HTTP/1.1 upgrade, then the bytes of a connection.
pub const TUNNEL_PATH: &str = "/v1-k8shost/tunnel";
/// Where a node's agent leads the server to the socket of a CSI driver, whose name follows: an upgrade like that.
pub const DRIVER_PATH: &str = "/v1-k8shost/csi/";
/// What such requests upgrade to.
pub const TUNNEL_PROTOCOL: &str = "k8shost-tunnel";

/// What a node of a cluster has to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfig {
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: IpNet,
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: IpNet,
    /// The ranges of the second family, where pods and Services have addresses of both.
    #[serde(rename = "secondClusterCIDR", default, skip_serializing_if = "Option::is_none")]
    pub second_cluster_cidr: Option<Ipv6Net>,
    #[serde(rename = "secondServiceCIDR", default, skip_serializing_if = "Option::is_none")]
    pub second_service_cidr: Option<Ipv6Net>,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    /// The addresses that mean virtual clusters on a node.
    #[serde(rename = "virtualClusterCIDR")]
    pub virtual_cluster_cidr: Ipv4Net,
    /// Of that range, the cluster's own, at which its `kubernetes` Service leads to the API; `None`: it is the host
    /// cluster, whose nodes run the pods of virtual clusters too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Where the API answers.
    pub port: u16,
    /// Who is asked for other names than the cluster's, as the server's settings have it; empty: whom the machine asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_forward: Vec<String>,
    /// DNS questions that one address may ask a second; 0: any number.
    #[serde(default)]
    pub dns_rate_limit: u32,
    /// The addresses that Services and Ingresses get, as the server's settings have them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_ip_pool: Vec<String>,
    /// The authority of those who may use the node's own API, and of nodes' certificates. PEM.
    #[serde(rename = "clientCA")]
    pub client_ca_pem: String,
}
