//! UdpPort: a socket that knows at which of this machine's addresses it was asked, and answers from there.
use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

pub struct UdpPort {
    socket: UdpSocket,
    /// The one address it is bound to; `None`: all of IPv4, and the kernel tells which was asked.
    only: Option<IpAddr>,
}

impl UdpPort {
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address).await?;
        let only = (address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED)).then_some(address.ip());
        if only.is_none() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        Ok(Self { socket, only })
    }

    /// The next datagram: its length, who sent it, and to which address.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, IpAddr)> {
        if let Some(only) = self.only {
            let (length, client) = self.socket.recv_from(buffer).await?;
            return Ok((length, client, only));
        }
        self.socket.async_io(Interest::READABLE, || self.receive_now(buffer)).await
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, IpAddr)> {
        let (mut parts, mut space) = ([IoSliceMut::new(buffer)], cmsg_space!(in_pktinfo));
        let message = recvmsg::<SockaddrIn>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
        let asked = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())),
            _ => None,
        });
        let (Some(client), Some(asked)) = (message.address, asked) else {
            return Err(io::Error::other("the kernel did not tell where a datagram came from and went to"));
        };
        Ok((message.bytes, SocketAddr::V4(SocketAddrV4::new(client.ip(), client.port())), IpAddr::V4(asked)))
    }

    /// Sends to `client` from the address it asked.
    pub async fn send(&self, bytes: &[u8], client: SocketAddr, from: IpAddr) -> io::Result<()> {
        match (self.only, client, from) {
            (None, SocketAddr::V4(client), IpAddr::V4(from)) => self.socket.async_io(Interest::WRITABLE, || self.send_now(bytes, client, from)).await,
            _ => self.socket.send_to(bytes, client).await.map(|_| ()),
        }
    }

    fn send_now(&self, bytes: &[u8], client: SocketAddrV4, from: Ipv4Addr) -> io::Result<()> {
        let address = in_addr { s_addr: u32::from_ne_bytes(from.octets()) };
        let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: in_addr { s_addr: 0 } };
        let (parts, control) = ([IoSlice::new(bytes)], [ControlMessage::Ipv4PacketInfo(&info)]);
        sendmsg(self.socket.as_raw_fd(), &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&SockaddrIn::from(client)))?;
        Ok(())
    }
}
