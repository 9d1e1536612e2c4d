//! A control plane without a node needs neither privilege nor a container runtime.
use testkit::{Server, ServerOptions};

const NOBODY: u32 = 65534;

#[test]
fn a_control_plane_runs_as_any_user() {
    let server = Server::start(ServerOptions { arguments: vec!["--disable-agent".into()], user: Some(NOBODY), ..ServerOptions::default() });
    let kubectl = server.tool();
    assert_eq!(kubectl.sh("kubectl get --raw /readyz").ok(), "ok");
    kubectl.sh("kubectl create deployment web --image=httpd:1 --replicas=3").ok();
    // Controllers work without a node: the pods are there, waiting for one.
    kubectl.until_it_prints("kubectl get pods -l app=web -o jsonpath='{.items[*].status.phase}'", "Pending Pending Pending");
    assert_eq!(kubectl.sh("kubectl get nodes 2>&1").ok().trim(), "No resources found");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    assert!(status.contains(&format!("Uid:\t{NOBODY}\t{NOBODY}")), "{status}");
    // Others can't read what proves who is the administrator.
    let kubeconfig = std::fs::metadata(server.kubeconfig()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&kubeconfig.permissions()) & 0o777, 0o600);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&kubeconfig), NOBODY);
}
