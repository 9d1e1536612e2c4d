//! Load balancers: addresses of Services and Ingresses, reached from outside, with real pods.
use crate::SOON;
use clock::SystemClock;
use pki::{CertificateAuthority, LeafRequest};
use std::time::Duration;
use testkit::{Cluster, Tool, wait_until};

/// A web server whose every file says `page`, with its pods' names under `/name`.
fn web(name: &str, page: &str, replicas: u32) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, "mkdir -p /www/api; hostname >/www/name; echo ok >/www/health; echo {page} | tee /www/index.html >/www/api/index.html; exec httpd -f -p 8080 -h /www"]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /name, port: http}}, periodSeconds: 1}}
"#
    )
}

fn service(name: &str, app: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, selector: {{app: {app}}}, ports: [{{name: http, port: 80, targetPort: http}}]{more}}}\n"
    )
}

fn address_of(kubectl: &Tool, what: &str) -> String {
    kubectl.until(&format!("kubectl get {what} -o jsonpath='{{.status.loadBalancer.ingress[*].ip}}'"), SOON, |text| !text.is_empty())
}

#[test]
fn services_and_ingresses_have_addresses_that_are_reached_from_outside() {
    let cluster = Cluster::start_with(&["--external-ip-pool", "192.0.2.100-192.0.2.102"]);
    let (kubectl, outside) = (cluster.tool(), cluster.outside());
    kubectl.apply(&(web("web", "one", 2) + &web("other", "two", 1).replacen('\n', "\n---\n", 1) + &service("web", "web", "")));
    kubectl.sh("kubectl rollout status deployment/web deployment/other --timeout=90s").ok();

    // A Service: its address is the pool's, and answers from outside, from the node, and from pods.
    let address = address_of(&kubectl, "service web");
    assert!(["192.0.2.100", "192.0.2.101", "192.0.2.102"].contains(&address.as_str()), "{address}");
    outside.until(&format!("curl -sS --max-time 2 http://{address}/"), SOON, |page| page == "one");
    let names = outside.sh(&format!("for i in $(seq 30); do curl -sS --max-time 5 http://{address}/name; done | sort | uniq -c")).ok();
    assert_eq!(names.lines().count(), 2, "both pods serve: {names}");
    kubectl.sh("kubectl get service web -o jsonpath='{.metadata.annotations}' | grep -q '\"fiberlb.plasmacloud.io/load-balancer-id\":\"lb-'").ok();
    kubectl.until("kubectl get events --field-selector involvedObject.name=web,reason=EnsuredLoadBalancer -o jsonpath='{.items[*].message}'", SOON, |text| {
        text == "Ensured load balancer"
    });
    // Nothing else of the machine is found there.
    for port in ["6443", "10250", &kubectl.sh("kubectl get service web -o jsonpath='{.spec.ports[0].nodePort}'").ok()] {
        let refused = outside.sh(&format!("curl -sSk --max-time 3 https://{address}:{port}/")).err();
        assert!(refused.contains("refused") || refused.contains("connect"), "{port}: {refused}");
    }

    // Ingresses: hosts, paths, TLS by name.
    let authority = CertificateAuthority::generate("test", &SystemClock).expect("an authority can be made");
    let request = LeafRequest {
        common_name: "shop.example.com".into(),
        organizations: vec![],
        dns_names: vec!["shop.example.com".into()],
        ip_addresses: vec![],
        server: true,
        client: false,
        validity: Duration::from_secs(3600),
    };
    let issued = authority.issue(&request, &SystemClock).expect("a certificate can be issued");
    let file = |name: &str, text: &str| {
        let path = cluster.server.directory.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    let (authority, certificate, key) =
        (file("ca.pem", authority.certificate_pem()), file("tls.pem", &issued.certificate_pem), file("tls.key", &issued.key_pem));
    kubectl.sh(&format!("kubectl create secret tls shop --cert={certificate} --key={key}")).ok();
    kubectl.apply(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  tls: [{hosts: [shop.example.com], secretName: shop}]
  rules:
  - host: shop.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
      - {path: /api, pathType: Prefix, backend: {service: {name: other, port: {number: 80}}}}
---
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {selector: {app: other}, ports: [{port: 80, targetPort: http}]}
"#,
    );
    assert_eq!(kubectl.sh("kubectl get ingress shop -o jsonpath='{.spec.ingressClassName}'").ok(), "fiberlb", "the class is the default");
    let ingress = address_of(&kubectl, "ingress shop");
    assert_ne!(ingress, address);
    let get = |path: &str| format!("curl -sS --max-time 3 --resolve shop.example.com:80:{ingress} http://shop.example.com{path}");
    outside.until(&get("/"), SOON, |page| page == "one");
    outside.until(&get("/api/"), SOON, |page| page == "two");
    assert!(outside.sh(&format!("curl -sS --max-time 3 http://{ingress}/")).ok().contains("404"), "no rule has this host");
    let https =
        format!("curl -sS --max-time 3 --cacert {authority} --resolve shop.example.com:443:{ingress} https://shop.example.com/api/ -w ' %{{http_version}}'");
    outside.until(&https, SOON, |page| page.split_whitespace().eq(["two", "2"]));

    // While its pods are replaced, no request is lost.
    let restart = kubectl.background("kubectl rollout restart deployment/web && kubectl rollout status deployment/web --timeout=90s");
    let codes = outside.sh(&format!("for i in $(seq 300); do {} -o /dev/null -w '%{{http_code}}\\n'; sleep 0.02; done | sort | uniq -c", get("/")));
    assert_eq!(codes.ok().split_whitespace().collect::<Vec<_>>(), ["300", "200"]);
    drop(restart);

    // The pool is exhausted, which is told, and the one who waits gets what is freed.
    kubectl.apply(&(service("third", "web", "") + &service("late", "web", "")));
    address_of(&kubectl, "service third");
    let told = "kubectl get service late -o jsonpath='{.status.conditions[?(@.type==\"fiberlb.plasmacloud.io/AddressAllocated\")].reason}'";
    kubectl.until(told, SOON, |text| text == "AddressPoolExhausted");
    let event = "kubectl get events --field-selector involvedObject.name=late,reason=SyncLoadBalancerFailed -o jsonpath='{.items[*].message}'";
    kubectl.until(event, SOON, |text| text == "Error syncing load balancer: failed to ensure load balancer: no address is free in the pool");
    kubectl.sh("kubectl delete service web --timeout=30s").ok();
    assert_eq!(address_of(&kubectl, "service late"), address);
    outside.until(&format!("curl -sS --max-time 2 http://{address}/"), SOON, |page| page == "one");
    // All given back, nothing of it is left on the node.
    kubectl.sh("kubectl delete ingress shop && kubectl delete service third late --timeout=30s").ok();
    wait_until("the addresses are off the node", SOON, || {
        !String::from_utf8_lossy(&cluster.host.command("ip").args(["-o", "address"]).output().expect("ip runs").stdout).contains("192.0.2.10")
    });
}

#[test]
fn a_health_check_takes_a_pod_out_and_lets_it_in_again() {
    let cluster = Cluster::start_with(&["--external-ip-pool", "192.0.2.100/32"]);
    let (kubectl, outside) = (cluster.tool(), cluster.outside());
    let annotations = "{fiberlb.plasmacloud.io/health-check-path: /health, fiberlb.plasmacloud.io/health-check-interval: 200ms, fiberlb.plasmacloud.io/health-check-retries: \"2\", fiberlb.plasmacloud.io/algorithm: least-conn}";
    let service = service("web", "web", "").replace("{name: web}", &format!("{{name: web, annotations: {annotations}}}"));
    kubectl.apply(&(web("web", "one", 2) + &service));
    kubectl.sh("kubectl rollout status deployment/web --timeout=90s").ok();
    let address = address_of(&kubectl, "service web");
    outside.until(&format!("curl -sS --max-time 2 http://{address}/"), SOON, |page| page == "one");
    let names = || outside.sh(&format!("for i in $(seq 12); do curl -s --max-time 5 http://{address}/name; done | sort -u | wc -l")).ok().trim().to_owned();
    assert_eq!(names(), "2");
    let first = kubectl.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'").ok();
    // It stays ready for Kubernetes: only the balancer's own check sees that it is ill.
    kubectl.sh(&format!("kubectl exec {first} -- rm /www/health")).ok();
    wait_until("the ill pod gets nothing", SOON, || names() == "1");
    kubectl.sh(&format!("kubectl exec {first} -- touch /www/health")).ok();
    wait_until("the pod that is well again gets requests", SOON, || names() == "2");
}

#[test]
fn without_a_pool_services_share_the_nodes_address_port_by_port() {
    let cluster = Cluster::start();
    let (kubectl, outside) = (cluster.tool(), cluster.outside());
    kubectl.apply(&(web("web", "one", 1) + &service("web", "web", "")));
    kubectl.sh("kubectl rollout status deployment/web --timeout=90s").ok();
    let address = address_of(&kubectl, "service web");
    assert_eq!(address, cluster.host.address);
    outside.until(&format!("curl -sS --max-time 2 http://{address}/"), SOON, |page| page == "one");
    for (name, port, by) in [("second", 80, "in use by Service"), ("api", 6443, "in use by the API server")] {
        kubectl.apply(&service(name, "web", "").replace("port: 80", &format!("port: {port}")));
        let event = format!("kubectl get events --field-selector involvedObject.name={name},reason=SyncLoadBalancerFailed -o jsonpath='{{.items[*].message}}'");
        kubectl.until(&event, SOON, |text| text.contains(&format!("port TCP/{port} of address")) && text.contains(by));
    }
    // The first to ask has the port; who asked next gets it when it is free.
    kubectl.sh("kubectl delete service web --timeout=30s").ok();
    assert_eq!(address_of(&kubectl, "service second"), address);
}

#[test]
fn tenants_share_the_pool_and_keep_their_hosts() {
    let cluster = Cluster::start_with(&["--external-ip-pool", "192.0.2.100-192.0.2.109"]);
    let outside = cluster.outside();
    let (a, b) = (cluster.server.virtual_cluster("team-a", "one"), cluster.server.virtual_cluster("team-b", "two"));
    let ingress = |host: &str| {
        let path = "{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}";
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: web}}\nspec: {{rules: [{{host: {host}, http: {{paths: [{path}]}}}}, {{host: both.example.com, http: {{paths: [{path}]}}}}]}}\n"
        )
    };
    let mut addresses = Vec::new();
    for (kubectl, page) in [(&a, "team-a"), (&b, "team-b")] {
        wait_until("the service account is there", SOON, || kubectl.k("get serviceaccount default").success);
        kubectl.apply(&(web("web", page, 1) + &service("web", "web", "") + &ingress(&format!("{page}.example.com"))));
        kubectl.sh("kubectl rollout status deployment/web --timeout=90s").ok();
        let address = address_of(kubectl, "service web");
        outside.until(&format!("curl -sS --max-time 2 http://{address}/"), SOON, |text| text == page);
        addresses.push(address);
        let shared = address_of(kubectl, "ingress web");
        let get = format!("curl -sS --max-time 3 --resolve {page}.example.com:80:{shared} http://{page}.example.com/");
        outside.until(&get, SOON, |text| text == page);
        // A tenant's own pods reach it as those outside do.
        kubectl.sh(&format!("kubectl exec deployment/web -- timeout 5 wget -qO- --header 'Host: {page}.example.com' http://{shared}/")).ok();
        // Who asked first keeps the name.
        outside.until(&format!("curl -sS --max-time 3 --resolve both.example.com:80:{shared} http://both.example.com/"), SOON, |text| text == "team-a");
    }
    assert_ne!(addresses[0], addresses[1]);
    b.until("kubectl get events --field-selector involvedObject.name=web,reason=HostRefused -o jsonpath='{.items[*].message}'", SOON, |text| {
        text.contains("both.example.com") && !text.contains("team-a")
    });
    // An address somebody writes into a status by hand leads nobody from outside anywhere.
    let patch = format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{}"}}]}}}}}}"#, addresses[0]);
    b.sh(&format!("kubectl patch service web --subresource=status --type=merge -p '{patch}'")).ok();
    outside.until(&format!("for i in $(seq 10); do curl -sS --max-time 3 http://{}/; done | sort -u", addresses[0]), SOON, |text| text == "team-a");
    outside.until(&format!("curl -sS --max-time 3 http://{}/", addresses[1]), SOON, |text| text == "team-b");
    // What a cluster had is free when it is gone.
    let host = cluster.server.host_tool();
    let ledger = "kubectl get configmap -n kube-system fiberlb-addresses -o jsonpath='{.data}'";
    assert!(host.sh(ledger).ok().contains("two.team-b"));
    host.sh("kubectl delete cluster.k3k.io -n team-b two --timeout=60s").ok();
    host.until(ledger, SOON, |data| !data.contains("two.team-b") && data.contains("one.team-a"));
}
