//! A pod's life: init containers, sidecars, restarts, probes, hooks and its end.
use crate::SOON;
use std::time::{Duration, Instant};
use testkit::Cluster;

#[test]
fn init_containers_come_first_and_sidecars_stay() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: ordered}
spec:
  restartPolicy: Never
  volumes: [{name: notes, emptyDir: {}}]
  initContainers:
  - {name: first, image: "busybox:1.36", command: [sh, -c, "echo first >>/notes/order"], volumeMounts: [{name: notes, mountPath: /notes}]}
  - name: sidecar
    image: busybox:1.36
    restartPolicy: Always
    command: [sh, -c, "echo sidecar >>/notes/order; trap 'echo sidecar ends; exit 0' TERM; touch /tmp/up; while true; do sleep 0.1; done"]
    startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1}
    volumeMounts: [{name: notes, mountPath: /notes}]
  - {name: second, image: "busybox:1.36", command: [sh, -c, "echo second >>/notes/order"], volumeMounts: [{name: notes, mountPath: /notes}]}
  containers:
  - {name: main, image: "busybox:1.36", command: [sh, -c, "echo main >>/notes/order; cat /notes/order; sleep 2"], volumeMounts: [{name: notes, mountPath: /notes}]}
"#,
    );
    kubectl.until_it_prints("kubectl get pod ordered -o jsonpath='{.status.phase}'", "Succeeded");
    assert_eq!(kubectl.sh("kubectl logs ordered -c main").ok(), "first\nsidecar\nsecond\nmain\n");
    // The sidecar was told to end after the main container had ended by itself.
    assert_eq!(kubectl.sh("kubectl logs ordered -c sidecar").ok(), "sidecar ends\n");
    let conditions = kubectl.sh("kubectl get pod ordered -o jsonpath='{range .status.conditions[*]}{.type}={.status}/{.reason} {end}'").ok();
    for expected in ["Initialized=True/PodCompleted", "Ready=False/PodCompleted", "ContainersReady=False/PodCompleted", "PodScheduled=True/"] {
        assert!(conditions.contains(expected), "{expected} is not among {conditions}");
    }
    assert_eq!(kubectl.sh("kubectl get pod ordered -o jsonpath='{.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}'").ok(), "Completed 0");
}

#[test]
fn containers_restart_as_their_policy_says() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    let pod = |name: &str, policy: &str, script: &str| {
        kubectl.apply(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: {policy}, containers: [{{name: main, image: 'busybox:1.36', command: [sh, -c, '{script}']}}]}}}}"));
    };
    pod("always", "Always", "echo run; exit 0");
    pod("on-failure", "OnFailure", "echo run; exit 0");
    pod("failing", "OnFailure", "echo run; exit 7");
    pod("never", "Never", "exit 5");
    kubectl.until_it_prints("kubectl get pod on-failure -o jsonpath='{.status.phase} {.status.containerStatuses[0].restartCount}'", "Succeeded 0");
    kubectl.until_it_prints("kubectl get pod never -o jsonpath='{.status.phase} {.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}'", "Failed Error 5");
    kubectl.until("kubectl get pod always -o jsonpath='{.status.containerStatuses[0].restartCount}'", SOON, |count| {
        count.parse::<u32>().is_ok_and(|count| count >= 1)
    });
    // The second restart waits for longer than the first.
    kubectl.until_it_prints("kubectl get pod failing -o jsonpath='{.status.containerStatuses[0].state.waiting.reason}'", "CrashLoopBackOff");
    let message =
        kubectl.until("kubectl get pod failing -o jsonpath='{.status.containerStatuses[0].state.waiting.message}'", SOON, |message| !message.is_empty());
    assert!(message.starts_with("back-off ") && message.contains(" restarting failed container=main pod=failing_default("), "{message}");
    assert_eq!(
        kubectl.sh("kubectl get pod failing -o jsonpath='{.status.phase} {.status.containerStatuses[0].lastState.terminated.exitCode}'").ok(),
        "Running 7"
    );
    assert_eq!(kubectl.sh("kubectl logs failing --previous").ok(), "run\n");
    assert!(kubectl.sh("kubectl get pod failing").ok().contains("CrashLoopBackOff"));
    kubectl.until("kubectl get events --field-selector involvedObject.name=failing -o jsonpath='{.items[*].reason}'", SOON, |reasons| {
        ["Scheduled", "Pulled", "Created", "Started", "BackOff"].iter().all(|reason| reasons.contains(reason))
    });
}

#[test]
fn probes_gate_traffic_and_restart() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: probed, labels: {app: probed}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "mkdir /www; touch /tmp/alive; sleep 2; touch /tmp/started; httpd -p 8080 -h /www; sleep 100000"]
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {exec: {command: [test, -e, /tmp/started]}, periodSeconds: 1, failureThreshold: 60}
    readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Service
