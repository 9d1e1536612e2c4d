//! Virtual clusters on one node: their pods have their own API, names and Services, and nobody else's.
mod operator;

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

/// Runs a command of k8shost against the host cluster.
fn command(cluster: &Cluster, line: &str) -> String {
    cluster.server.host_tool().run(testkit::binary().to_str().expect("a path is text"), line.split_whitespace()).ok()
}

#[test]
fn a_cluster_is_paused_goes_on_and_is_cloned_with_its_pods() {
    let cluster = Cluster::start();
    let a = cluster.server.virtual_cluster("team", "mine");
    wait_until("the service account is there", SOON, || a.k("get serviceaccount default").success);
    a.apply(&shop("mine"));
    let ready = |kubectl: &Tool| drop(kubectl.sh("kubectl wait --for=condition=Ready pod/web pod/client --timeout=90s").ok());
    ready(&a);
    let uid = |kubectl: &Tool| kubectl.k("get pod web -o jsonpath={.metadata.uid}").ok();
    let before = uid(&a);

    command(&cluster, "cluster pause mine -n team");
    wait_until("nothing of it runs", SOON, || containers(&cluster) == 0);
    assert_eq!(a.k("get pods -o jsonpath={.items[*].status.phase}{.items[*].spec.nodeName}").ok(), "Pending Pending");
    wait_until("its Services lead nowhere", SOON, || {
        a.k("get endpointslices -l kubernetes.io/service-name=web -o jsonpath={.items[*].endpoints[*].addresses}").ok().is_empty()
    });
    command(&cluster, "cluster resume mine -n team");
    ready(&a);
    assert_ne!(uid(&a), before);
    a.until("kubectl exec client -- timeout 5 wget -qO- http://web/page", SOON, |got| got.trim() == "mine");

    // Restored while it runs: its pods begin anew, and lead to the same page.
    command(&cluster, "cluster snapshot create mine s -n team");
    a.k("delete service web --wait=false").ok();
    let running = uid(&a);
    command(&cluster, "cluster snapshot restore mine s -n team");
    ready(&a);
    assert_ne!(uid(&a), running);
    a.until("kubectl exec client -- timeout 5 wget -qO- http://web/page", SOON, |got| got.trim() == "mine");
    wait_until("only what is restored runs", SOON, || containers(&cluster) == 2);

    // A clone has the same names and addresses, and runs beside it.
    let printed = command(&cluster, "cluster create copy -n team --from-snapshot s");
    let kubeconfig = cluster.server.directory.path().join("copy.yaml");
    std::fs::write(&kubeconfig, printed).expect("a file can be written");
    let b = Tool { kubeconfig, ..cluster.server.tool() };
    ready(&b);
    wait_until("both run", SOON, || containers(&cluster) == 4);
    assert_ne!(uid(&a), uid(&b));
    let page = |kubectl: &Tool| kubectl.until("kubectl exec client -- timeout 5 wget -qO- http://10.96.7.7/page", SOON, |got| got.trim() == "mine");
    page(&b);
    command(&cluster, "cluster delete mine -n team");
    wait_until("the pods of the first are gone", SOON, || containers(&cluster) == 2);
    page(&b);
}

#[test]
fn a_pod_of_a_new_cluster_finds_its_own_service_by_name() {
    let cluster = Cluster::start();
    let a = cluster.server.virtual_cluster("team", "new");
    wait_until("the service account is there", SOON, || a.k("get serviceaccount default").success);
    a.apply(
        r#"
apiVersion: v1
kind: Service
metadata: {name: own}
spec: {selector: {app: own}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: own, labels: {app: own}}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: "busybox:1.36", command: [sh, -c, "until nslookup own.default.svc.cluster.local; do sleep 0.1; done"]}
"#,
    );
    a.sh("kubectl wait --for=jsonpath='{.status.phase}'=Succeeded pod/own --timeout=90s").ok();
    let address = a.k("get service own -o jsonpath={.spec.clusterIP}").ok();
    assert!(a.k("logs own").ok().contains(&address));
}

