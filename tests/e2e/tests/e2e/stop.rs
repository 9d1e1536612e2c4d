//! Stopping: SIGINT leaves nothing behind, SIGTERM leaves the pods, and the data is there again.
use nix::sys::signal::Signal;
use testkit::Cluster;
use testkit::images::HTTPD;

const WEB: &str = "kubectl create deployment web --image=httpd:1 --replicas=2 --port=80 && kubectl expose deployment web --type=NodePort && kubectl rollout status deployment/web --timeout=90s";

#[test]
fn an_interrupt_leaves_nothing_behind_and_the_next_start_resumes() {
    let mut cluster = Cluster::with_images(&[HTTPD]);
    let kubectl = cluster.tool();
    kubectl.sh(WEB).ok();
    kubectl.sh("kubectl create secret generic kept --from-literal=a=1").ok();
    let before = cluster.remains();
    assert!(before.processes.len() > 5 && !before.mounts.is_empty() && !before.namespaces.is_empty() && !before.cgroups.is_empty(), "{:?}", before.describe());

    cluster.server.end(Signal::SIGINT);
    assert_eq!(cluster.server.earlier_log().matches("panicked").count(), 0);
    assert_eq!(before.describe(), Vec::<String>::new(), "of what there was");
    assert_eq!(cluster.remains().describe(), Vec::<String>::new(), "of what came meanwhile");
    let left = |program: &str, arguments: &[&str]| String::from_utf8(cluster.host.command(program).args(arguments).output().unwrap().stdout).unwrap();
    assert_eq!(left("nft", &["list", "tables"]), "");
    let links = left("ip", &["-o", "link"]);
    assert_eq!(links.lines().count(), 2, "more than lo and eth0 is left: {links}");
    assert_eq!(left("ip", &["route"]).lines().count(), 2, "more than the default and the network's own route");

    cluster.server.launch();
    cluster.wait_for_node();
    kubectl.sh("kubectl get secret kept && kubectl rollout status deployment/web --timeout=90s").ok();
    kubectl.until_it_prints("curl -sS --max-time 5 http://$(kubectl get service web -o jsonpath='{.spec.clusterIP}')/", "httpd version 1");
    kubectl.until_it_prints("kubectl get pods -l app=web --field-selector=status.phase=Running -o name | wc -l", "2");
}

#[test]
fn a_service_manager_stops_the_server_but_not_the_pods() {
    let mut cluster = Cluster::with_images(&[HTTPD]);
    let kubectl = cluster.tool();
    kubectl.sh(WEB).ok();
    let containers = "kubectl get pods -o jsonpath='{.items[*].status.containerStatuses[*].containerID}'";
    let before = kubectl.sh(containers).ok();
    let page = format!("curl -sS --max-time 5 http://{}/", kubectl.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'").ok());
    cluster.server.end(Signal::SIGTERM);
    assert_eq!(kubectl.sh(&page).ok(), "httpd version 1\n");
    cluster.server.launch();
    cluster.wait_for_node();
    assert_eq!(kubectl.sh(containers).ok(), before);
}
