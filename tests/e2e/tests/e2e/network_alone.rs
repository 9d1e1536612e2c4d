//! `k8shost prismnet`: switches, ports and ACLs made by gRPC, on a machine of their own, with real packets on them.
use crate::SOON;
use crate::service_alone::{Alone, Issuer, with_token};
use prismnet::proto::network_service_client::NetworkServiceClient;
use prismnet::proto::{
    AllocateIpRequest, CreateAclRequest, CreateLogicalSwitchPortRequest, CreateLogicalSwitchRequest, DeleteAclRequest, DeleteLogicalSwitchRequest,
    ListLogicalSwitchPortsRequest, ListLogicalSwitchesRequest, LogicalSwitchPort, ReleaseIpRequest, UpdateAddressSetRequest,
};
use std::process::{Child, Command, Stdio};
use testkit::wait_until;
use tonic::Code;
use tonic::transport::Channel;

type Client = NetworkServiceClient<Channel>;

/// A command where a port is.
fn at(port: &LogicalSwitchPort, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", port.network_namespace)).arg("--").arg(program);
    command
}

fn address(port: &LogicalSwitchPort) -> &str {
    port.ip_address.split('/').next().expect("an address")
}

/// Whether a page is read from one port at another.
fn reaches(from: &LogicalSwitchPort, to: &LogicalSwitchPort) -> bool {
    let page = format!("http://{}:8080/page", address(to));
    let outcome = at(from, "curl").args(["-sS", "--max-time", "1", &page]).output().expect("curl is installed");
    outcome.stdout == b"a page"
}

struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // One that has ended already needs no more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes network namespaces away that a test that failed has left.
struct Namespaces(Vec<String>);

