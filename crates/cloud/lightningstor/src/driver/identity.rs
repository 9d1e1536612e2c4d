//! Identity: what the driver is and can.
use super::Driver;
use crate::DRIVER;
use csi::v1::identity_server::Identity;
use csi::v1::plugin_capability::service::Type as ServiceType;
use csi::v1::plugin_capability::volume_expansion::Type as ExpansionType;
use csi::v1::plugin_capability::{Service, Type, VolumeExpansion};
use csi::v1::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse, PluginCapability, ProbeRequest, ProbeResponse,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(&self, _: Request<GetPluginInfoRequest>) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse { name: DRIVER.into(), vendor_version: env!("CARGO_PKG_VERSION").into(), ..Default::default() }))
    }

    async fn get_plugin_capabilities(&self, _: Request<GetPluginCapabilitiesRequest>) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let service = |kind: ServiceType| PluginCapability { r#type: Some(Type::Service(Service { r#type: kind as i32 })) };
        let capabilities = vec![
            service(ServiceType::ControllerService),
            service(ServiceType::VolumeAccessibilityConstraints),
            PluginCapability { r#type: Some(Type::VolumeExpansion(VolumeExpansion { r#type: ExpansionType::Online as i32 })) },
        ];
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}
