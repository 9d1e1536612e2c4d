//! The gRPC API: who may do what, and a network that is so before an answer.
use super::keeper::Keeper;
use super::plan::namespace_of;
use super::records::{AclAction, AclDirection, AclRecord, INTERFACE, PortRecord, Records, SwitchRecord};
use crate::kubernetes::{LOGICAL_ROUTER, switch_of};
use crate::plan::{host_interface, mac_address};
use crate::proto::network_service_server::{NetworkService, NetworkServiceServer};
use crate::proto::{
    Acl, AddressSet, AllocateIpRequest, AllocateIpResponse, CreateAclRequest, CreateLogicalSwitchPortRequest, CreateLogicalSwitchRequest,
    CreateLogicalSwitchResponse, DeleteAclRequest, DeleteAddressSetRequest, DeleteLogicalSwitchPortRequest, DeleteLogicalSwitchRequest, Empty, ListAcLsRequest,
    ListAcLsResponse, ListAddressSetsRequest, ListAddressSetsResponse, ListLogicalRoutersRequest, ListLogicalRoutersResponse, ListLogicalSwitchPortsRequest,
    ListLogicalSwitchPortsResponse, ListLogicalSwitchesRequest, ListLogicalSwitchesResponse, LogicalRouter, LogicalSwitch, LogicalSwitchPort, ReleaseIpRequest,
    ReleaseIpResponse, UpdateAddressSetRequest,
};
use cloud_api::{Caller, Ownership, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service behind the API. Cheap to clone.
#[derive(Clone)]
pub struct Switching {
    keeper: Arc<Keeper>,
}

impl Switching {
    pub fn new(keeper: Arc<Keeper>) -> Self {
        Self { keeper }
    }

    /// As a part of what a server answers.
    pub fn service(&self) -> NetworkServiceServer<Self> {
        NetworkServiceServer::new(self.clone())
    }

    fn gateway(&self) -> String {
        self.keeper.settings.supply().gateway().to_string()
    }

    fn told_switch(&self, records: &Records, switch: &SwitchRecord) -> LogicalSwitch {
        let Ownership { org_id, project_id } = records.owner(switch);
        LogicalSwitch { name: name_of(switch), subnet: switch.subnet.to_string(), gateway: self.gateway(), org_id, project_id }
    }
}

type Answered<T> = Result<Response<T>, Status>;

fn new_id(prefix: &str) -> String {
    clock::random_bytes::<8>().iter().fold(format!("{prefix}-"), |id, byte| format!("{id}{byte:02x}"))
}

fn name_of(switch: &SwitchRecord) -> String {
    switch_of(&switch.namespace, None)
}

/// An address with the length of its switch's prefix.
fn address_of(switch: &SwitchRecord, port: &PortRecord) -> String {
    format!("{}/{}", port.address, switch.subnet.prefix_len())
}

/// Whose something is that a caller makes for its own project.
fn own(caller: &Caller) -> Ownership {
    Ownership { org_id: caller.org_id.clone(), project_id: caller.project_id.clone() }
}

fn told_port(id: &str, switch: &SwitchRecord, port: &PortRecord, gateway: String) -> LogicalSwitchPort {
    let if_attached = |text: String| if port.attached { text } else { String::new() };
    LogicalSwitchPort {
        name: port.name(),
        logical_switch: name_of(switch),
        ip_address: address_of(switch, port),
        mac_address: mac_address(port.address),
        gateway,
        attached: port.attached,
        network_namespace: if_attached(namespace_of(id)),
        interface: if_attached(INTERFACE.into()),
        host_interface: if_attached(host_interface(id, INTERFACE)),
    }
}

fn told_acl(id: &str, switch: &SwitchRecord, acl: &AclRecord) -> Acl {
    Acl {
        id: id.to_owned(),
        logical_switch: name_of(switch),
        direction: word(&acl.direction),
        priority: acl.priority.into(),
        r#match: acl.expression.clone(),
        action: word(&acl.action),
    }
}

/// As the API and the records write it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn of_word<T: DeserializeOwned>(what: &str, word: &str, known: &str) -> Result<T, Status> {
    serde_json::from_value(word.into()).map_err(|_| Status::invalid_argument(format!("{what} {word:?} is none of {known}")))
}

