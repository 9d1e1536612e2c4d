//! Caller: who a connection's client certificate says it is, and whether that may come in.
use super::error::Refusal;
use http::{Method, StatusCode};
use pki::Subject;

/// The one user and the one group that are let in: the API server, and administrators.
const API_SERVER: &str = "system:apiserver-kubelet-client";
const ADMINISTRATORS: &str = "system:masters";

/// Lets the API server in. `subject` is that of a certificate which was verified in the handshake.
pub fn admit(subject: Option<&Subject>, method: &Method, subresource: &str) -> Result<(), Refusal> {
    let Some(subject) = subject else { return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized")) };
    if subject.common_name == API_SERVER || subject.organizations.iter().any(|group| group == ADMINISTRATORS) {
        return Ok(());
    }
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let user = &subject.common_name;
    Err(Refusal::new(StatusCode::FORBIDDEN, format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_api_server_and_administrators_come_in() {
        let subject = |name: &str, groups: &[&str]| Subject { common_name: name.into(), organizations: groups.iter().map(|g| g.to_string()).collect() };
        assert!(admit(Some(&subject(API_SERVER, &[])), &Method::GET, "proxy").is_ok());
        assert!(admit(Some(&subject("anybody", &["system:masters"])), &Method::GET, "proxy").is_ok());
        assert_eq!(admit(None, &Method::GET, "proxy").unwrap_err().status, StatusCode::UNAUTHORIZED);
        let refused = admit(Some(&subject("system:node:n", &["system:nodes"])), &Method::POST, "proxy").unwrap_err();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert_eq!(refused.message, "Forbidden (user=system:node:n, verb=create, resource=nodes, subresource(s)=[proxy])\n");
    }
}
