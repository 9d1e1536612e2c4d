//! kill -9 at any moment: containers go on, nothing acknowledged is lost, the next start takes over.
use crate::SOON;
use nix::sys::signal::Signal;
use testkit::Cluster;
use testkit::images::HTTPD;

#[test]
fn containers_outlive_a_killed_server_and_are_adopted() {
    let mut cluster = Cluster::with_images(&[HTTPD]);
    let kubectl = cluster.tool();
    kubectl.sh("kubectl create deployment web --image=httpd:1 --replicas=2 --port=80 && kubectl expose deployment web && kubectl rollout status deployment/web --timeout=90s").ok();
    kubectl.sh("kubectl run counter --image=busybox:1.36 -- sh -c 'i=0; while true; do i=$((i+1)); echo $i; sleep 0.2; done' && kubectl wait --for=condition=Ready pod/counter --timeout=90s").ok();
    let containers = "kubectl get pods -o jsonpath='{range .items[*]}{.metadata.name} {.status.podIP} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}' | sort";
    let before = kubectl.sh(containers).ok();
    let address = kubectl.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'").ok();
    let page = format!("curl -sS --max-time 5 http://{address}/");
    kubectl.until(&page, SOON, |page| page == "httpd version 1");
    kubectl.sh("kubectl create configmap acknowledged --from-literal=a=1").ok();

    cluster.server.end(Signal::SIGKILL);
    // Neither containers nor the network need the server.
    assert_eq!(kubectl.sh(&page).ok(), "httpd version 1\n");

    cluster.server.launch();
    cluster.wait_for_node();
    kubectl.sh("kubectl get configmap acknowledged").ok();
    kubectl.until_it_prints(containers, before.trim_end());
    // They stay that way, and are managed again.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(kubectl.sh(containers).ok(), before);
    assert_eq!(kubectl.sh(&page).ok(), "httpd version 1\n");
    let log = kubectl.sh("kubectl logs counter --tail=2000").ok();
    let counted: Vec<u32> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert!(counted.first() == Some(&1) && counted.windows(2).all(|pair| pair[1] == pair[0] + 1), "the log has a gap: {log}");
    assert_eq!(kubectl.sh("kubectl exec counter -- echo hello").ok(), "hello\n");
    kubectl
        .sh("kubectl delete pod counter --grace-period=1 && kubectl scale deployment web --replicas=3 && kubectl rollout status deployment/web --timeout=90s")
        .ok();
    let addresses = kubectl.sh("kubectl get pods -o jsonpath='{.items[*].status.podIP}' | tr ' ' '\\n' | sort | uniq -d").ok();
    assert_eq!(addresses.trim(), "", "an address was given twice");
}

#[test]
fn a_pod_deleted_while_the_server_is_dead_is_gone_after_its_start() {
    let mut cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.sh("kubectl run box --image=busybox:1.36 -- sleep 100000 && kubectl wait --for=condition=Ready pod/box --timeout=90s").ok();
    // The delete is acknowledged; the server dies before the container has ended.
    kubectl.sh("kubectl delete pod box --grace-period=20 --wait=false").ok();
    cluster.server.end(Signal::SIGKILL);
    cluster.server.launch();
    kubectl.until_it_prints("kubectl get pods -o name", "");
    testkit::wait_until("the container is gone", SOON, || !cluster.remains().processes.iter().any(|process| process.command == "sleep 100000"));
    // The container's own death meanwhile is noticed, too.
    kubectl.sh("kubectl run again --image=busybox:1.36 -- sleep 100002 && kubectl wait --for=condition=Ready pod/again --timeout=90s").ok();
    cluster.server.end(Signal::SIGKILL);
    let process = cluster.remains().processes.into_iter().find(|process| process.command == "sleep 100002").expect("it outlives the server");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
    cluster.server.launch();
    kubectl.until_it_prints("kubectl get pod again -o jsonpath='{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].lastState.terminated.exitCode} {.status.phase}'", "1 137 Running");
}
