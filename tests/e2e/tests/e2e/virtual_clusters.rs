//! Virtual clusters on one node: their pods have their own API, names and Services, and nobody else's.
use crate::SOON;
use testkit::{Cluster, Tool, wait_until};

/// The same names in every cluster; the page tells them apart.
fn shop(page: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "mkdir /www; echo {page} >/www/page; exec httpd -f -p 8080 -h /www"]
    ports: [{{name: http, containerPort: 8080}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: 10.96.7.7, selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: only-{page}}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: http}}]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: default-is-admin}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}
subjects: [{{kind: ServiceAccount, name: default, namespace: default}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: client}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: "busybox:1.36", command: [sleep, "100000"]}}]
"#
    )
}

fn in_client(kubectl: &Tool, script: &str) -> String {
    kubectl.kubectl(["exec", "client", "--", "sh", "-c", script]).ok()
}

/// Whether the client pod gets an answer; what it waits for is told to end soon.
fn reaches(kubectl: &Tool, script: &str) -> bool {
    kubectl.kubectl(["exec", "client", "--", "sh", "-c", script]).success
}

fn pod_address(kubectl: &Tool, name: &str) -> String {
    kubectl.sh(&format!("kubectl get pod {name} -o jsonpath='{{.status.podIP}}'")).ok()
}

#[test]
fn tenants_have_the_same_names_and_addresses_and_meet_nowhere() {
    let cluster = Cluster::start();
    let host = cluster.server.host_tool();
    let (a, b) = (cluster.server.virtual_cluster("team-a", "same"), cluster.server.virtual_cluster("team-b", "same"));
    let all = [(&host, "host"), (&a, "team-a"), (&b, "team-b")];
    for (kubectl, page) in all {
        wait_until("the service account is there", SOON, || kubectl.k("get serviceaccount default").success);
        kubectl.apply(&shop(page));
    }
    for (kubectl, _) in all {
        kubectl.sh("kubectl wait --for=condition=Ready pod/web pod/client --timeout=90s").ok();
    }
    let addresses: Vec<String> = all.iter().map(|(kubectl, _)| pod_address(kubectl, "web")).collect();
    let clients: Vec<String> = all.iter().map(|(kubectl, _)| pod_address(kubectl, "client")).collect();
    for (number, (kubectl, page)) in all.into_iter().enumerate() {
        // Names, the one Service address of all three, and pods lead to their own.
        for place in ["web", "web.default.svc.cluster.local", "10.96.7.7", &format!("only-{page}"), &format!("{}:8080", addresses[number])] {
            kubectl.until(&format!("kubectl exec client -- timeout 5 wget -qO- http://{place}/page"), SOON, |got| got.trim() == page);
        }
        for (other, (_, name)) in all.into_iter().enumerate().filter(|(other, _)| *other != number) {
            let pod = format!("timeout 2 wget -qO- http://{}:8080/page", addresses[other]);
            assert!(!reaches(kubectl, &pod), "{page} reaches a pod of {name}");
            assert!(!reaches(kubectl, &format!("timeout 2 ping -c 1 -W 1 {}", clients[other])), "{page} reaches the client of {name}");
            assert!(!reaches(kubectl, &format!("nslookup only-{name}.default.svc.cluster.local")), "{page} knows of a Service of {name}");
        }
        // Its own API, without a path, by the account it runs as.
        let names = services_as_pod(&cluster, kubectl, &clients[number]);
        for (_, other) in all {
            assert_eq!(names.contains(&format!("only-{other}")), other == page, "{page} asks for its Services and hears of {other}'s");
        }
    }
    // Logs and streams find the right one of three pods of a name.
    for (kubectl, page) in all {
        assert_eq!(kubectl.k("exec web -- cat /www/page").ok().trim(), page);
    }
    // Nothing of the machine is open to a tenant's pods, whatever addresses it listens on.
    let node = &cluster.host.address;
    let gateway = in_client(&a, "ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'").trim().to_owned();
    let own = a.sh("kubectl get endpoints kubernetes -o jsonpath='{.subsets[0].addresses[0].ip}'").ok();
    let others = b.sh("kubectl get endpoints kubernetes -o jsonpath='{.subsets[0].addresses[0].ip}'").ok();
    assert_ne!(own, others);
    for (address, port) in
        [(node.to_string(), 6443), (node.to_string(), 10250), (gateway.clone(), 6443), (gateway, 10250), (others, 6443), (own.clone(), 10250)]
    {
        assert!(!reaches(&a, &format!("timeout 2 nc -w 1 {address} {port} </dev/null")), "team-a reaches {address}:{port}");
    }
    assert!(reaches(&a, &format!("timeout 2 nc -w 1 {own} 6443 </dev/null")));
    // Taken away, its pods go; the others stay.
    host.sh("kubectl delete cluster.k3k.io -n team-a same --timeout=60s").ok();
    wait_until("the pods of team-a are gone", SOON, || containers(&cluster) == 4);
    assert_eq!(in_client(&b, "timeout 5 wget -qO- http://web/page").trim(), "team-b");
}

/// What a client pod's account sees at `kubernetes.default.svc`, asked from the pod's own network: busybox's TLS is too old.
fn services_as_pod(cluster: &Cluster, kubectl: &Tool, address: &str) -> String {
    let read = |file: &str| in_client(kubectl, &format!("cat /var/run/secrets/kubernetes.io/serviceaccount/{file}"));
    let authority = cluster.server.directory.path().join("pod-ca.crt");
    std::fs::write(&authority, read("ca.crt")).expect("a file can be written");
    let processes = cluster.remains().processes;
    let sleepers = processes.iter().filter(|process| process.command.starts_with("sleep 100000"));
    let script = sleepers.map(|process| {
        format!(
            "if nsenter -t {pid} --net ip -4 address show eth0 | grep -q ' {address}/'; then nsenter -t {pid} --net curl -sS --max-time 5 --cacert {} \
             --resolve kubernetes.default.svc:443:10.96.0.1 -H 'Authorization: Bearer {}' https://kubernetes.default.svc/api/v1/namespaces/default/services; fi",
            authority.display(),
            read("token"),
            pid = process.pid,
        )
    });
    let answer = kubectl.sh(&script.collect::<Vec<_>>().join("\n")).ok();
    assert!(answer.contains("ServiceList"), "{answer}");
    answer
}

/// Containers that run on the node.
fn containers(cluster: &Cluster) -> usize {
    cluster.remains().processes.iter().filter(|process| process.command.starts_with("httpd") || process.command.starts_with("sleep 100000")).count()
}
