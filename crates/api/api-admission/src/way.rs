//! Way: in whose name this server connects to where a cluster's objects lead it, and how far that gets.
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// The way out for one cluster.
///
/// The objects of a virtual cluster can name any address; what its own pods can't reach, it shall not reach through
/// this server either. On a machine with pods the network tells by the mark; this server's own addresses are never meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Wherever the machine gets.
    Host,
    Tenant {
        /// By which the machine's network knows whose connection it is; `None` on a machine without pods.
        mark: Option<u32>,
        /// The machine's own address.
        server: IpAddr,
    },
}

impl Way {
    /// Connects to the first address of `host` that is allowed and answers.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let Self::Tenant { .. } = self else { return TcpStream::connect((host, port)).await };
        let mut last = None;
        for address in lookup_host((host, port)).await? {
            match self.connect_to(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host")))
    }

    pub async fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let Self::Tenant { mark, server } = self else { return TcpStream::connect(address).await };
        // On a machine with pods the mark keeps tenants from all of its addresses; on one without nothing else would.
        if !is_allowed(address.ip(), *server) || mark.is_none() && is_of_this_machine(address)? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "connect: address not allowed"));
        }
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(mark) = mark {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, mark)?;
        }
        socket.connect(address).await
    }
}

/// Whether an address is one of this machine's, whichever device has it: packets to those leave from the address itself. Nothing is sent.
fn is_of_this_machine(address: SocketAddr) -> io::Result<bool> {
    let any: SocketAddr = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket.local_addr()?.ip() == address.ip())
}

fn is_allowed(address: IpAddr, server: IpAddr) -> bool {
    let plain = match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    };
    let special = match plain {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified(),
    };
    !special && plain != server
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_is_never_led_to_the_server_itself() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tenant = Way::Tenant { mark: None, server: "192.0.2.1".parse().unwrap() };
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::ffff:127.0.0.1", "169.254.169.254", "192.0.2.1"] {
            let error = tenant.connect(host, port).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{host}");
        }
        Way::Host.connect("127.0.0.1", port).await.unwrap();
    }

    #[test]
    fn an_address_of_the_machine_is_known_by_the_way_there() {
        assert!(is_of_this_machine("127.0.0.1:1".parse().unwrap()).unwrap());
        // Wherever packets for elsewhere would leave from is an address of the machine that no setting names.
        let leaving = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        if leaving.connect("192.0.2.77:9").is_ok() {
            let own = leaving.local_addr().unwrap().ip();
            assert!(is_of_this_machine((own, 6443).into()).unwrap() && !is_of_this_machine("192.0.2.77:9".parse().unwrap()).unwrap());
        }
    }
}