#[test]
fn a_cluster_is_reached_from_outside_through_a_balancer_a_node_port_and_by_its_name() {
    let cluster = Cluster::start_with(&["--external-ip-pool", "192.0.2.100-192.0.2.101"]);
    let host = cluster.server.host_tool();
    wait_until("there are virtual clusters", SOON, || host.k("get clusters.k3k.io -A").success);
    host.k("create namespace team").ok();
    host.apply(
        r#"
apiVersion: k3k.io/v1beta1
kind: Cluster
metadata: {name: balanced, namespace: team}
spec: {tlsSANs: [balanced.example.com], expose: {loadBalancer: {serverPort: 8443}}}
---
apiVersion: k3k.io/v1beta1
kind: Cluster
metadata: {name: ported, namespace: team}
spec: {tlsSANs: [ported.example.com], expose: {nodePort: {}}}
---
apiVersion: k3k.io/v1beta1
kind: Cluster
metadata: {name: named, namespace: team}
spec: {tlsSANs: [named.example.com], expose: {ingress: {annotations: {nginx.ingress.kubernetes.io/ssl-passthrough: "true"}}}}
"#,
    );
    host.sh("kubectl wait -n team --for=jsonpath='{.status.phase}'=Ready cluster.k3k.io/balanced cluster.k3k.io/ported cluster.k3k.io/named --timeout=60s")
        .ok();
    let balancer = "kubectl get service -n team k3k-balanced-service -o jsonpath='{.status.loadBalancer.ingress[*].ip}'";
    let balancer = host.until(balancer, SOON, |address| !address.is_empty());
    let port = host.k("get service -n team k3k-ported-service -o jsonpath={.spec.ports[0].nodePort}").ok();
    // Neither the address nor the port is followed by a path: what is reached is this cluster and no other.
    let outside = |name: &str, place: &str| {
        let text = command(&cluster, &format!("kubeconfig generate {name} -n team --kubeconfig-server {place}"));
        let kubeconfig = cluster.server.directory.path().join(format!("outside-{name}.yaml"));
        let text = text.replace(&format!("/clusters/{name}.team"), &format!("\n    tls-server-name: {name}.example.com"));
        std::fs::write(&kubeconfig, text).expect("a file can be written");
        Tool { kubeconfig, ..cluster.outside() }
    };
    let places = [("balanced", format!("{balancer}:8443")), ("ported", format!("{}:{port}", cluster.host.address))];
    for (name, place) in &places {
        let kubectl = outside(name, place);
        kubectl.until("kubectl get namespaces -o name", SOON, |names| names.contains("namespace/kube-system"));
        kubectl.k(&format!("create configmap {name}")).ok();
    }
    let other = outside("ported", &places[0].1).k("--request-timeout=5s get namespaces");
    assert!(!other.success, "one cluster's administrator at another's address");
    // By name, behind the address that all Ingresses share. The name is known to no DNS here.
    let ingress = "kubectl get ingress -n team k3k-named-ingress -o jsonpath='{.status.loadBalancer.ingress[*].ip}'";
    let ingress = host.until(ingress, SOON, |address| !address.is_empty());
    let by_name = |name: &str| {
        let text = command(&cluster, "kubeconfig generate named -n team");
        assert!(text.contains("    server: https://named.example.com\n"), "{text}");
        let kubeconfig = cluster.server.directory.path().join(format!("by-{name}.yaml"));
        let text = text.replace("https://named.example.com", &format!("https://{ingress}\n    tls-server-name: {name}.example.com"));
        std::fs::write(&kubeconfig, text).expect("a file can be written");
        Tool { kubeconfig, ..cluster.outside() }
    };
    let named = by_name("named");
    named.until("kubectl get namespaces -o name", SOON, |names| names.contains("namespace/kube-system"));
    named.k("create configmap named").ok();
    assert!(named.sh("kubectl get configmap named --watch --output-watch-events --request-timeout=3s").stdout.contains("ADDED"));
    assert!(!by_name("ported").k("--request-timeout=5s get namespaces").success, "a name that nobody leads in here");
    // Other hosts of the address have their TLS ended, by a certificate that nobody trusts.
    let other = format!("curl -sk --resolve other.example.com:443:{ingress} -o /dev/null -w '%{{http_code}}' https://other.example.com/");
    assert_eq!(cluster.outside().sh(&other).ok(), "404");
    host.k("patch cluster.k3k.io -n team named --type merge -p {\"spec\":{\"expose\":{\"ingress\":null,\"nodePort\":{}}}}").ok();
    wait_until("no name leads there any more", SOON, || !host.k("get ingress -n team k3k-named-ingress").success);
    let text = host.until("kubectl get secret -n team k3k-named-kubeconfig -o jsonpath='{.data.kubeconfig\\.yaml}' | base64 -d", SOON, |text| {
        text.contains("/clusters/named.team")
    });
    assert!(!text.contains("example.com"), "{text}");
    assert_eq!(host.k("get service -n team k3k-named-service -o jsonpath={.spec.type}").ok(), "NodePort");
    // A Cluster that says something else is reached in another way.
    host.k("patch cluster.k3k.io -n team balanced --type merge -p {\"spec\":{\"expose\":null,\"version\":\"v1.37.0\"}}").ok();
    wait_until("nothing leads there any more", SOON, || !host.k("get service -n team k3k-balanced-service").success);
    let own = Tool { kubeconfig: cluster.server.directory.path().join("own.yaml"), ..cluster.server.tool() };
    std::fs::write(&own.kubeconfig, command(&cluster, "kubeconfig generate balanced -n team")).expect("a file can be written");
    own.k("get configmap balanced").ok();
}