#[tonic::async_trait]
impl NetworkService for Switching {
    async fn allocate_ip(&self, request: Request<AllocateIpRequest>) -> Answered<AllocateIpResponse> {
        let caller = Caller::of(&request)?.clone();
        let AllocateIpRequest { namespace, pod_name, container_id } = request.into_inner();
        let id = new_id("port");
        let ip_address = self.keeper.change(|records| {
            let id = records.allocate(&caller, &id, &namespace, &pod_name, &container_id)?;
            let (_, switch) = records.switch(&caller, &namespace)?;
            Ok(address_of(switch, &records.ports[&id]))
        });
        let dns_servers = self.keeper.settings.dns_servers.iter().map(ToString::to_string).collect();
        Ok(Response::new(AllocateIpResponse { ip_address: ip_address.await?, gateway: self.gateway(), dns_servers }))
    }

    async fn release_ip(&self, request: Request<ReleaseIpRequest>) -> Answered<ReleaseIpResponse> {
        let caller = Caller::of(&request)?.clone();
        let ReleaseIpRequest { namespace, container_id, .. } = request.into_inner();
        self.keeper.change(|records| records.detach(&caller, &namespace, &container_id, true)).await?;
        Ok(Response::new(ReleaseIpResponse {}))
    }

    async fn create_logical_switch(&self, request: Request<CreateLogicalSwitchRequest>) -> Answered<CreateLogicalSwitchResponse> {
        let caller = Caller::of(&request)?.clone();
        let CreateLogicalSwitchRequest { namespace, subnet, org_id, project_id } = request.into_inner();
        let owner = Ownership::named(&caller, org_id, project_id)?;
        let id = new_id("switch");
        let made = self.keeper.change(|records| {
            records.create_switch(self.keeper.settings.supply(), &owner, &id, &namespace, &subnet)?;
            Ok(self.told_switch(records, &records.switches[&id]))
        });
        Ok(Response::new(CreateLogicalSwitchResponse { logical_switch: Some(made.await?) }))
    }