metadata: {name: probed}
spec: {selector: {app: probed}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: others}
spec:
  containers:
  - {name: tcp, image: "busybox:1.36", command: [nc, -ll, -p, "9000", -e, "cat"], readinessProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}}
  - {name: closed, image: "busybox:1.36", command: [sleep, "100000"], readinessProbe: {tcpSocket: {port: 9001}, periodSeconds: 1}}
"#,
    );
    let status = |path: &str| format!("kubectl get pod probed -o jsonpath='{{.status.containerStatuses[0].{path}}}'");
    let ready_endpoints =
        "kubectl get endpointslices -l kubernetes.io/service-name=probed -o jsonpath='{.items[*].endpoints[?(@.conditions.ready==true)].targetRef.name}'";
    kubectl.until_it_prints(&status("started"), "true");
    assert_eq!(kubectl.sh(&status("ready")).ok(), "false");
    assert_eq!(kubectl.sh(ready_endpoints).ok(), "");
    kubectl.sh("kubectl exec probed -- touch /www/ready").ok();
    kubectl.until_it_prints(&status("ready"), "true");
    kubectl.until_it_prints(ready_endpoints, "probed");
    kubectl.sh("kubectl exec probed -- rm /www/ready").ok();
    kubectl.until_it_prints(ready_endpoints, "");
    assert_eq!(kubectl.sh(&status("restartCount")).ok(), "0");
    kubectl.sh("kubectl exec probed -- rm /tmp/alive").ok();
    kubectl.until_it_prints(&status("restartCount"), "1");
    let events = kubectl.until(
        "kubectl get events --field-selector involvedObject.name=probed -o jsonpath='{range .items[*]}{.reason}: {.message}{\"\\n\"}{end}'",
        SOON,
        |events| events.contains("Killing: "),
    );
    assert!(events.contains("Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404"), "{events}");
    assert!(
        events.contains("Unhealthy: Liveness probe failed") && events.contains("Killing: Container main failed liveness probe, will be restarted"),
        "{events}"
    );
    kubectl.until_it_prints("kubectl get pod others -o jsonpath='{range .status.containerStatuses[*]}{.name}={.ready} {end}'", "closed=false tcp=true");
}

#[test]
fn a_pod_ends_gracefully_within_its_grace_period() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: polite}
spec:
  terminationGracePeriodSeconds: 30
  volumes: [{name: notes, hostPath: {path: DIRECTORY, type: DirectoryOrCreate}}]
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "trap 'echo term >>/notes/order; exit 0' TERM; touch /notes/up; while true; do sleep 0.1; done"]
    volumeMounts: [{name: notes, mountPath: /notes}]
    lifecycle:
      postStart: {exec: {command: [sh, -c, "echo started >>/notes/order"]}}
      preStop: {exec: {command: [sh, -c, "echo stopping >>/notes/order; sleep 1"]}}
---
apiVersion: v1
kind: Pod
metadata: {name: deaf}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {name: main, image: "busybox:1.36", command: [sh, -c, "trap '' TERM; while true; do sleep 0.1; done"]}
"#
        .replace("DIRECTORY", &cluster.server.directory.path().join("notes").display().to_string())
        .as_str(),
    );
    kubectl.sh("kubectl wait --for=condition=Ready pod/polite pod/deaf --timeout=90s").ok();
    let notes = cluster.server.directory.path().join("notes");
    testkit::wait_until("the trap is set", SOON, || notes.join("up").exists());
    let told = Instant::now();
    kubectl.sh("kubectl delete pod polite").ok();
    assert!(told.elapsed() < Duration::from_secs(25), "it ended only with its grace period, after {:?}", told.elapsed());
    assert_eq!(std::fs::read_to_string(notes.join("order")).unwrap(), "started\nstopping\nterm\n");
    let told = Instant::now();
    let watch = kubectl.background("kubectl get pod deaf -w -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}{\"\\n\"}'");
    kubectl.sh("kubectl delete pod deaf").ok();
    assert!(told.elapsed() >= Duration::from_secs(2), "it had two seconds, not {:?}", told.elapsed());
    // SIGKILL at the end of the grace period.
    watch.until_printed("137\n", SOON);
    kubectl.sh("kubectl run quick --image=busybox:1.36 --restart=Never -- sleep 100000 && kubectl wait --for=condition=Ready pod/quick --timeout=90s").ok();
    kubectl.sh("kubectl delete pod quick --grace-period=0 --force 2>&1").ok();
    kubectl.until_it_prints("kubectl get pods -o name", "");
}
