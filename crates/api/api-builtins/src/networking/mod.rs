//! networking.k8s.io/v1: its kinds, a file each.
mod ingress;
mod ingress_class;
mod ingress_rules;
mod ip_address;
mod network_policy;
mod service_cidr;

pub use ingress::Ingresses;
pub use ingress_class::IngressClasses;
pub use ip_address::IPAddresses;
pub use network_policy::NetworkPolicies;
pub use service_cidr::ServiceCIDRs;
