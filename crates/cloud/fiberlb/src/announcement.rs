//! Announcement: tells the machines of a link that an address is found at this one (gratuitous ARP, RFC 5227).
use std::io;
use std::net::Ipv4Addr;

const ETHERTYPE_ARP: u16 = 0x0806;
/// An ARP packet for Ethernet and IPv4.
const LENGTH: usize = 28;

/// Sends one announcement out of a device with this index and hardware address.
pub fn announce(device: u32, hardware: [u8; 6], address: Ipv4Addr) -> io::Result<()> {
    // SAFETY: a plain system call; the descriptor is owned from here on.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else has it.
    let socket = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) };
    let packet = packet(hardware, address);
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = ETHERTYPE_ARP.to_be();
    to.sll_ifindex = device as i32;
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&[0xff; 6]);
    // SAFETY: both pointers lead to values of the lengths given, which live until the call ends.
    let sent = unsafe {
        libc::sendto(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request for the sender's own address, which no one answers and everybody notes.
fn packet(hardware: [u8; 6], address: Ipv4Addr) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    // Ethernet, IPv4, their lengths, request.
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&hardware);
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..28].copy_from_slice(&address.octets());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_for_its_own_address() {
        let packet = packet([2, 0, 0, 0, 0, 9], Ipv4Addr::new(192, 0, 2, 50));
        assert_eq!(packet, [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 50, 0, 0, 0, 0, 0, 0, 192, 0, 2, 50]);
    }
}
