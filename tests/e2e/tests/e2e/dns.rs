//! DNS as pods see it: the Kubernetes DNS specification 1.1 record by record, by dig and by busybox' nslookup.
use crate::SOON;
use testkit::images::DIG;
use testkit::{Cluster, Tool};

/// Two pods that a StatefulSet names, one that is not ready, and one Service of each kind.
const OBJECTS: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:1.36
        command: [sleep, "100000"]
        ports: [{name: sql, containerPort: 5432}]
---
apiVersion: v1
kind: Pod
metadata: {name: late, labels: {app: db}}
spec:
  hostname: late
  subdomain: db
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"], ports: [{name: sql, containerPort: 5432}], readinessProbe: {exec: {command: ["false"]}}}]
---
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432, targetPort: sql}]}
---
apiVersion: v1
kind: Service
metadata: {name: eager}
spec: {clusterIP: None, publishNotReadyAddresses: true, selector: {app: db}, ports: [{name: sql, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: db}, ports: [{name: http, port: 80, targetPort: 5432}, {name: dns, port: 53, protocol: UDP, targetPort: 5353}]}
---
apiVersion: v1
kind: Service
metadata: {name: unnamed}
spec: {selector: {app: db}, ports: [{port: 80, targetPort: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: inside}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: many}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: dig}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: "dig:9.18"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: box}
spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]}
"#;

/// A hundred endpoints: too many for a datagram.
fn many() -> String {
    let endpoints: Vec<String> = (1..=100).map(|number| format!("{{addresses: [10.244.200.{number}]}}")).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: many-1, labels: {{kubernetes.io/service-name: many}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: 80, protocol: TCP}}]\nendpoints: [{}]\n",
        endpoints.join(", ")
    )
}

struct Asker<'a>(&'a Tool);

impl Asker<'_> {
    fn dig(&self, question: &str) -> String {
        self.0.sh(&format!("kubectl exec dig -- dig +tries=2 +time=3 {question}")).ok()
    }
    /// The answer section as `name ttl type data`, sorted.
    fn records(&self, question: &str) -> Vec<String> {
        let printed = self.dig(&format!("+noall +answer {question}"));
        let words = |line: &str| line.split_whitespace().filter(|word| *word != "IN").collect::<Vec<_>>().join(" ");
        let mut records: Vec<String> = printed.lines().filter(|line| !line.starts_with(';') && !line.trim().is_empty()).map(words).collect();
        records.sort();
        records
    }
    #[track_caller]
    fn check(&self, question: &str, expected: &[String]) {
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(self.records(question), expected, "{question}");
    }
    /// The code, whether the server says that it knows, and the owner of the SOA that comes with a denial.
    fn denied(&self, question: &str) -> (String, bool, String) {
        let printed = self.dig(&format!("+noall +comments +authority {question}"));
        let code = printed.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default().to_owned();
        let knows =
            printed.lines().any(|line| line.starts_with(";; flags:") && line.split(';').nth(2).is_some_and(|flags| flags.split(' ').any(|flag| flag == "aa")));
        let owner = printed.lines().find(|line| line.contains("SOA") && !line.starts_with(';')).and_then(|line| line.split_whitespace().next());
        (code, knows, owner.unwrap_or_default().to_owned())
    }
}

