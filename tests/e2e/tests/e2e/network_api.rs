//! PrismNET's gRPC API inside the server: a project reads its switches, ports and ACLs as Kubernetes has made them.
use crate::SOON;
use crate::service_alone::{channel, outside, with_token};
use prismnet::proto::network_service_client::NetworkServiceClient;
use prismnet::proto::{
    Acl, AllocateIpRequest, CreateAclRequest, CreateLogicalSwitchPortRequest, CreateLogicalSwitchRequest, DeleteAclRequest, DeleteAddressSetRequest,
    DeleteLogicalSwitchPortRequest, DeleteLogicalSwitchRequest, ListAcLsRequest, ListAddressSetsRequest, ListLogicalRoutersRequest,
    ListLogicalSwitchPortsRequest, ListLogicalSwitchesRequest, LogicalSwitch, LogicalSwitchPort, ReleaseIpRequest, UpdateAddressSetRequest,
};
use std::collections::BTreeMap;
use testkit::{Cluster, Tool, binary};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Two pods, and who may ask the first.
const SHOP: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: project-shop, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, "mkdir /www; echo shop >/www/page; exec httpd -f -p 8080 -h /www"]
    ports: [{name: http, containerPort: 8080}]
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: "1", memory: 128Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: front, namespace: project-shop, labels: {app: frontend}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sleep, "100000"]
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: "1", memory: 128Mi}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web-for-frontend, namespace: project-shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}], ports: [{protocol: TCP, port: 8080}, {port: http}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out-to-all, namespace: project-shop}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}
"#;

/// A pod of the project's virtual cluster.
const INSIDE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: within}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sleep, "100000"]
    resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: "1", memory: 128Mi}}
"#;

/// The API with one token.
struct Asking {
    client: NetworkServiceClient<Channel>,
    token: String,
}

impl Asking {
    async fn switches(&mut self) -> Vec<LogicalSwitch> {
        let asked = with_token(&self.token, ListLogicalSwitchesRequest {});
        self.client.list_logical_switches(asked).await.expect("they are listed").into_inner().logical_switches
    }
    async fn switch_names(&mut self) -> Vec<String> {
        self.switches().await.into_iter().map(|switch| switch.name).collect()
    }
    async fn ports(&mut self, namespace: &str) -> Vec<LogicalSwitchPort> {
        let asked = with_token(&self.token, ListLogicalSwitchPortsRequest { namespace: namespace.into() });
        self.client.list_logical_switch_ports(asked).await.expect("they are listed").into_inner().ports
    }
    async fn acls(&mut self, namespace: &str) -> Result<Vec<Acl>, Status> {
        let asked = with_token(&self.token, ListAcLsRequest { namespace: namespace.into() });
        self.client.list_ac_ls(asked).await.map(|acls| acls.into_inner().acls)
    }
    async fn sets(&mut self) -> BTreeMap<String, Vec<String>> {
        let sets = self.client.list_address_sets(with_token(&self.token, ListAddressSetsRequest {})).await.expect("they are listed");
        sets.into_inner().address_sets.into_iter().map(|set| (set.name, set.addresses)).collect()
    }
}

/// What `kubectl` says of a pod: address, container id, uid.
fn pod(kubectl: &Tool, arguments: &str) -> (String, String) {
    let printed = kubectl.sh(&format!("kubectl get pod {arguments} -o jsonpath='{{.status.podIP}} {{.status.containerStatuses[0].containerID}}'")).ok();
    let (address, container) = printed.trim().split_once(' ').expect("address and container");
    (address.to_owned(), container.trim_start_matches("containerd://").to_owned())
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, says: &str) {
    let status = answer.expect_err("it is refused");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(says), "{status:?}");
}

