//! Hosts: machines of a test's own, each a network namespace, joined by a network that leads nowhere else.
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A network namespace with a bridge that hosts are plugged into. As a place, it is "outside of the cluster".
#[derive(Debug)]
pub struct Network {
    namespace: String,
    hosts: AtomicU32,
}

/// A machine with an address and a default route, as far as the network goes.
///
/// Processes are put on it with `nsenter --net=`. Not with `ip netns exec`: that mounts a fresh /sys, which hides the
/// cgroups from container runtimes.
#[derive(Debug)]
pub struct Host {
    namespace: String,
    /// E.g. `192.0.2.2`.
    pub address: String,
    pub network: Arc<Network>,
}

/// The gateway's address in its network; hosts have those that follow.
const OUTSIDE: &str = "192.0.2.1";

impl Network {
    pub fn new() -> Arc<Self> {
        let namespace = unique(NETWORK);
        let network = Self { namespace: namespace.clone(), hosts: AtomicU32::new(1) };
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        ip(&["-n", &namespace, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &namespace, "address", "add", &format!("{OUTSIDE}/24"), "dev", "bridge"]);
        ip(&["-n", &namespace, "link", "set", "bridge", "up"]);
        Arc::new(network)
    }
    /// The namespace that is outside of all hosts but can reach them.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    /// A further machine in this network.
    pub fn host(self: &Arc<Self>) -> Host {
        let number = self.hosts.fetch_add(1, Ordering::SeqCst) + 1;
        let host = Host { namespace: unique(HOST), address: format!("192.0.2.{number}"), network: self.clone() };
        let (name, port) = (host.namespace.as_str(), format!("host{number}"));
        ip(&["netns", "add", name]);
        ip(&["-n", name, "link", "set", "lo", "up"]);
        ip(&["-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &self.namespace]);
        ip(&["-n", name, "address", "add", &format!("{}/24", host.address), "dev", "eth0"]);
        ip(&["-n", name, "link", "set", "eth0", "up"]);
        ip(&["-n", &self.namespace, "link", "set", &port, "master", "bridge", "up"]);
        ip(&["-n", name, "route", "add", "default", "via", OUTSIDE]);
        host
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        delete(&self.namespace);
    }
}

impl Host {
    /// A machine in a network of its own.
    #[allow(clippy::new_without_default, reason = "it makes things in the kernel")]
    pub fn new() -> Self {
        Network::new().host()
    }
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    /// Takes the machine off its network, or puts it back.
    pub fn set_connected(&self, connected: bool) {
        ip(&["-n", &self.namespace, "link", "set", "eth0", if connected { "up" } else { "down" }]);
        if connected {
            // The kernel drops the route with the link.
            ip(&["-n", &self.namespace, "route", "replace", "default", "via", OUTSIDE]);
        }
    }
    /// A command that will run on this machine.
    pub fn command(&self, program: &str) -> Command {
        in_namespace(&self.namespace, program.as_ref())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        delete(&self.namespace);
    }
}

/// A command that will run in a network namespace and see everything else as this process does.
pub(crate) fn in_namespace(namespace: &str, program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program);
    command
}

/// How namespaces are called: this, the test's process id, a number.
pub(crate) const NETWORK: &str = "kh-net-";
pub(crate) const HOST: &str = "kh-host-";

/// A name that no other test on this machine uses.
fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst))
}

pub(crate) fn delete(namespace: &str) {
    // A test that panics still has to clean up what there is, so this complains and goes on.
    match Command::new("ip").args(["netns", "delete", namespace]).output() {
        Ok(output) if output.status.success() => {}
        other => eprintln!("the network namespace {namespace} could not be removed: {other:?}"),
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {} failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_reach_each_other_and_leave_nothing() {
        let names = {
            let network = Network::new();
            let (one, two) = (network.host(), network.host());
            let reach = |from: &Host, to: &str| from.command("busybox").args(["ping", "-c1", "-W2", to]).output().is_ok_and(|output| output.status.success());
            assert!(reach(&one, &two.address) && reach(&two, OUTSIDE));
            two.set_connected(false);
            assert!(!reach(&one, &two.address));
            two.set_connected(true);
            assert!(reach(&two, &one.address));
            [network.namespace().to_owned(), one.namespace().to_owned(), two.namespace().to_owned()]
        };
        for name in names {
            assert!(!std::path::Path::new("/run/netns").join(&name).exists(), "{name} is left");
        }
    }
}