    async fn delete_logical_switch(&self, request: Request<DeleteLogicalSwitchRequest>) -> Answered<Empty> {
        let caller = Caller::of(&request)?.clone();
        let namespace = request.into_inner().namespace;
        self.keeper.change(|records| records.delete_switch(&caller, &namespace)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn list_logical_switches(&self, request: Request<ListLogicalSwitchesRequest>) -> Answered<ListLogicalSwitchesResponse> {
        let (caller, records) = (Caller::of(&request)?, self.keeper.read().await);
        let own = records.switches.values().filter(|switch| records.owner(switch).is_usable_by(caller));
        let mut logical_switches: Vec<_> = own.map(|switch| self.told_switch(&records, switch)).collect();
        logical_switches.sort_by(|a, b| (&a.name, &a.project_id).cmp(&(&b.name, &b.project_id)));
        Ok(Response::new(ListLogicalSwitchesResponse { logical_switches }))
    }

    async fn list_logical_routers(&self, request: Request<ListLogicalRoutersRequest>) -> Answered<ListLogicalRoutersResponse> {
        let (caller, records) = (Caller::of(&request)?, self.keeper.read().await);
        let own = records.switches.values().filter(|switch| records.owner(switch).is_usable_by(caller));
        let mut logical_switches: Vec<String> = own.map(name_of).collect();
        logical_switches.sort();
        let router = LogicalRouter { name: LOGICAL_ROUTER.into(), logical_switches, gateways: vec![self.gateway()] };
        Ok(Response::new(ListLogicalRoutersResponse { logical_routers: vec![router] }))
    }

    async fn create_logical_switch_port(&self, request: Request<CreateLogicalSwitchPortRequest>) -> Answered<LogicalSwitchPort> {
        let caller = Caller::of(&request)?.clone();
        let CreateLogicalSwitchPortRequest { namespace, pod_name, container_id } = request.into_inner();
        let id = new_id("port");
        let made = self.keeper.change(|records| {
            let id = records.allocate(&caller, &id, &namespace, &pod_name, &container_id)?;
            records.attach(&id);
            let (_, switch) = records.switch(&caller, &namespace)?;
            Ok(told_port(&id, switch, &records.ports[&id], self.gateway()))
        });
        Ok(Response::new(made.await?))
    }

    async fn delete_logical_switch_port(&self, request: Request<DeleteLogicalSwitchPortRequest>) -> Answered<Empty> {
        let caller = Caller::of(&request)?.clone();
        let DeleteLogicalSwitchPortRequest { namespace, container_id } = request.into_inner();
        self.keeper.change(|records| records.detach(&caller, &namespace, &container_id, false)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn list_logical_switch_ports(&self, request: Request<ListLogicalSwitchPortsRequest>) -> Answered<ListLogicalSwitchPortsResponse> {
        let (caller, records) = (Caller::of(&request)?, self.keeper.read().await);
        let namespace = &request.get_ref().namespace;
        let of = |port: &PortRecord| records.switches.get(&port.switch).filter(|switch| records.owner(switch).is_usable_by(caller));
        let wanted = |switch: &SwitchRecord| namespace.is_empty() || switch.namespace == *namespace;
        let own =
            records.ports.iter().filter_map(|(id, port)| of(port).filter(|switch| wanted(switch)).map(|switch| told_port(id, switch, port, self.gateway())));
        let mut ports: Vec<_> = own.collect();
        ports.sort_by(|a, b| (&a.logical_switch, &a.name).cmp(&(&b.logical_switch, &b.name)));
        Ok(Response::new(ListLogicalSwitchPortsResponse { ports }))
    }

    async fn create_acl(&self, request: Request<CreateAclRequest>) -> Answered<Acl> {
        let caller = Caller::of(&request)?.clone();
        let CreateAclRequest { namespace, direction, priority, r#match: expression, action } = request.into_inner();
        let direction: AclDirection = of_word("direction", &direction, "\"from-lport\", \"to-lport\"")?;
        let action: AclAction = of_word("action", &action, "\"allow-related\", \"allow\", \"drop\", \"reject\"")?;
        let priority = u16::try_from(priority).map_err(|_| Status::invalid_argument("priority is not between 0 and 32767"))?;
        let id = new_id("acl");
        let made = self.keeper.change(|records| {
            let (switch_id, switch) = records.switch(&caller, &namespace)?;
            let (switch_id, switch) = (switch_id.to_owned(), switch.clone());
            let acl = AclRecord { switch: switch_id, direction, priority, expression, action };
            records.create_acl(&id, acl.clone())?;
            Ok(told_acl(&id, &switch, &acl))
        });
        Ok(Response::new(made.await?))
    }

    async fn delete_acl(&self, request: Request<DeleteAclRequest>) -> Answered<Empty> {
        let caller = Caller::of(&request)?.clone();
        let id = request.into_inner().id;
        self.keeper.change(|records| records.delete_acl(&caller, &id)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn list_ac_ls(&self, request: Request<ListAcLsRequest>) -> Answered<ListAcLsResponse> {
        let (caller, records) = (Caller::of(&request)?, self.keeper.read().await);
        let (switch_id, switch) = records.switch(caller, &request.get_ref().namespace)?;
        let mut acls: Vec<_> = records.acls.iter().filter(|(_, acl)| acl.switch == switch_id).map(|(id, acl)| told_acl(id, switch, acl)).collect();
        acls.sort_by_key(|acl| std::cmp::Reverse(acl.priority));
        Ok(Response::new(ListAcLsResponse { acls }))
    }

    async fn update_address_set(&self, request: Request<UpdateAddressSetRequest>) -> Answered<AddressSet> {
        let owner = own(Caller::of(&request)?);
        let UpdateAddressSetRequest { name, addresses } = request.into_inner();
        let id = new_id("set");
        let made = self.keeper.change(|records| {
            records.set_addresses(&owner, &id, &name, &addresses)?;
            let id = records.address_set(&owner, &name).ok_or_else(|| Refusal::Missing(format!("there is no address set {name:?}")))?;
            Ok(records.address_sets[id].addresses.iter().map(ToString::to_string).collect())
        });
        let addresses = made.await?;
        Ok(Response::new(AddressSet { name, addresses }))
    }

    async fn delete_address_set(&self, request: Request<DeleteAddressSetRequest>) -> Answered<Empty> {
        let owner = own(Caller::of(&request)?);
        let name = request.into_inner().name;
        self.keeper.change(|records| records.delete_address_set(&owner, &name)).await?;
        Ok(Response::new(Empty {}))
    }

    async fn list_address_sets(&self, request: Request<ListAddressSetsRequest>) -> Answered<ListAddressSetsResponse> {
        let (caller, records) = (Caller::of(&request)?, self.keeper.read().await);
        let own = records.address_sets.values().filter(|set| set.owner.is_usable_by(caller));
        let mut address_sets: Vec<_> =
            own.map(|set| AddressSet { name: set.name.clone(), addresses: set.addresses.iter().map(ToString::to_string).collect() }).collect();
        address_sets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(ListAddressSetsResponse { address_sets }))
    }
}
