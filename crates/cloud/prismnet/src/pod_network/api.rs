//! The gRPC API inside a server: everybody sees what is their own, and is told what to change to change it.
use super::address_sets::{AddressSets, told};
use super::ports::is_of;
use super::switches::Switch;
use super::view::PodNetworkView;
use crate::kubernetes::LOGICAL_ROUTER;
use crate::proto::network_service_server::{NetworkService, NetworkServiceServer};
use crate::proto::{
    Acl, AddressSet, AllocateIpRequest, AllocateIpResponse, CreateAclRequest, CreateLogicalSwitchPortRequest, CreateLogicalSwitchRequest,
    CreateLogicalSwitchResponse, DeleteAclRequest, DeleteAddressSetRequest, DeleteLogicalSwitchPortRequest, DeleteLogicalSwitchRequest, Empty, ListAcLsRequest,
    ListAcLsResponse, ListAddressSetsRequest, ListAddressSetsResponse, ListLogicalRoutersRequest, ListLogicalRoutersResponse, ListLogicalSwitchPortsRequest,
    ListLogicalSwitchPortsResponse, ListLogicalSwitchesRequest, ListLogicalSwitchesResponse, LogicalRouter, LogicalSwitch, LogicalSwitchPort, ReleaseIpRequest,
    ReleaseIpResponse, UpdateAddressSetRequest,
};
use cloud_api::{Caller, Ownership, Refusal};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service behind the API. Cheap to clone.
#[derive(Clone)]
pub struct PodNetwork {
    view: Arc<PodNetworkView>,
    /// The addresses of all pods: namespaces share them.
    cluster_cidr: IpNet,
}

type Answered<T> = Result<Response<T>, Status>;

impl PodNetwork {
    pub fn new(view: PodNetworkView, cluster_cidr: IpNet) -> Self {
        Self { view: Arc::new(view), cluster_cidr }
    }

    /// As a part of what a server answers.
    pub fn service(&self) -> NetworkServiceServer<Self> {
        NetworkServiceServer::new(self.clone())
    }

    /// Who asks, once there is an answer.
    async fn caller<'a, T>(&self, request: &'a Request<T>) -> Result<&'a Caller, Status> {
        let caller = Caller::of(request)?;
        self.view.synced().await;
        Ok(caller)
    }

    fn switch(&self, caller: &Caller, namespace: &str) -> Result<Switch, Refusal> {
        self.view.switch(caller, namespace).ok_or_else(|| Refusal::Missing(format!("there is no logical switch \"k8s-{namespace}\"")))
    }

    /// Refuses what would take a container's port away; a container that has none is fine.
    fn keeps_port(&self, switch: &Switch, namespace: &str, container: &str) -> Result<(), Refusal> {
        for pod in self.view.pods(switch).into_iter().filter(|pod| is_of(pod, container)) {
            if let Some(port) = self.view.port(switch, &pod) {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(Refusal::InUse(format!(
                    "port {:?} with address {} follows from pod {name:?} in namespace {namespace:?}: delete the pod instead",
                    port.name, port.ip_address
                )));
            }
        }
        Ok(())
    }
}

fn follows(what: &str, from: &str, instead: &str) -> Refusal {
    Refusal::InUse(format!("{what} of a cluster follow from its {from}: {instead} instead"))
}

#[tonic::async_trait]
impl NetworkService for PodNetwork {
    async fn allocate_ip(&self, request: Request<AllocateIpRequest>) -> Answered<AllocateIpResponse> {
        let (caller, wanted) = (self.caller(&request).await?, request.get_ref());
        let switch = self.switch(caller, &wanted.namespace)?;
        let (pod, namespace) = (&wanted.pod_name, &wanted.namespace);
        let Some(found) = self.view.pod(&switch, pod) else {
            return Err(follows("addresses", "pods", &format!("create pod {pod:?} in namespace {namespace:?}")).into());
        };
        // The node's CNI plugin gives it: asked again, it is the same.
        let port = self.view.port(&switch, &found).ok_or_else(|| {
            Refusal::InUse(format!("pod {pod:?} in namespace {namespace:?} has no address of the network: its node gives it one while the pod starts"))
        })?;
        Ok(Response::new(AllocateIpResponse { ip_address: port.ip_address, gateway: port.gateway, dns_servers: self.view.dns_servers(&switch) }))
    }

