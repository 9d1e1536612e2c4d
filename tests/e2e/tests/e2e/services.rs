//! Services: names, addresses, node ports, affinity, from pods, the node and outside.
use crate::SOON;
use testkit::Cluster;

#[test]
fn services_are_reached_by_name_address_and_port() {
    let cluster = Cluster::start();
    let kubectl = cluster.tool();
    kubectl.apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, "mkdir /www; hostname >/www/name; exec httpd -f -p 8080 -h /www"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /name, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http, nodePort: 30081}]}
---
apiVersion: v1
kind: Service
metadata: {name: sticky}
spec: {selector: {app: web}, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: web.default.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: main, image: "busybox:1.36", command: [sleep, "100000"]}]}
"#,
    );
    kubectl.sh("kubectl rollout status deployment/web --timeout=90s && kubectl wait --for=condition=Ready pod/client --timeout=90s").ok();
    let names = |script: &str| {
        // Of thirty requests, every one of three pods gets some: that none does is a chance of one in 10^5.
        let asked = kubectl.sh(&format!("for i in $(seq 30); do {script}; done | sort | uniq -c"));
        asked.ok().lines().count()
    };
    kubectl.until("kubectl exec client -- timeout 5 wget -qO- http://web/name", SOON, |name| name.starts_with("web-"));
    for name in ["web", "web.default", "web.default.svc", "web.default.svc.cluster.local", "elsewhere"] {
        kubectl.sh(&format!("kubectl exec client -- timeout 5 wget -qO- http://{name}/name")).ok();
    }
    assert_eq!(names("kubectl exec client -- timeout 5 wget -qO- http://web/name"), 3);
    let address = kubectl.sh("kubectl get service web -o jsonpath='{.spec.clusterIP}'").ok();
    // The machine itself sees the host cluster's Services alone: others' may have the same addresses.
    if !testkit::inside::is_wanted() {
        assert_eq!(names(&format!("curl -sS --max-time 5 http://{address}/name")), 3, "from the node");
    }
    let node = &cluster.host.address;
    assert_eq!(names(&format!("curl -sS --max-time 5 http://{node}:30081/name")), 3, "from the node through its port");
    let outside = cluster.outside();
    assert!(outside.sh(&format!("for i in $(seq 5); do curl -sS --max-time 5 http://{node}:30081/name; done")).ok().starts_with("web-"));
    kubectl.sh(&format!("kubectl exec client -- timeout 5 wget -qO- http://{node}:30081/name")).ok();
    // A pod that is served by itself.
    kubectl.sh("for pod in $(kubectl get pods -l app=web -o name); do for i in 1 2 3 4 5 6; do kubectl exec $pod -- timeout 5 wget -qO- http://web/name >/dev/null; done; done").ok();

    // One client stays with one pod.
    assert_eq!(names("kubectl exec client -- timeout 5 wget -qO- http://sticky/name"), 1);
    // A headless Service has the pods' own addresses.
    let looked_up = kubectl.sh("kubectl exec client -- nslookup headless.default.svc.cluster.local").ok();
    let pods = kubectl.sh("kubectl get pods -l app=web -o jsonpath='{.items[*].status.podIP}'").ok();
    assert!(pods.split(' ').count() == 3 && pods.split(' ').all(|address| looked_up.contains(address)), "{looked_up} lacks some of {pods}");
    // A Service without endpoints refuses at once, a name that is not known is unknown.
    let refused = kubectl.sh("kubectl exec client -- timeout 5 wget -qO- http://nobody/").err();
    assert!(refused.contains("Connection refused") || refused.contains("Host is unreachable"), "{refused}");
    assert!(kubectl.sh("kubectl exec client -- timeout 5 wget -qO- http://unknown/").err().contains("bad address"));
    // Reverse names of Services.
    assert!(kubectl.sh(&format!("kubectl exec client -- nslookup {address}")).ok().contains("web.default.svc.cluster.local"));

    // An endpoint that goes is not sent to any more.
    kubectl.sh("kubectl scale deployment web --replicas=1").ok();
    kubectl.until_it_prints("kubectl get endpointslices -l kubernetes.io/service-name=web -o jsonpath='{.items[*].endpoints[*].conditions.ready}'", "true");
    assert_eq!(names("kubectl exec client -- timeout 5 wget -qO- http://web/name"), 1);
    // The port is the next Service's when its Service is gone.
    kubectl.sh("kubectl delete service web").ok();
    kubectl.until(&format!("curl -s --max-time 2 http://{node}:30081/name || echo gone"), SOON, |text| text == "gone");
    kubectl.sh("kubectl expose deployment web --name=again --port=80 --target-port=8080 --type=NodePort").ok();
    kubectl.until(&format!("curl -sS --max-time 5 http://{node}:$(kubectl get service again -o jsonpath='{{.spec.ports[0].nodePort}}')/name"), SOON, |name| {
        name.starts_with("web-")
    });
}