#[test]
fn a_project_sees_its_own_network_and_changes_it_by_kubernetes() {
    let cluster = Cluster::start_with(&["--cloud-api-listen", "0.0.0.0:6000"]);
    let kubectl = cluster.tool();
    let iam = |line: &str| kubectl.sh(&format!("{} iam {line}", binary().display())).ok().trim().to_owned();
    let token = |account: &str| iam(&format!("token create {account} --duration 30m"));
    let of_project = |project: &str| token(&format!("sa-ci@proj-{project} --project proj-{project}"));
    for (org, project) in [("org-a", "shop"), ("org-b", "other")] {
        iam(&format!("org create {org} --id {org}"));
        iam(&format!("project create {project} --org {org} --id proj-{project}"));
        iam(&format!("service-account create ci --project proj-{project}"));
        kubectl.until(&format!("kubectl get serviceaccount default -n project-{project} -o name --ignore-not-found"), SOON, |name| !name.is_empty());
    }
    iam("user create boss@example.com --org org-a");
    iam("role grant org_admin --user boss@example.com --org org-a");
    let tokens = [of_project("shop"), of_project("other"), token("boss@example.com")];
    kubectl.apply(SHOP);
    // A pod of somebody else, whom the shop's policies mean too.
    kubectl.apply(&SHOP.split("---").next().expect("a pod").replace("project-shop", "project-other"));
    let inside = cluster.server.virtual_cluster("project-shop", "dev");
    inside.until("kubectl get serviceaccount default -o name --ignore-not-found", SOON, |name| !name.is_empty());
    inside.apply(INSIDE);
    kubectl.sh("kubectl wait --for=condition=Ready pod/web pod/front -n project-shop --timeout=90s").ok();
    kubectl.sh("kubectl wait --for=condition=Ready pod/web -n project-other --timeout=90s").ok();
    inside.sh("kubectl wait --for=condition=Ready pod/within --timeout=90s").ok();
    let ((web, web_container), (front, _)) = (pod(&kubectl, "web -n project-shop"), pod(&kubectl, "front -n project-shop"));
    let ((foreign, _), (within, _)) = (pod(&kubectl, "web -n project-other"), pod(&inside, "within"));
    let dns = kubectl.sh("kubectl get service kube-dns -n kube-system -o jsonpath='{.spec.clusterIP}'").ok();
    let authority = std::fs::read_to_string(cluster.server.data_dir().join("server/tls/server-ca.crt")).expect("the server has an authority");
    let address = format!("{}:6000", cluster.host.address);
    outside(&cluster.host.network, async move || {
        let connected = NetworkServiceClient::new(channel(&address, "localhost", &authority).await);
        let [mut shop, mut other, mut boss] = tokens.map(|token| Asking { client: connected.clone(), token });

        // Switches are namespaces, and everybody's their own.
        let own = shop.switches().await;
        assert!(own.iter().all(|switch| switch.org_id == "org-a" && switch.project_id == "proj-shop"), "{own:?}");
        assert!(own.iter().any(|switch| switch.name == "k8s-project-shop"), "{own:?}");
        assert_eq!(other.switch_names().await, ["k8s-project-other"]);
        let names = shop.switch_names().await;
        assert!(names.contains(&"k8s-default@dev.project-shop".to_owned()), "{names:?}");
        assert_eq!(boss.switch_names().await, names);
        let routers = shop.client.list_logical_routers(with_token(&shop.token, ListLogicalRoutersRequest {})).await.expect("they are listed").into_inner();
        let [router] = &routers.logical_routers[..] else { panic!("{routers:?}") };
        assert_eq!((router.name.as_str(), &router.logical_switches), ("k8s-cluster-router", &names));

        // Ports are pods.
        let ports = shop.ports("project-shop").await;
        let [first, second] = &ports[..] else { panic!("{ports:?}") };
        assert!(first.name.starts_with("front-") && first.ip_address == format!("{front}/24"), "{first:?}");
        assert_eq!((second.name.clone(), second.ip_address.clone()), (format!("web-{web_container}"), format!("{web}/24")));
        assert_eq!(router.gateways, std::slice::from_ref(&second.gateway));
        let everywhere: Vec<String> = shop.ports("").await.into_iter().map(|port| port.ip_address).collect();
        assert!(everywhere.contains(&format!("{within}/24")) && !everywhere.contains(&format!("{foreign}/24")), "{everywhere:?}");
        assert_eq!(shop.ports("default@dev.project-shop").await.len(), 1);
        assert!(shop.ports("project-other").await.is_empty() && shop.ports("kube-system").await.is_empty());

        // ACLs are NetworkPolicies.
        let acls = shop.acls("project-shop").await.expect("they are listed");
        let of = |policy: &str| acls.iter().filter(|acl| acl.id.starts_with(&format!("k8s-project-shop/{policy}/"))).collect::<Vec<_>>();
        let [by_number, by_name, rest] = of("web-for-frontend")[..] else { panic!("{acls:?}") };
        let sets = shop.sets().await;
        let named = |acl: &Acl, field: &str| {
            let (_, name) = acl.r#match.split_once(&format!("{field} == $")).expect("a set is named");
            sets[name.split(' ').next().expect("a name")].clone()
        };
        for acl in [by_number, by_name] {
            assert_eq!((acl.direction.as_str(), acl.priority, acl.action.as_str()), ("to-lport", 1000, "allow-related"));
            assert!(acl.r#match.ends_with(" && tcp.dst == 8080"), "{acl:?}");
            assert_eq!((named(acl, "ip4.src"), named(acl, "ip4.dst")), (vec![front.clone()], vec![web.clone()]));
        }
        assert_eq!((rest.direction.as_str(), rest.priority < 1000, rest.action.as_str()), ("to-lport", true, "drop"));
        assert_eq!(named(rest, "ip4.dst"), [web.as_str()]);
        assert!(!of("default-deny-all").is_empty(), "what projects start with is seen too: {acls:?}");
        let out = of("out-to-all")[0];
        assert_eq!(out.direction, "from-lport");
        let mut reached = named(out, "ip4.dst");
        reached.sort();
        let mut pods = vec![web.clone(), front.clone()];
        pods.sort();
        assert_eq!(reached, pods, "others' pods are not told, though the policy lets packets go there");
        refused(other.acls("project-shop").await, Code::NotFound, "no logical switch");
        assert!(other.sets().await.values().flatten().all(|address| *address == foreign));

        // What is Kubernetes' is changed there.
        let (token, own) = (shop.token.clone(), "project-shop".to_owned());
        let client = &mut shop.client;
        let create = |namespace: &str, org_id: &str| {
            with_token(&token, CreateLogicalSwitchRequest { namespace: namespace.into(), org_id: org_id.into(), ..Default::default() })
        };
        refused(client.create_logical_switch(create("lab", "")).await, Code::FailedPrecondition, "create namespace \"lab\"");
        refused(client.create_logical_switch(create("lab", "org-b")).await, Code::PermissionDenied, "");
        refused(client.create_logical_switch(create(&own, "")).await, Code::AlreadyExists, "");
        let delete = |namespace: &str| with_token(&token, DeleteLogicalSwitchRequest { namespace: namespace.into() });
        refused(client.delete_logical_switch(delete(&own)).await, Code::FailedPrecondition, "delete namespace");
        refused(client.delete_logical_switch(delete("project-other")).await, Code::NotFound, "");
        let port = CreateLogicalSwitchPortRequest { namespace: own.clone(), pod_name: "new".into(), container_id: "c".into() };
        refused(client.create_logical_switch_port(with_token(&token, port)).await, Code::FailedPrecondition, "create pod \"new\"");
        let port = DeleteLogicalSwitchPortRequest { namespace: own.clone(), container_id: web_container.clone() };
        refused(client.delete_logical_switch_port(with_token(&token, port)).await, Code::FailedPrecondition, "follows from pod \"web\"");
        let acl = CreateAclRequest { namespace: own.clone(), direction: "to-lport".into(), r#match: "1".into(), action: "drop".into(), priority: 1 };
        refused(client.create_acl(with_token(&token, acl)).await, Code::FailedPrecondition, "create a NetworkPolicy");
        let delete = |id: &str| with_token(&token, DeleteAclRequest { id: id.into() });
        refused(client.delete_acl(delete(&rest.id)).await, Code::FailedPrecondition, "NetworkPolicy \"web-for-frontend\"");
        refused(client.delete_acl(delete("k8s-project-other/default-deny-all/ingress/default")).await, Code::NotFound, "");
        let set = UpdateAddressSetRequest { name: "mine".into(), addresses: vec!["192.0.2.1".into()] };
        refused(client.update_address_set(with_token(&token, set)).await, Code::FailedPrecondition, "selectors of NetworkPolicies");
        refused(client.delete_address_set(with_token(&token, DeleteAddressSetRequest { name: "mine".into() })).await, Code::NotFound, "");

        // The specification's CNI workflow: the address is the pod's, and stays while the pod does.
        let allocate = |pod: &str| with_token(&token, AllocateIpRequest { namespace: own.clone(), pod_name: pod.into(), container_id: "c".into() });
        let allocated = client.allocate_ip(allocate("web")).await.expect("the pod has an address").into_inner();
        assert_eq!((allocated.ip_address, allocated.gateway), (format!("{web}/24"), second.gateway.clone()));
        assert_eq!(allocated.dns_servers, [dns.trim()]);
        refused(client.allocate_ip(allocate("none")).await, Code::FailedPrecondition, "create pod \"none\"");
        let release = |container: &str| with_token(&token, ReleaseIpRequest { namespace: own.clone(), pod_name: "web".into(), container_id: container.into() });
        refused(client.release_ip(release(&web_container)).await, Code::FailedPrecondition, "delete the pod");
        client.release_ip(release("gone")).await.expect("what is not there needs no release");
    });

    // What changes in Kubernetes changes here.
    kubectl.sh("kubectl delete pod web -n project-shop && kubectl delete networkpolicy web-for-frontend -n project-shop").ok();
    let (token, address) = (of_project("shop"), format!("{}:6000", cluster.host.address));
    let authority = std::fs::read_to_string(cluster.server.data_dir().join("server/tls/server-ca.crt")).expect("the server has an authority");
    outside(&cluster.host.network, async move || {
        let mut shop = Asking { client: NetworkServiceClient::new(channel(&address, "localhost", &authority).await), token };
        assert_eq!(shop.ports("project-shop").await.len(), 1);
        let acls = shop.acls("project-shop").await.expect("they are listed");
        assert!(!acls.is_empty() && acls.iter().all(|acl| !acl.id.contains("web-for-frontend")), "{acls:?}");
    });
}
