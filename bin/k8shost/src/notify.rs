//! Tells systemd what the service is doing (sd_notify), when there is one to tell.
use std::os::unix::net::UnixDatagram;

/// Sends a state such as `READY=1` or `STOPPING=1`; without NOTIFY_SOCKET it does nothing.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> std::io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        let text = path.to_string_lossy();
        if let Some(name) = text.strip_prefix('@') {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())?;
            socket.send_to_addr(state.as_bytes(), &address)?;
        } else {
            socket.send_to(state.as_bytes(), &path)?;
        }
        Ok(())
    };
    if let Err(error) = send() {
        tracing::warn!(%error, "the service manager could not be told {state:?}");
    }
}
