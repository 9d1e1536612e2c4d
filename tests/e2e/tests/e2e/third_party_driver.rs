//! A CSI driver that somebody else wrote: it registers as with any kubelet, attaches nothing, stages nothing, and takes one volume a node.
use crate::SOON;
use csi::registration::registration_server::{Registration, RegistrationServer};
use csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use csi::v1::node_server::{Node, NodeServer};
use csi::v1::node_service_capability::rpc::Type as Rpc;
use csi::v1::node_service_capability::{Rpc as RpcCapability, Type as CapabilityType};
use csi::v1::volume_usage::Unit;
use csi::v1::*;
use std::path::{Path, PathBuf};
use testkit::{Cluster, Tool};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

const NAME: &str = "third.example";

/// Volumes are directories with a file that says what was asked for.
struct Driver {
    socket: PathBuf,
}

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        let endpoint = self.socket.display().to_string();
        Ok(Response::new(PluginInfo { r#type: "CSIPlugin".into(), name: NAME.into(), endpoint, supported_versions: vec!["1.5.0".into()] }))
    }
    async fn notify_registration_status(&self, _: Request<RegistrationStatus>) -> Result<Response<RegistrationStatusResponse>, Status> {
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_publish_volume(&self, request: Request<NodePublishVolumeRequest>) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let asked = request.into_inner();
        let target = Path::new(&asked.target_path);
        let context: Vec<String> = asked.volume_context.iter().map(|(key, value)| format!("{key}={value}")).collect();
        std::fs::create_dir_all(target)?;
        std::fs::write(target.join("asked"), format!("{}\n{}\n", asked.volume_id, context.join("\n")))?;
        Ok(Response::new(NodePublishVolumeResponse {}))
    }
    async fn node_unpublish_volume(&self, request: Request<NodeUnpublishVolumeRequest>) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        match std::fs::remove_dir_all(request.into_inner().target_path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(Response::new(NodeUnpublishVolumeResponse {})),
        }
    }
    async fn node_get_volume_stats(&self, _: Request<NodeGetVolumeStatsRequest>) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let usage = vec![VolumeUsage { available: 1, total: 4711, used: 4710, unit: Unit::Bytes as i32 }];
        Ok(Response::new(NodeGetVolumeStatsResponse { usage, volume_condition: None }))
    }
    async fn node_get_capabilities(&self, _: Request<NodeGetCapabilitiesRequest>) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let stats = NodeServiceCapability { r#type: Some(CapabilityType::Rpc(RpcCapability { r#type: Rpc::GetVolumeStats as i32 })) };
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: vec![stats] }))
    }
    async fn node_get_info(&self, _: Request<NodeGetInfoRequest>) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse { node_id: "its-own-name".into(), max_volumes_per_node: 1, accessible_topology: None }))
    }
    async fn node_stage_volume(&self, _: Request<NodeStageVolumeRequest>) -> Result<Response<NodeStageVolumeResponse>, Status> {
        Err(Status::unimplemented("it stages nothing"))
    }
    async fn node_unstage_volume(&self, _: Request<NodeUnstageVolumeRequest>) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        Err(Status::unimplemented("it stages nothing"))
    }
    async fn node_expand_volume(&self, _: Request<NodeExpandVolumeRequest>) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        Err(Status::unimplemented("its volumes don't grow"))
    }
}

