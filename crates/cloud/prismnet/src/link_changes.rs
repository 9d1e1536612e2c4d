//! LinkChanges: the kernel's word that a device or an address has changed.
use crate::Error;
use api_meta::IpFamily;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The group of changes to devices (RTMGRP_LINK).
const LINKS: u32 = 0x1;

/// The group of changes to addresses (RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR).
fn addresses(family: &IpFamily) -> u32 {
    match family {
        IpFamily::V4 => 0x10,
        IpFamily::V6 => 0x100,
    }
}

/// Tells when a device or an address of this machine's comes, goes or changes: the kernel drops routes with a link that goes down.
pub(crate) struct LinkChanges {
    socket: AsyncFd<Socket>,
}

impl LinkChanges {
    pub fn open(families: &[IpFamily]) -> Result<Self, Error> {
        let open = || -> std::io::Result<Self> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, families.iter().map(addresses).fold(LINKS, |groups, group| groups | group)))?;
            socket.set_non_blocking(true)?;
            // SAFETY: the socket owns its descriptor, which nobody replaces or closes while it is registered.
            let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(std::io::Error::from)?;
            Ok(Self { socket })
        };
        open().map_err(|source| Error::Netlink { action: "listen to changes of devices".into(), source })
    }

    pub async fn changed(&mut self) {
        let Ok(mut ready) = self.socket.readable().await else { return std::future::pending().await };
        // What it says is looked up anew anyway, also when some of it was lost.
        let _ = ready.try_io(|socket| {
            loop {
                match socket.get_ref().recv_from_full() {
                    Ok(_) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Err(error),
                    Err(_) => return Ok(()),
                }
            }
        });
    }
}