impl Drop for Namespaces {
    fn drop(&mut self) {
        for path in self.0.iter().filter(|path| std::path::Path::new(path).exists()) {
            let name = path.rsplit('/').next().unwrap_or_default();
            // There is nobody to tell: the test has failed already.
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

async fn make_switch(client: &mut Client, token: &str, namespace: &str, subnet: &str) -> String {
    let wanted = CreateLogicalSwitchRequest { namespace: namespace.into(), subnet: subnet.into(), ..Default::default() };
    let made = client.create_logical_switch(with_token(token, wanted)).await.expect("it is made").into_inner().logical_switch.expect("it is told");
    assert_eq!(made.name, format!("k8s-{namespace}"));
    made.subnet
}

async fn make_port(client: &mut Client, token: &str, namespace: &str, pod: &str, container: &str) -> LogicalSwitchPort {
    let wanted = CreateLogicalSwitchPortRequest { namespace: namespace.into(), pod_name: pod.into(), container_id: container.into() };
    client.create_logical_switch_port(with_token(token, wanted)).await.expect("it is made").into_inner()
}

async fn make_acl(client: &mut Client, token: &str, priority: i32, matched: &str, action: &str) -> String {
    let wanted = CreateAclRequest { namespace: "shop".into(), direction: "to-lport".into(), priority, r#match: matched.into(), action: action.into() };
    client.create_acl(with_token(token, wanted)).await.expect("it is made").into_inner().id
}

async fn set_front(client: &mut Client, token: &str, ports: &[&LogicalSwitchPort]) {
    let addresses = ports.iter().map(|port| address(port).to_owned()).collect();
    client.update_address_set(with_token(token, UpdateAddressSetRequest { name: "front".into(), addresses })).await.expect("it is made");
}

#[test]
fn switches_made_by_grpc_carry_packets_and_acls_say_which() {
    let issuer = Issuer::new();
    let alone = Alone::new("prismnet", 5000, &["--dns-server", "192.0.2.53"], &issuer);
    let running = alone.start();
    let (one, two) = (issuer.token("org-1", "proj-1", 3600), issuer.token("org-1", "proj-2", 3600));

    let (mine, theirs) = (one.clone(), two.clone());
    let (web, front, lab, foreign) = alone.outside(async move |channel| {
        let mut client = Client::new(channel);
        assert_eq!(make_switch(&mut client, &mine, "shop", "").await, "10.244.1.0/24");
        assert_eq!(make_switch(&mut client, &mine, "lab", "10.244.64.0/26").await, "10.244.64.0/26");
        assert_eq!(make_switch(&mut client, &theirs, "shop", "").await, "10.244.2.0/24", "another project's of the same name");
        let again = CreateLogicalSwitchRequest { namespace: "shop".into(), ..Default::default() };
        assert_eq!(client.create_logical_switch(with_token(&mine, again)).await.expect_err("it is there").code(), Code::AlreadyExists);
        // An address first, as the specification's plugin asks for it; the port that comes then has it.
        let wanted = AllocateIpRequest { namespace: "shop".into(), pod_name: "web".into(), container_id: "c1".into() };
        let allocated = client.allocate_ip(with_token(&mine, wanted.clone())).await.expect("it is allocated").into_inner();
        assert_eq!((allocated.ip_address.as_str(), allocated.gateway.as_str()), ("10.244.1.2/24", "10.244.0.1"));
        assert_eq!(allocated.dns_servers, ["192.0.2.53"]);
        assert_eq!(client.allocate_ip(with_token(&mine, wanted)).await.expect("asked again").into_inner(), allocated);
        let elsewhere = AllocateIpRequest { namespace: "lab".into(), pod_name: "x".into(), container_id: "c9".into() };
        assert_eq!(client.allocate_ip(with_token(&theirs, elsewhere)).await.expect_err("the switch is another's").code(), Code::NotFound);
        let web = make_port(&mut client, &mine, "shop", "web", "c1").await;
        assert_eq!((web.ip_address.as_str(), web.name.as_str(), web.logical_switch.as_str()), ("10.244.1.2/24", "web-c1", "k8s-shop"));
        assert_eq!(make_port(&mut client, &mine, "shop", "web", "c1").await, web, "asked again");
        let front = make_port(&mut client, &mine, "shop", "front", "c2").await;
        let lab = make_port(&mut client, &mine, "lab", "lab", "c3").await;
        let foreign = make_port(&mut client, &theirs, "shop", "web", "c1").await;
        (web, front, lab, foreign)
    });
    let _left = Namespaces([&web, &front, &lab, &foreign].map(|port| port.network_namespace.clone()).into());
    let www = alone.directory.path().join("www");
    std::fs::create_dir(&www).expect("a directory can be made");
    std::fs::write(www.join("page"), "a page").expect("a file can be written");
    let serve = |port: &LogicalSwitchPort| {
        Serving(at(port, "busybox").args(["httpd", "-f", "-p", "8080", "-h"]).arg(&www).stdin(Stdio::null()).spawn().expect("busybox is installed"))
    };
    let _serving = [&web, &foreign].map(serve);
    wait_until("a port of the same switch reaches it", SOON, || reaches(&front, &web));
    assert!(reaches(&lab, &web), "and one of another switch of the project, by the router");
    wait_until("the other project's serves as well", SOON, || {
        at(&foreign, "curl").args(["-s", "http://127.0.0.1:8080/page"]).output().is_ok_and(|o| o.stdout == b"a page")
    });
    assert!(!reaches(&foreign, &web) && !reaches(&web, &foreign), "projects don't reach each other");
    // Nobody sends as somebody else: the neighbour's address is not heard.
    let _ = at(&front, "ip").args(["address", "add", "10.244.1.77/32", "dev", "eth0"]).status();
    let page = format!("http://{}:8080/page", address(&web));
    let lie = at(&front, "curl").args(["-sS", "--max-time", "1", "--interface", "10.244.1.77", &page]).output().expect("curl is installed");
    assert!(!lie.status.success());

    let (mine, theirs, there) = (one.clone(), two.clone(), front.clone());
    let drop_all = alone.outside(async move |channel| {
        let mut client = Client::new(channel);
        set_front(&mut client, &mine, &[&there]).await;
        let drop_all = make_acl(&mut client, &mine, 1, "1", "drop").await;
        make_acl(&mut client, &mine, 1000, "ip4.src == $front && tcp.dst == 8080", "allow-related").await;
        let foreign =
            CreateAclRequest { namespace: "lab".into(), direction: "to-lport".into(), r#match: "1".into(), action: "drop".into(), ..Default::default() };
        assert_eq!(client.create_acl(with_token(&theirs, foreign)).await.expect_err("the switch is another's").code(), Code::NotFound);
        let taken = DeleteAclRequest { id: drop_all.clone() };
        assert_eq!(client.delete_acl(with_token(&theirs, taken)).await.expect_err("it is another's").code(), Code::NotFound);
        drop_all
    });
    assert!(reaches(&front, &web) && !reaches(&lab, &web), "what the ACLs let through, and nothing else");

    // Killed, everything is as it was: packets go on meanwhile, and records are known to who comes next.
    drop(running);
    assert!(reaches(&front, &web) && !reaches(&lab, &web));
    let running = alone.start();
    let (mine, theirs, there) = (one.clone(), two.clone(), [front.clone(), lab.clone()]);
    let expected = [lab.clone(), front.clone(), web.clone()];
    alone.outside(async move |channel| {
        let mut client = Client::new(channel);
        let ports = client.list_logical_switch_ports(with_token(&mine, ListLogicalSwitchPortsRequest::default())).await.expect("they are listed");
        assert_eq!(ports.into_inner().ports, expected);
        set_front(&mut client, &mine, &[&there[0], &there[1]]).await;
        let switches = client.list_logical_switches(with_token(&theirs, ListLogicalSwitchesRequest {})).await.expect("they are listed").into_inner();
        assert_eq!(switches.logical_switches.iter().map(|switch| switch.subnet.as_str()).collect::<Vec<_>>(), ["10.244.2.0/24"]);
    });
    assert!(reaches(&front, &web) && reaches(&lab, &web), "the set has one more");

    let released = [web.clone(), front.clone()];
    alone.outside(async move |channel| {
        let mut client = Client::new(channel);
        client.delete_acl(with_token(&one, DeleteAclRequest { id: drop_all })).await.expect("it is deleted");
        let delete = DeleteLogicalSwitchRequest { namespace: "shop".into() };
        assert_eq!(client.delete_logical_switch(with_token(&one, delete.clone())).await.expect_err("it has ports").code(), Code::FailedPrecondition);
        for (pod, container) in [("web", "c1"), ("front", "c2"), ("front", "c2")] {
            let release = ReleaseIpRequest { namespace: "shop".into(), pod_name: pod.into(), container_id: container.into() };
            client.release_ip(with_token(&one, release)).await.expect("it is released, once or twice");
        }
        client.delete_logical_switch(with_token(&one, delete)).await.expect("it is deleted");
        let ports = client.list_logical_switch_ports(with_token(&one, ListLogicalSwitchPortsRequest::default())).await.expect("they are listed").into_inner();
        assert_eq!(ports.ports.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["lab-c3"]);
        for (token, namespace, container) in [(&one, "lab", "c3"), (&two, "shop", "c1")] {
            let release = ReleaseIpRequest { namespace: namespace.into(), container_id: container.into(), ..Default::default() };
            client.release_ip(with_token(token, release)).await.expect("it is released");
        }
    });
    for port in released.iter().chain([&lab, &foreign]) {
        assert!(!std::path::Path::new(&port.network_namespace).exists(), "{} is gone", port.name);
    }
    drop(running);
}
