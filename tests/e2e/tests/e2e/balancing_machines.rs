//! Load balancers on machines that joined: whose addresses are served where, what such a machine may read, and failover.
use crate::SOON;
use clock::SystemClock;
use pki::{CertificateAuthority, LeafRequest};
use std::time::Duration;
use testkit::{Cluster, Machine, Tool, wait_until};

const OBJECTS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, "mkdir -p /www; echo page >/www/index.html; exec httpd -f -p 8080 -h /www"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: proxied, annotations: {fiberlb.plasmacloud.io/algorithm: least-conn}}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: inside}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop}
spec:
  tls: [{hosts: [shop.example.com], secretName: shop}]
  rules: [{host: shop.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: inside, port: {number: 80}}}}]}}]
"#;

fn address_of(kubectl: &Tool, what: &str) -> String {
    kubectl.until(&format!("kubectl get {what} -o jsonpath='{{.status.loadBalancer.ingress[*].ip}}'"), SOON, |text| !text.is_empty())
}

/// The addresses of the pool that a machine answers for.
fn held(machine: &Machine) -> String {
    let shown = machine.host.command("ip").args(["-4", "-o", "address", "show", "fiber0"]).output().expect("ip is installed");
    String::from_utf8_lossy(&shown.stdout).into_owned()
}

#[test]
fn an_address_moves_to_another_balancing_machine_when_its_own_dies() {
    let cluster = Cluster::start_with(&["--external-ip-pool", "192.0.2.100-192.0.2.103"]);
    let machine = Machine::of(&cluster, "n1");
    let (kubectl, outside) = (cluster.tool(), cluster.outside());
    let file = |name: &str, text: &str| {
        let path = cluster.server.directory.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
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
    let (ca, certificate, key) = (file("ca.pem", authority.certificate_pem()), file("tls.pem", &issued.certificate_pem), file("tls.key", &issued.key_pem));
    let ready = "kubectl get nodes -o jsonpath='{.items[*].status.conditions[?(@.type==\"Ready\")].status}'";
    kubectl.until_it_prints(ready, "True True");
    for name in ["shop", "unused"] {
        kubectl.sh(&format!("kubectl create secret tls {name} --cert={certificate} --key={key}")).ok();
    }
    kubectl.apply(OBJECTS);
    kubectl.sh("kubectl rollout status daemonset/web --timeout=90s").ok();
    let addresses = ["service plain", "service proxied", "ingress shop"].map(|what| address_of(&kubectl, what));
    let [plain, proxied, ingress] = &addresses;
    let https = format!("curl -sS --max-time 3 --cacert {ca} --resolve shop.example.com:443:{ingress} https://shop.example.com/");
    let served = |tool: &Tool| {
        tool.until(&format!("curl -sS --max-time 3 http://{plain}/"), SOON, |page| page == "page");
        tool.until(&format!("curl -sS --max-time 3 http://{proxied}/"), SOON, |page| page == "page");
        tool.until(&https, SOON, |page| page == "page");
    };
    served(&outside);
    assert_eq!(held(&machine), "", "who was not told to balance does not");

    // What the machine may read as itself: nothing of this before it balances, then the certificates that Ingresses name.
    let identity = machine.data_dir().join("agent/identity");
    let code = |path: &str, more: &str| {
        let file = |name: &str| identity.join(name).display().to_string();
        let (ca, cert, key) = (file("server-ca.crt"), file("client-kubelet.crt"), file("client-kubelet.key"));
        kubectl
            .sh(&format!("curl -sS -o /dev/null -w '%{{http_code}}' --max-time 5 --cacert {ca} --cert {cert} --key {key} {more} '{}{path}'", cluster.url()))
            .ok()
    };
    let secret = |name: &str| format!("/api/v1/namespaces/default/secrets/{name}");
    let ingresses = "/clusters/*/apis/networking.k8s.io/v1/ingresses?watch=true&timeoutSeconds=1";
    assert_eq!([code(&secret("shop"), ""), code(&secret("unused"), ""), code(ingresses, "")], ["403", "403", "403"]);
    let label = r#"-X PATCH -H 'Content-Type: application/merge-patch+json' -d '{"metadata":{"labels":{"fiberlb.plasmacloud.io/balances":"true"}}}'"#;
    assert_eq!(code("/api/v1/nodes/n1", label), "403", "nobody makes itself a balancer");
    kubectl.sh("kubectl label node n1 fiberlb.plasmacloud.io/balances=true").ok();
    wait_until("the machine may read the certificate", SOON, || code(&secret("shop"), "") == "200");
    assert_eq!([code(&secret("unused"), ""), code("/api/v1/secrets", ""), code(ingresses, "")], ["403", "403", "200"]);

    // It alone balances now.
    let server = kubectl.sh("kubectl get nodes -o name | grep -v /n1").ok().trim().to_owned();
    kubectl.sh(&format!("kubectl label {server} node.kubernetes.io/exclude-from-external-load-balancers=")).ok();
    wait_until("the machine has all addresses", SOON, || addresses.iter().all(|address| held(&machine).contains(address)));
    served(&outside);
    let answers = outside.sh(&format!("ip neigh flush all; curl -sS --max-time 2 http://{plain}/ >/dev/null; ip neigh show {plain}")).ok();
    let link = machine.host.command("ip").args(["-o", "link"]).output().expect("ip is installed");
    let own = answers.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).expect("the address is answered for").to_owned();
    assert!(String::from_utf8_lossy(&link.stdout).contains(&own), "{answers}");

    // The machine's link is cut: the server's own node has the addresses within seconds, long before the other is given up.
    kubectl.sh(&format!("kubectl label {server} node.kubernetes.io/exclude-from-external-load-balancers-")).ok();
    machine.host.set_connected(false);
    served(&outside);
    kubectl.until_it_prints(ready, "True True");
    // It comes back, and is told no longer to balance: nothing of that stays on it.
    machine.host.set_connected(true);
    kubectl.sh("kubectl label node n1 fiberlb.plasmacloud.io/balances-").ok();
    wait_until("the machine has no address", SOON, || held(&machine).is_empty());
    served(&outside);
    wait_until("the certificate is no longer its to read", SOON, || code(&secret("shop"), "") == "403");
}