#[test]
fn answers_are_those_of_the_specification() {
    let cluster = Cluster::with_images(&[DIG]);
    let kubectl = cluster.tool();
    kubectl.apply(OBJECTS);
    kubectl.apply(&many());
    kubectl.sh("kubectl wait --for=condition=Ready pod/dig pod/box pod/db-0 pod/db-1 --timeout=90s").ok();
    let print = |script: &str| kubectl.until(script, SOON, |printed| !printed.is_empty());
    let [db0, db1, late] = ["db-0", "db-1", "late"].map(|name| print(&format!("kubectl get pod {name} -o jsonpath='{{.status.podIP}}'")));
    let [web, api] = ["web", "kubernetes"].map(|name| print(&format!("kubectl get service {name} -o jsonpath='{{.spec.clusterIP}}'")));
    let asker = Asker(&kubectl);
    let zone = "cluster.local";
    let svc = "default.svc.cluster.local";
    let dashed = |address: &str| address.replace('.', "-");
    let reverse = |address: &str| address.split('.').rev().collect::<Vec<_>>().join(".") + ".in-addr.arpa.";
    kubectl.until(&format!("kubectl exec dig -- dig +short eager.{svc}"), SOON, |printed| printed.lines().count() == 3);
    kubectl.until(&format!("kubectl exec dig -- dig +tcp +short many.{svc}"), SOON, |printed| printed.lines().count() == 100);

    // 2.2: the schema's version.
    asker.check(&format!("dns-version.{zone} TXT"), &[format!("dns-version.{zone}. 30 TXT \"1.1.0\"")]);
    // 2.3: a Service with a cluster IP: A, SRV of its named ports, PTR; nothing for a port without a name.
    asker.check(&format!("web.{svc} A"), &[format!("web.{svc}. 30 A {web}")]);
    asker.check(&format!("web.{svc} AAAA"), &[]);
    asker.check(&format!("kubernetes.{svc} A"), &[format!("kubernetes.{svc}. 30 A {api}")]);
    let srv = |name: &str, port: u16, target: &str, weight: u16| format!("{name}.{svc}. 30 SRV 0 {weight} {port} {target}.{svc}.");
    asker.check(&format!("_http._tcp.web.{svc} SRV"), &[srv("_http._tcp.web", 80, "web", 100)]);
    asker.check(&format!("_dns._udp.web.{svc} SRV"), &[srv("_dns._udp.web", 53, "web", 100)]);
    asker.check(&format!("-x {web}"), &[format!("{} 30 PTR web.{svc}.", reverse(&web))]);
    // 2.4: a headless Service: A and SRV of its ready endpoints by hostname, PTR of each.
    asker.check(&format!("db.{svc} A"), &[&db0, &db1].map(|address| format!("db.{svc}. 30 A {address}")));
    asker.check(&format!("db-0.db.{svc} A"), &[format!("db-0.db.{svc}. 30 A {db0}")]);
    asker.check(&format!("db-1.db.{svc} A"), &[format!("db-1.db.{svc}. 30 A {db1}")]);
    let weights = asker.records(&format!("_sql._tcp.db.{svc} SRV"));
    let targets: Vec<&str> = weights.iter().filter_map(|record| record.split(' ').nth(6)).collect();
    assert_eq!(targets, [format!("db-0.db.{svc}."), format!("db-1.db.{svc}.")], "{weights:?}");
    assert!(asker.records(&format!("-x {db0}")).contains(&format!("{} 30 PTR db-0.db.{svc}.", reverse(&db0))));
    // Unready endpoints are published only where the Service says so.
    asker.check(&format!("eager.{svc} A"), &[&db0, &db1, &late].map(|address| format!("eager.{svc}. 30 A {address}")));
    // 2.5: an external name is an alias, followed as far as can be.
    asker.check(&format!("inside.{svc} CNAME"), &[format!("inside.{svc}. 30 CNAME web.{svc}.")]);
    asker.check(&format!("inside.{svc} A"), &[format!("inside.{svc}. 30 CNAME web.{svc}."), format!("web.{svc}. 30 A {web}")]);
    // The seeds' names of pods.
    for name in [format!("{}.pod.{zone}", dashed(&db0)), format!("{}.default.pod.{zone}", dashed(&db0))] {
        asker.check(&format!("{name} A"), &[format!("{name}. 30 A {db0}")]);
    }

    // A name that does not exist is told from one that has no such record; both with the zone's SOA and authority.
    let told = |code: &str, owner: &str| (code.to_owned(), true, owner.to_owned());
    for nobody in [format!("nobody.{svc}"), format!("db-7.db.{svc}"), format!("late.db.{svc}"), format!("_none._tcp.web.{svc}"), format!("x.{zone}")] {
        assert_eq!(asker.denied(&format!("{nobody} A")), told("NXDOMAIN", "cluster.local."), "{nobody}");
    }
    for empty in [
        format!("web.{svc} AAAA"),
        format!("{svc} A"),
        format!("svc.{zone} A"),
        format!("_tcp.web.{svc} A"),
        format!("web.{svc} MX"),
        format!("unnamed.{svc} SRV"),
    ] {
        assert_eq!(asker.denied(&empty), told("NOERROR", "cluster.local."), "{empty}");
    }

    // Too long for a datagram of 512 or 1232 bytes: cut, and whole over TCP.
    for size in ["+noedns", "+bufsize=1232"] {
        let cut = asker.dig(&format!("+ignore +noall +comments {size} many.{svc} A"));
        assert!(cut.contains(" tc"), "{cut}");
        assert_eq!(asker.records(&format!("{size} many.{svc} A")).len(), 100, "asked again over TCP");
    }
    let edns = asker.dig(&format!("+noall +comments +bufsize=4096 +dnssec web.{svc} A"));
    assert!(edns.contains("EDNS: version: 0") && edns.contains("udp: 1232"), "{edns}");
    let wrong = asker.dig(&format!("+noall +comments +edns=1 +noednsnegotiation web.{svc} A"));
    assert!(wrong.contains("BADVERS"), "{wrong}");

    // busybox: short names by the search list, reverse names, several addresses.
    let nslookup = |name: &str| kubectl.sh(&format!("kubectl exec box -- nslookup {name}"));
    for name in [format!("web.{svc}"), format!("inside.{svc}")] {
        assert!(nslookup(&name).ok().contains(&web), "{name}");
    }
    assert!(nslookup(&web).ok().contains(&format!("web.{svc}")));
    let all = nslookup(&format!("db.{svc}")).ok();
    assert!(all.contains(&db0) && all.contains(&db1) && !all.contains(&late), "{all}");
    let unknown = nslookup(&format!("nobody.{svc}"));
    assert!(!unknown.success && (unknown.stdout + &unknown.stderr).contains("NXDOMAIN"));
    // Through the search list, by the C library's resolver: ndots makes five questions of it, each denied or answered.
    for short in ["web", "web.default", "web.default.svc", "db-0.db"] {
        // Nobody answers the ping; whom it is sent to is what was looked up.
        assert!(kubectl.sh(&format!("kubectl exec box -- ping -c 1 -W 1 {short}")).stdout.contains(&format!("PING {short} (")), "{short}");
    }
}
