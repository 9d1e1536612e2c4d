//! Cluster: a whole k8shost, node and all, on a host of its own.
use crate::images::{BUSYBOX, Recipe};
use crate::{Host, Remains, Server, ServerOptions, Tool, binary, wait_until};
use std::process::Command;
use std::time::Duration;

/// What a test finds must not depend on how full the disk of its machine is.
pub(crate) const EVICTION: &str = "eviction-hard=memory.available<10Mi,nodefs.available<1%";

/// A server with a node on a machine of its own. Fields are dropped in this order.
pub struct Cluster {
    pub server: Server,
    pub host: Host,
}

impl Cluster {
    /// Starts a cluster and waits until its node can run pods. It has the image `busybox:1.36`.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As `start`, with arguments for the server.
    pub fn start_with(arguments: &[&str]) -> Self {
        // So that a run that was cut off does not burden the next.
        crate::remove_of_the_dead();
        let host = Host::new();
        let options = ServerOptions {
            arguments: ["--kubelet-arg", EVICTION].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect(),
            network_namespace: Some(host.namespace().to_owned()),
            ..ServerOptions::default()
        };
        let cluster = Self { server: Server::start(options), host };
        cluster.wait_for_node();
        cluster.import(&[BUSYBOX]);
        cluster
    }

    /// As `start`, with these images besides.
    pub fn with_images(recipes: &[Recipe]) -> Self {
        let cluster = Self::start();
        cluster.import(recipes);
        cluster
    }

    /// Waits until the node is ready and the namespace `default` has its service account.
    pub fn wait_for_node(&self) {
        let tool = self.tool();
        wait_until("the node is ready", Duration::from_secs(90), || {
            tool.k("get nodes -o jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}").stdout.contains("True")
        });
        wait_until("the namespace default has its service account", Duration::from_secs(30), || tool.k("get serviceaccount default").success);
    }

    /// kubectl and helm on the cluster's machine.
    pub fn tool(&self) -> Tool {
        self.server.tool()
    }
    /// Programs outside of the cluster, in its network.
    pub fn outside(&self) -> Tool {
        Tool { network_namespace: Some(self.host.network.namespace().to_owned()), ..self.tool() }
    }

    /// Where machines of the same network reach the server.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.host.address, self.server.port)
    }
    /// What lets them join.
    pub fn node_token(&self) -> String {
        let path = self.server.data_dir().join("server/node-token");
        std::fs::read_to_string(path).expect("the server has written its token").trim().to_owned()
    }

    /// Imports images into the node.
    pub fn import(&self, recipes: &[Recipe]) {
        let mut command = Command::new(binary());
        command.args(["image", "import", "--data-dir"]).arg(self.server.data_dir()).args(recipes.iter().map(Recipe::archive));
        let output = command.output().expect("the server's binary runs");
        assert!(output.status.success(), "the images could not be imported: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What the cluster has on this machine now.
    pub fn remains(&self) -> Remains {
        Remains::of(self.server.directory.path(), Some(self.host.namespace()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // The server may be what died; what can be seen is shown.
        let state = self.tool().sh("kubectl --request-timeout=10s get pods,deployments,replicasets,jobs,services -A -o wide; kubectl --request-timeout=10s get events -A --sort-by=.lastTimestamp | tail -40");
        eprintln!("--- the cluster has\n{}{}", state.stdout, state.stderr);
        let containerd = std::fs::read_to_string(self.server.data_dir().join("agent/containerd/containerd.log")).unwrap_or_default();
        let lines: Vec<&str> = containerd.lines().filter(|line| line.contains("level=error") || line.contains("level=warning")).collect();
        eprintln!("--- containerd's last complaints\n{}", lines[lines.len().saturating_sub(15)..].join("\n"));
    }
}
