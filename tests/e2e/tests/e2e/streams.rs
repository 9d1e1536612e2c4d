//! Streams to and from containers: logs, exec, attach, cp, port-forward.
use crate::SOON;
use std::time::Duration;
use testkit::Cluster;

#[test]
fn logs_are_shown_followed_and_cut() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: talker, labels: {app: talker}}
spec:
  containers:
  - {name: main, image: "busybox:1.36", command: [sh, -c, "for i in 1 2 3; do echo line $i; done; sleep 0.5; echo to stderr >&2; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo after; sleep 100000"]}
  - {name: quiet, image: "busybox:1.36", command: [sh, -c, "echo quiet; sleep 100000"]}
"#,
    );
    kubectl.sh("kubectl wait --for=condition=Ready pod/talker --timeout=90s").ok();
    kubectl.until_it_prints("kubectl logs talker -c main", "line 1\nline 2\nline 3\nto stderr");
    assert_eq!(kubectl.sh("kubectl logs talker -c main --tail=2").ok(), "line 3\nto stderr\n");
    assert_eq!(kubectl.sh("kubectl logs talker -c main --limit-bytes=6").ok(), "line 1");
    let stamped = kubectl.sh("kubectl logs talker -c main --timestamps --tail=1").ok();
    assert!(stamped.contains("T") && stamped.contains("Z to stderr"), "{stamped}");
    assert_eq!(kubectl.sh("kubectl logs -l app=talker --all-containers --prefix --tail=1").ok().lines().count(), 2);
    assert!(kubectl.sh("kubectl logs talker -c main --previous").err().contains("previous terminated container \"main\" in pod \"talker\" not found"));
    assert!(kubectl.sh("kubectl logs talker -c other").err().contains("container other is not valid for pod talker"));
    let follow = kubectl.background("kubectl logs -f talker -c main --since=10m");
    follow.until_printed("to stderr\n", SOON);
    assert!(!follow.printed().contains("after"));
    kubectl.sh("kubectl exec talker -c main -- touch /tmp/go").ok();
    follow.until_printed("after\n", SOON);
    // The end of the container is the end of the log.
    let mut follow = kubectl.background("kubectl logs -f talker -c quiet");
    kubectl.sh("kubectl delete pod talker --grace-period=1").ok();
    assert!(follow.until_ended(SOON).1.starts_with("quiet\n"));
}

#[test]
fn exec_attach_and_cp_carry_every_byte() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.sh("kubectl run box --image=busybox:1.36 -- sleep 100000 && kubectl wait --for=condition=Ready pod/box --timeout=90s").ok();
    assert_eq!(kubectl.sh("kubectl exec box -- echo hello").ok(), "hello\n");
    let failed = kubectl.sh("kubectl exec box -- sh -c 'echo out; echo err >&2; exit 42'; ");
    assert!(!failed.success && failed.stdout == "out\n" && failed.stderr.starts_with("err\n") && failed.stderr.contains("exit code 42"), "{failed:?}");
    assert_eq!(kubectl.sh("kubectl exec box -- sh -c 'exit 42' 2>/dev/null || echo $?").ok(), "42\n");
    assert_eq!(kubectl.sh("printf 'a\\nb\\n' | kubectl exec -i box -- wc -l").ok().trim(), "2");
    // A terminal: sizes, carriage returns and all.
    let terminal = kubectl.sh("script -qec \"kubectl exec -it box -- sh -c 'test -t 0 && test -t 1 && echo terminal'\" /dev/null </dev/null");
    assert!(terminal.stdout.contains("terminal\r\n"), "{terminal:?}");
    assert!(kubectl.sh("kubectl exec box -- /no/such/program").err().contains("no such file or directory"));
    assert!(kubectl.sh("kubectl exec nobody -- true").err().contains("pods \"nobody\" not found"));

    // A few megabytes in and out again, unchanged.
    kubectl.sh("head -c 5000000 /dev/urandom >data && kubectl cp data box:/tmp/data && kubectl cp box:/tmp/data back 2>/dev/null && cmp data back").ok();
    kubectl.sh("kubectl exec -i box -- sh -c 'cat >/tmp/again; true' <data && kubectl exec box -- cat /tmp/again | cmp - data").ok();
    kubectl.sh("mkdir -p tree/deep && echo leaf >tree/deep/leaf && kubectl cp tree box:/tmp/tree").ok();
    assert_eq!(kubectl.sh("kubectl exec box -- cat /tmp/tree/deep/leaf").ok(), "leaf\n");

    kubectl.sh("kubectl run echo --image=busybox:1.36 --stdin=true --attach=false --restart=Never -- sh -c 'while read line; do echo got $line; done' && kubectl wait --for=condition=Ready pod/echo --timeout=90s").ok();
    let attached = kubectl.background("(sleep 1; echo one; sleep 1) | kubectl attach -i echo");
    attached.until_printed("got one\n", SOON);
    let said = kubectl.sh("echo hi | kubectl run once --image=busybox:1.36 --rm -i --restart=Never --quiet -- cat");
    assert!(said.stdout.contains("hi\n"), "{said:?}");
}

#[test]
fn port_forward_carries_several_connections() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.sh("kubectl run web --image=busybox:1.36 --port=8080 -- sh -c 'mkdir /www; echo page >/www/page; exec httpd -f -p 8080 -h /www' && kubectl wait --for=condition=Ready pod/web --timeout=90s").ok();
    kubectl.sh("kubectl expose pod web --port=80 --target-port=8080").ok();
    let forward = kubectl.background("kubectl port-forward pod/web 18080:8080");
    forward.until_printed("Forwarding from 127.0.0.1:18080 -> 8080", SOON);
    for _ in 0..5 {
        assert_eq!(kubectl.sh("curl -sS --max-time 10 http://127.0.0.1:18080/page").ok(), "page\n");
    }
    assert_eq!(kubectl.sh("seq 8 | xargs -P 8 -I{} curl -sS --max-time 10 http://127.0.0.1:18080/page").ok(), "page\n".repeat(8));
    let through_service = kubectl.background("kubectl port-forward service/web 18081:80");
    through_service.until_printed("Forwarding from 127.0.0.1:18081", SOON);
    kubectl.until("curl -sS --max-time 5 http://127.0.0.1:18081/page", Duration::from_secs(20), |page| page == "page");
    // A port that nobody listens on fails that connection, not the cluster.
    let closed = kubectl.background("kubectl port-forward pod/web 18082:9");
    closed.until_printed("Forwarding from", SOON);
    kubectl.sh("curl -sS --max-time 10 http://127.0.0.1:18082/").err();
}