    async fn release_ip(&self, request: Request<ReleaseIpRequest>) -> Answered<ReleaseIpResponse> {
        let (caller, wanted) = (self.caller(&request).await?, request.get_ref());
        let switch = self.switch(caller, &wanted.namespace)?;
        self.keeps_port(&switch, &wanted.namespace, &wanted.container_id)?;
        Ok(Response::new(ReleaseIpResponse {}))
    }

    async fn create_logical_switch(&self, request: Request<CreateLogicalSwitchRequest>) -> Answered<CreateLogicalSwitchResponse> {
        let caller = self.caller(&request).await?.clone();
        let CreateLogicalSwitchRequest { namespace, org_id, project_id, .. } = request.into_inner();
        Ownership::named(&caller, org_id, project_id)?;
        if self.view.switch(&caller, &namespace).is_some() {
            return Err(Refusal::Exists(format!("there is a logical switch \"k8s-{namespace}\" already")).into());
        }
        Err(follows("logical switches", "namespaces", &format!("create namespace {namespace:?}, or a project,")).into())
    }

    async fn delete_logical_switch(&self, request: Request<DeleteLogicalSwitchRequest>) -> Answered<Empty> {
        let (caller, namespace) = (self.caller(&request).await?, &request.get_ref().namespace);
        self.switch(caller, namespace)?;
        Err(follows("logical switches", "namespaces", &format!("delete namespace {namespace:?}, or its project,")).into())
    }

    async fn list_logical_switches(&self, request: Request<ListLogicalSwitchesRequest>) -> Answered<ListLogicalSwitchesResponse> {
        let caller = self.caller(&request).await?;
        let told = |(switch, owner): (Switch, Ownership)| LogicalSwitch {
            name: switch.name(),
            subnet: self.cluster_cidr.to_string(),
            gateway: String::new(),
            org_id: owner.org_id,
            project_id: owner.project_id,
        };
        Ok(Response::new(ListLogicalSwitchesResponse { logical_switches: self.view.switches(caller).into_iter().map(told).collect() }))
    }

    async fn list_logical_routers(&self, request: Request<ListLogicalRoutersRequest>) -> Answered<ListLogicalRoutersResponse> {
        let caller = self.caller(&request).await?;
        let switches = self.view.switches(caller);
        let ports = switches.iter().flat_map(|(switch, _)| self.view.pods(switch).into_iter().filter_map(|pod| self.view.port(switch, &pod)));
        let gateways: BTreeSet<String> = ports.map(|port| port.gateway).filter(|gateway| !gateway.is_empty()).collect();
        let logical_switches = switches.iter().map(|(switch, _)| switch.name()).collect();
        let router = LogicalRouter { name: LOGICAL_ROUTER.into(), logical_switches, gateways: gateways.into_iter().collect() };
        Ok(Response::new(ListLogicalRoutersResponse { logical_routers: vec![router] }))
    }

    async fn create_logical_switch_port(&self, request: Request<CreateLogicalSwitchPortRequest>) -> Answered<LogicalSwitchPort> {
        let (caller, wanted) = (self.caller(&request).await?, request.get_ref());
        self.switch(caller, &wanted.namespace)?;
        Err(follows("ports", "pods", &format!("create pod {:?} in namespace {:?}", wanted.pod_name, wanted.namespace)).into())
    }

