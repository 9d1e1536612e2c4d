//! The stand: a containerd with one pod, the server over it, and certificates to come in with.
use crate::client::get;
use crate::machine::{BUSYBOX, TestMachine};
use api_meta::ClusterName;
use clock::SystemClock;
use cri::v1::*;
use k8s_openapi::api::core::v1::Pod;
use node_agent::streams::summary::{NodeStats, Summary};
use node_agent::streams::{BackendError, StreamOptions, StreamsBackend, StreamsServer, StreamsSettings};
use pki::{CertificateAuthority, Issued, LeafRequest};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub struct Stand {
    machine: TestMachine,
    pub address: SocketAddr,
    pub authority: CertificateAuthority,
    pub api_server: Issued,
    shutdown: CancellationToken,
    server: tokio::task::JoinHandle<()>,
}

impl Stand {
    pub async fn start() -> Self {
        let machine = TestMachine::start().await;
        machine.import_busybox().await;
        let logs = machine.dir.path().join("logs");
        let sandbox_config = sandbox(&logs);
        let sandbox = machine.runtime.run_pod_sandbox(sandbox_config.clone(), "").await.unwrap();
        let mut statuses = Vec::new();
        for (name, script, stdin) in [("talker", "echo started; echo oops >&2; exec sleep 1000", false), ("reader", "cat; sleep 1000", true)] {
            std::fs::create_dir_all(logs.join(name)).unwrap();
            let config = ContainerConfig {
                metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
                image: Some(cri::image_spec(BUSYBOX)),
                command: vec!["sh".into(), "-c".into(), script.into()],
                log_path: format!("{name}/0.log"),
                stdin,
                ..Default::default()
            };
            let id = machine.runtime.create_container(&sandbox, config, sandbox_config.clone()).await.unwrap();
            machine.runtime.start_container(&id).await.unwrap();
            statuses.push(serde_json::json!({"name": name, "image": BUSYBOX, "imageID": "", "ready": true, "restartCount": 0, "containerID": format!("containerd://{id}"), "state": {"running": {}}}));
        }
        statuses.push(serde_json::json!({"name": "late", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}));
        let containers: Vec<_> = statuses.iter().map(|status| serde_json::json!({"name": status["name"]})).collect();
        let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "default", "uid": "u"}, "spec": {"containers": containers}, "status": {"containerStatuses": statuses}});
        let backend = Backend { runtime: machine.runtime.clone(), pod: Arc::new(serde_json::from_value(pod).unwrap()), sandbox };
        let authority = CertificateAuthority::generate("test-client-ca", &SystemClock).unwrap();
        let serving = issue(&authority, "node", &[], true);
        let settings = StreamsSettings {
            address: "127.0.0.1:0".parse().unwrap(),
            serving: pki::Renewable::new(&serving).unwrap(),
            client_ca_pem: authority.certificate_pem().to_owned(),
        };
        let server = StreamsServer::bind(settings, Arc::new(backend), Arc::new(SystemClock)).await.unwrap();
        let (address, shutdown) = (server.local_address().unwrap(), CancellationToken::new());
        let api_server = issue(&authority, "system:apiserver-kubelet-client", &[], false);
        let server = tokio::spawn(server.run(shutdown.clone()));
        Self { machine, address, authority, api_server, shutdown, server }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.server.await.unwrap();
        self.machine.stop().await;
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
            // Where it is not, there is nothing to remove.
            let _ = std::fs::remove_dir(hierarchy.unwrap().path().join(cgroup()));
        }
        let _ = std::fs::remove_dir(std::path::Path::new("/sys/fs/cgroup").join(cgroup()));
    }
}

fn cgroup() -> String {
    format!("k8shost-streams-test-{}", std::process::id())
}

