//! gRPC checks: the standard health service (grpc.health.v1).
use super::action::Verdict;
use crate::go_duration::go_duration;
use std::time::Duration;
use tonic::transport::Endpoint;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// Asks the health of a service ("" is the server as a whole).
pub async fn check(address: &str, port: u16, service: &str, timeout: Duration) -> Verdict {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let place = format!("{host}:{port}");
    match tokio::time::timeout(timeout, ask(&place, service)).await {
        Ok(verdict) => verdict,
        Err(_) => Verdict::Failure(format!("timeout: failed to connect service \"{place}\" within {}: context deadline exceeded", go_duration(timeout))),
    }
}

async fn ask(place: &str, service: &str) -> Verdict {
    let endpoint = match Endpoint::from_shared(format!("http://{place}")).and_then(|endpoint| endpoint.user_agent("kube-probe/1.37")) {
        Ok(endpoint) => endpoint,
        Err(error) => return Verdict::Unknown(error.to_string()),
    };
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => return Verdict::Failure(format!("error: failed to connect service at \"{place}\": {error}")),
    };
    let mut client = tonic::client::Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return Verdict::Failure(format!("error: failed to connect service at \"{place}\": {error}"));
    }
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    match client.unary(tonic::Request::new(HealthCheckRequest { service: service.into() }), path, codec).await {
        Ok(answer) if answer.get_ref().status == SERVING => Verdict::Success,
        Ok(answer) => {
            let status = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(usize::try_from(answer.get_ref().status).unwrap_or(0)).copied();
            Verdict::Failure(format!("service unhealthy (responded with \"{}\")", status.unwrap_or("UNKNOWN")))
        }
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            Verdict::Failure(format!("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}", status.message()))
        }
        Err(status) => Verdict::Failure(format!("error: health rpc probe failed: {status}")),
    }
}