    async fn delete_logical_switch_port(&self, request: Request<DeleteLogicalSwitchPortRequest>) -> Answered<Empty> {
        let (caller, wanted) = (self.caller(&request).await?, request.get_ref());
        let switch = self.switch(caller, &wanted.namespace)?;
        self.keeps_port(&switch, &wanted.namespace, &wanted.container_id)?;
        Ok(Response::new(Empty {}))
    }

    async fn list_logical_switch_ports(&self, request: Request<ListLogicalSwitchPortsRequest>) -> Answered<ListLogicalSwitchPortsResponse> {
        let (caller, namespace) = (self.caller(&request).await?, &request.get_ref().namespace);
        let wanted: Vec<Switch> = if namespace.is_empty() {
            self.view.switches(caller).into_iter().map(|(switch, _)| switch).collect()
        } else {
            self.view.switch(caller, namespace).into_iter().collect()
        };
        let of = |switch: &Switch| self.view.pods(switch).into_iter().filter_map(|pod| self.view.port(switch, &pod)).collect::<Vec<_>>();
        let mut ports: Vec<_> = wanted.iter().flat_map(of).collect();
        ports.sort_by(|a, b| (&a.logical_switch, &a.name).cmp(&(&b.logical_switch, &b.name)));
        Ok(Response::new(ListLogicalSwitchPortsResponse { ports }))
    }

    async fn create_acl(&self, request: Request<CreateAclRequest>) -> Answered<Acl> {
        let (caller, namespace) = (self.caller(&request).await?, &request.get_ref().namespace);
        self.switch(caller, namespace)?;
        Err(follows("ACLs", "NetworkPolicies", &format!("create a NetworkPolicy in namespace {namespace:?}")).into())
    }

    async fn delete_acl(&self, request: Request<DeleteAclRequest>) -> Answered<Empty> {
        let (caller, id) = (self.caller(&request).await?, &request.get_ref().id);
        let missing = || Refusal::Missing(format!("there is no ACL {id:?}"));
        let mut parts = id.split('/');
        let (Some(switch), Some(policy)) = (parts.next(), parts.next()) else { return Err(missing().into()) };
        let namespace = switch.strip_prefix("k8s-").ok_or_else(missing)?;
        let switch = self.view.switch(caller, namespace).ok_or_else(missing)?;
        if !self.view.acls(caller, &switch, &mut AddressSets::new()).iter().any(|acl| acl.id == *id) {
            return Err(missing().into());
        }
        Err(follows("ACLs", "NetworkPolicies", &format!("change NetworkPolicy {policy:?} in namespace {namespace:?}")).into())
    }

    async fn list_ac_ls(&self, request: Request<ListAcLsRequest>) -> Answered<ListAcLsResponse> {
        let caller = self.caller(&request).await?;
        let switch = self.switch(caller, &request.get_ref().namespace)?;
        Ok(Response::new(ListAcLsResponse { acls: self.view.acls(caller, &switch, &mut AddressSets::new()) }))
    }

    async fn update_address_set(&self, request: Request<UpdateAddressSetRequest>) -> Answered<AddressSet> {
        self.caller(&request).await?;
        Err(follows("address sets", "pods and the selectors of NetworkPolicies", "change those").into())
    }

    async fn delete_address_set(&self, request: Request<DeleteAddressSetRequest>) -> Answered<Empty> {
        let (caller, name) = (self.caller(&request).await?, &request.get_ref().name);
        if !self.view.address_sets(caller).contains_key(name) {
            return Err(Refusal::Missing(format!("there is no address set {name:?}")).into());
        }
        Err(follows("address sets", "pods and the selectors of NetworkPolicies", "change those").into())
    }

    async fn list_address_sets(&self, request: Request<ListAddressSetsRequest>) -> Answered<ListAddressSetsResponse> {
        let caller = self.caller(&request).await?;
        let sets = self.view.address_sets(caller).into_iter();
        let address_sets = sets.map(|(name, addresses)| AddressSet { name, addresses: told(&addresses) }).collect();
        Ok(Response::new(ListAddressSetsResponse { address_sets }))
    }
}
