//! Engine: what makes ports real. The native one uses the kernel's own devices; another may drive OVN.
use crate::{Error, NetworkNamespace, PortPlan};

/// Makes ports, takes them away and looks after them. Every call may be repeated.
pub trait Engine {
    /// Makes the port, or leaves it alone if it is already as planned. Returns the node end's hardware address.
    fn attach(&self, port: &PortPlan, namespace: &NetworkNamespace) -> Result<[u8; 6], Error>;

    /// Takes the port away by its node end's name; none there is fine.
    fn detach(&self, host_interface: &str) -> Result<(), Error>;

    /// Whether the port is as planned.
    ///
    /// # Errors
    /// `Error::Port` says what is not.
    fn check(&self, port: &PortPlan, namespace: &NetworkNamespace) -> Result<[u8; 6], Error>;

    /// Whether ports can be made at all: the node's router is there.
    fn ready(&self, router: &str, gateways: &[std::net::IpAddr]) -> Result<(), Error>;
}