/// Serves the driver as long as the value lives.
fn serve(cluster: &Cluster) -> tokio::runtime::Runtime {
    let agent = cluster.server.data_dir().join("agent");
    let socket = agent.join("plugins").join(NAME).join("csi.sock");
    let registration = agent.join("plugins_registry").join(format!("{NAME}-reg.sock"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (own, registry) = {
        let _entered = runtime.enter();
        (csi::listen(&socket).expect("a socket"), csi::listen(&registration).expect("a socket"))
    };
    let node = Server::builder().add_service(NodeServer::new(Driver { socket: socket.clone() }));
    runtime.spawn(node.serve_with_incoming(UnixListenerStream::new(own)));
    let registering = Server::builder().add_service(RegistrationServer::new(Driver { socket }));
    runtime.spawn(registering.serve_with_incoming(UnixListenerStream::new(registry)));
    runtime
}

/// A volume that an administrator made, its claim, and a pod that uses it.
fn volume(name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  claimRef: {{namespace: default, name: {name}}}
  csi: {{driver: {NAME}, volumeHandle: handle-of-{name}, volumeAttributes: {{colour: red}}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec: {{accessModes: [ReadWriteOnce], storageClassName: "", volumeName: {name}, resources: {{requests: {{storage: 1Gi}}}}}}
---
"#
    ) + &pod(name, &format!("persistentVolumeClaim: {{claimName: {name}}}"))
}

fn pod(name: &str, volume: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: data, {volume}}}]
  containers:
  - {{name: main, image: "busybox:1.36", command: [sleep, "100000"], volumeMounts: [{{name: data, mountPath: /data}}]}}
"#
    )
}

fn asked(kubectl: &Tool, pod: &str) -> String {
    kubectl.sh(&format!("kubectl wait --for=condition=Ready --timeout=90s pod/{pod}")).ok();
    kubectl.sh(&format!("kubectl exec {pod} -- cat /data/asked")).ok()
}

#[test]
fn a_driver_of_others_serves_volumes_and_what_stands_in_pods_within_its_limit() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    let _driver = serve(&cluster);
    kubectl.apply(&format!(
        r#"
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {{name: {NAME}}}
spec: {{attachRequired: false, podInfoOnMount: true, volumeLifecycleModes: [Persistent, Ephemeral]}}
"#
    ));
    let told = format!("kubectl get csinodes -o jsonpath='{{.items[*].spec.drivers[?(@.name==\"{NAME}\")].allocatable.count}}'");
    kubectl.until_it_prints(&told, "1");

    kubectl.apply(&volume("first"));
    let first = asked(&kubectl, "first");
    for expected in ["handle-of-first\n", "colour=red\n", "csi.storage.k8s.io/pod.name=first\n", "csi.storage.k8s.io/ephemeral=false\n"] {
        assert!(first.contains(expected), "{first}");
    }
    let node = kubectl.sh("kubectl get nodes -o jsonpath='{.items[0].metadata.name}'").ok();
    kubectl.until(&format!("kubectl get --raw /api/v1/nodes/{node}/proxy/metrics"), SOON, |text| {
        text.contains(r#"kubelet_volume_stats_capacity_bytes{namespace="default",persistentvolumeclaim="first"} 4711"#)
    });
    kubectl.until(&format!("kubectl get --raw /api/v1/nodes/{node}/proxy/stats/summary"), SOON, |text| {
        text.contains(r#""pvcRef":{"name":"first","namespace":"default"}"#) && text.contains(r#""usedBytes":4710"#)
    });

    // The node has what the driver lets it have, until that is let go.
    kubectl.apply(&volume("second"));
    kubectl.until("kubectl describe pod second", SOON, |text| text.contains("node(s) exceed max volume count"));
    kubectl.sh("kubectl delete pod first --timeout=60s").ok();
    assert!(asked(&kubectl, "second").contains("handle-of-second\n"));

    // A volume that stands in the pod comes and goes with it.
    kubectl.apply(&pod("inline", &format!("csi: {{driver: {NAME}, volumeAttributes: {{colour: blue}}}}")));
    let inline = asked(&kubectl, "inline");
    assert!(inline.starts_with("csi-") && inline.contains("colour=blue\n") && inline.contains("csi.storage.k8s.io/ephemeral=true\n"), "{inline}");
    kubectl.apply(&pod("refused", "csi: {driver: stor.plasmacloud.io}"));
    kubectl.until("kubectl describe pod refused", SOON, |text| text.contains(r#"volume mode "Ephemeral" not supported by driver stor.plasmacloud.io"#));
    kubectl.sh("kubectl delete pod second inline refused --timeout=60s").ok();
    let pods = cluster.server.data_dir().join("agent/pods");
    let left = || std::fs::read_dir(&pods).into_iter().flatten().flatten().any(|pod| pod.path().join("volumes/kubernetes.io~csi").exists());
    testkit::wait_until("the volumes are gone", SOON, || !left());
}