pub async fn only_the_api_server_comes_in(stand: &Stand) {
    let (status, body) = get(stand, Some(&stand.api_server), "/healthz").await;
    assert_eq!((status, body.as_str()), (200, "ok"));
    assert_eq!(get(stand, None, "/clusters/root/pods").await.0, 401);
    let node = issue(&stand.authority, "system:node:other", &["system:nodes"], false);
    assert_eq!(get(stand, Some(&node), "/containerLogs/default/p/talker").await.0, 403);
    let administrator = issue(&stand.authority, "somebody", &["system:masters"], false);
    let (status, pods) = get(stand, Some(&administrator), "/pods").await;
    assert!(status == 200 && pods.starts_with("{\"apiVersion\":\"v1\"") && pods.contains("\"kind\":\"PodList\""), "{pods}");
    let (status, summary) = get(stand, Some(&administrator), "/stats/summary").await;
    assert!(status == 200 && summary.contains("\"nodeName\":\"node\""), "{summary}");
    assert_eq!(get(stand, Some(&administrator), "/clusters/other/containerLogs/default/p/talker").await, (404, "pod \"p\" does not exist\n".into()));
    assert_eq!(get(stand, Some(&administrator), "/nothing").await.0, 404);
    let stranger = CertificateAuthority::generate("test-client-ca", &SystemClock).unwrap();
    let forged = issue(&stranger, "system:apiserver-kubelet-client", &["system:masters"], false);
    assert!(crate::client::connect(stand, Some(&forged)).await.is_err());
}

fn issue(authority: &CertificateAuthority, name: &str, groups: &[&str], server: bool) -> Issued {
    let request = LeafRequest {
        common_name: name.into(),
        organizations: groups.iter().map(|group| group.to_string()).collect(),
        dns_names: Vec::new(),
        ip_addresses: vec!["127.0.0.1".parse().unwrap()],
        server,
        client: !server,
        validity: Duration::from_secs(3600),
    };
    authority.issue(&request, &SystemClock).unwrap()
}

fn sandbox(logs: &std::path::Path) -> PodSandboxConfig {
    let namespace_options = Some(NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() });
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "default".into(), attempt: 0 }),
        log_directory: logs.to_str().unwrap().into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("/{}", cgroup()),
            security_context: Some(LinuxSandboxSecurityContext { namespace_options, ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

struct Backend {
    runtime: cri::Runtime,
    pod: Arc<Pod>,
    sandbox: String,
}

fn failed(error: cri::CriError) -> BackendError {
    BackendError::Failed(error.to_string())
}

#[async_trait::async_trait]
impl StreamsBackend for Backend {
    fn pod(&self, cluster: &ClusterName, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        (cluster.is_root() && (namespace, name) == ("default", "p")).then(|| self.pod.clone())
    }
    fn pods(&self, _: &ClusterName) -> Vec<Arc<Pod>> {
        vec![self.pod.clone()]
    }
    fn sandbox(&self, _: &ClusterName, _: &Pod) -> Option<String> {
        Some(self.sandbox.clone())
    }
    fn driver(&self, _: &str) -> Option<PathBuf> {
        None
    }
    async fn log_path(&self, container_id: &str) -> Result<PathBuf, BackendError> {
        Ok(self.runtime.container_status(container_id).await.map_err(failed)?.log_path.into())
    }
    async fn stopped(&self, container_id: &str) {
        while self.runtime.container_status(container_id).await.is_ok_and(|status| status.state() == ContainerState::ContainerRunning) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    async fn exec(&self, container_id: &str, command: Vec<String>, options: StreamOptions) -> Result<String, BackendError> {
        let StreamOptions { stdin, stdout, stderr, tty } = options;
        self.runtime.exec(ExecRequest { container_id: container_id.into(), cmd: command, tty, stdin, stdout, stderr }).await.map_err(failed)
    }
    async fn attach(&self, container_id: &str, options: StreamOptions) -> Result<String, BackendError> {
        let StreamOptions { stdin, stdout, stderr, tty } = options;
        self.runtime.attach(AttachRequest { container_id: container_id.into(), stdin, tty, stdout, stderr }).await.map_err(failed)
    }
    async fn port_forward(&self, sandbox_id: &str, ports: Vec<i32>) -> Result<String, BackendError> {
        self.runtime.port_forward(sandbox_id, ports).await.map_err(failed)
    }
    async fn summary(&self, _: &ClusterName) -> Result<Summary, BackendError> {
        Ok(Summary { node: NodeStats { node_name: "node".into(), ..Default::default() }, pods: Vec::new() })
    }
}
