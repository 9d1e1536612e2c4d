//! A driver of devices as somebody else would write it: it publishes some, and prepares claims by descriptions for containers.
use csi::registration::registration_server::{Registration, RegistrationServer};
use csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use dra::v1::dra_plugin_server::{DraPlugin, DraPluginServer};
use dra::v1::*;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use testkit::{Cluster, Tool};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

pub const NAME: &str = "gpu.example";

#[derive(Clone)]
struct Driver {
    socket: PathBuf,
    /// Where descriptions of prepared claims go.
    descriptions: PathBuf,
    kubectl: Arc<Tool>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Serves as long as the value lives.
pub struct Serving {
    _runtime: tokio::runtime::Runtime,
    asked: Arc<Mutex<Vec<String>>>,
    descriptions: PathBuf,
}

impl Serving {
    /// What the driver was asked, in order: `prepare UID` or `unprepare UID`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
    /// How many claims are prepared now.
    pub fn prepared(&self) -> usize {
        std::fs::read_dir(&self.descriptions).into_iter().flatten().count()
    }
}

impl Driver {
    fn description(&self, uid: &str) -> PathBuf {
        self.descriptions.join(format!("{NAME}-{uid}.json"))
    }

    /// The devices of a claim, as the API has them: request and device.
    fn allocated(&self, claim: &Claim) -> Vec<(String, String)> {
        let path = "{range .status.allocation.devices.results[*]}{.request} {.device}{\"\\n\"}{end}";
        let told = self.kubectl.sh(&format!("kubectl get resourceclaim {} -n {} -o jsonpath='{path}'", claim.name, claim.namespace)).ok();
        told.lines().filter_map(|line| line.split_once(' ')).map(|(request, device)| (request.to_owned(), device.to_owned())).collect()
    }

    fn prepare(&self, claim: &Claim) -> NodePrepareResourceResponse {
        let is_first = {
            let mut asked = self.asked.lock().expect("nobody panics with it");
            asked.push(format!("prepare {}", claim.uid));
            asked.len() == 1
        };
        if is_first {
            return NodePrepareResourceResponse { devices: Vec::new(), error: "the devices are still warming up".into() };
        }
        let allocated = self.allocated(claim);
        let devices: Vec<serde_json::Value> = allocated
            .iter()
            .map(|(_, device)| {
                serde_json::json!({"name": format!("{}-{device}", claim.uid),
            "containerEdits": {"env": [format!("DEVICE={device}")], "deviceNodes": [{"path": "/dev/gpu", "hostPath": "/dev/null"}]}})
            })
            .collect();
        let text = serde_json::json!({"cdiVersion": "0.6.0", "kind": format!("{NAME}/device"), "devices": devices,
            "containerEdits": {"env": [format!("CLAIM={}", claim.name)]}});
        std::fs::create_dir_all(&self.descriptions).expect("a directory");
        std::fs::write(self.description(&claim.uid), text.to_string()).expect("a file");
        let devices = allocated.into_iter().map(|(request, device)| Device {
            request_names: vec![request],
            pool_name: "pool".into(),
            cdi_device_ids: vec![format!("{NAME}/device={}-{device}", claim.uid)],
            device_name: device,
        });
        NodePrepareResourceResponse { devices: devices.collect(), error: String::new() }
    }
}

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        let endpoint = self.socket.display().to_string();
        Ok(Response::new(PluginInfo { r#type: dra::PLUGIN_TYPE.into(), name: NAME.into(), endpoint, supported_versions: vec!["v1.DRAPlugin".into()] }))
    }
    async fn notify_registration_status(&self, _: Request<RegistrationStatus>) -> Result<Response<RegistrationStatusResponse>, Status> {
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl DraPlugin for Driver {
    async fn node_prepare_resources(&self, request: Request<NodePrepareResourcesRequest>) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        let driver = self.clone();
        let answer = move || request.into_inner().claims.iter().map(|claim| (claim.uid.clone(), driver.prepare(claim))).collect();
        let claims = tokio::task::spawn_blocking(answer).await.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(NodePrepareResourcesResponse { claims }))
    }
    async fn node_unprepare_resources(&self, request: Request<NodeUnprepareResourcesRequest>) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        let mut claims = std::collections::BTreeMap::new();
        for claim in request.into_inner().claims {
            self.asked.lock().expect("nobody panics with it").push(format!("unprepare {}", claim.uid));
            match std::fs::remove_file(self.description(&claim.uid)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => claims.insert(claim.uid, NodeUnprepareResourceResponse::default()),
            };
        }
        Ok(Response::new(NodeUnprepareResourcesResponse { claims }))
    }
}

/// Two devices on the cluster's node: `gpu-0`, a big one, and `gpu-1`, a small one.
pub fn serve(cluster: &Cluster) -> Serving {
    let agent = cluster.server.data_dir().join("agent");
    let socket = agent.join("plugins").join(NAME).join("dra.sock");
    let registration = agent.join("plugins_registry").join(format!("{NAME}-reg.sock"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (own, registry) = {
        let _entered = runtime.enter();
        (csi::listen(&socket).expect("a socket"), csi::listen(&registration).expect("a socket"))
    };
    let descriptions = agent.join("cdi");
    let driver = Driver { socket, descriptions: descriptions.clone(), kubectl: Arc::new(cluster.tool()), asked: Arc::default() };
    let asked = driver.asked.clone();
    runtime.spawn(Server::builder().add_service(DraPluginServer::new(driver.clone())).serve_with_incoming(UnixListenerStream::new(own)));
    runtime.spawn(Server::builder().add_service(RegistrationServer::new(driver)).serve_with_incoming(UnixListenerStream::new(registry)));
    let kubectl = cluster.tool();
    let node = kubectl.sh("kubectl get nodes -o jsonpath='{.items[0].metadata.name}'").ok();
    let device = |name: &str, model: &str, memory: &str| {
        format!("  - {{name: {name}, attributes: {{model: {{string: {model}}}}}, capacity: {{memory: {{value: {memory}}}}}}}")
    };
    kubectl.apply(&format!(
        r#"
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {{name: {node}-{NAME}}}
spec:
  driver: {NAME}
  nodeName: {node}
  pool: {{name: {node}, generation: 1, resourceSliceCount: 1}}
  devices:
{}
{}
"#,
        device("gpu-0", "big", "40Gi"),
        device("gpu-1", "small", "10Gi"),
    ));
    Serving { _runtime: runtime, asked, descriptions }
}
