//! What becomes of a certificate request. Pure.
use super::{Action, World};
use jiff::SignedDuration;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use pki::{CertificateRequest, PkiError, Usage};
use std::time::Duration;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";
const YEAR: Duration = Duration::from_hours(24 * 365);
/// Upstream's: how long decided and undecided requests are kept.
const KEEP_DECIDED: SignedDuration = SignedDuration::from_hours(1);
const KEEP_PENDING: SignedDuration = SignedDuration::from_hours(24);

#[derive(Debug, PartialEq)]
pub enum Decision {
    Act(Action),
    /// Until it is old.
    Wait(Duration),
}

/// How a request is approved, if its requester may have it.
#[derive(Clone, Debug, PartialEq)]
pub struct Approval {
    pub subresource: &'static str,
    pub node: String,
    /// The fingerprint of the key that takes the node's name; `None` for who is that node already.
    pub takes_name_with: Option<String>,
    pub message: &'static str,
}

pub fn parsed(request: &CertificateSigningRequest) -> Result<CertificateRequest, PkiError> {
    CertificateRequest::parse(&request.spec.request.0)
}

pub fn decide(world: &World) -> Decision {
    let World { request, now, .. } = world;
    let condition = |kind: &str| request.status.iter().flat_map(|status| status.conditions.iter().flatten()).find(|condition| condition.type_ == kind);
    let issued = request.status.as_ref().and_then(|status| status.certificate.as_ref()).is_some_and(|certificate| !certificate.0.is_empty());
    let decided = ["Approved", "Denied", "Failed"].into_iter().find_map(condition);
    let (since, keep) = match decided {
        Some(condition) => (condition.last_update_time.as_ref().or(request.metadata.creation_timestamp.as_ref()), KEEP_DECIDED),
        None => (request.metadata.creation_timestamp.as_ref(), KEEP_PENDING),
    };
    let left = since.map_or(keep, |since| keep - now.duration_since(since.0));
    if left <= SignedDuration::ZERO {
        return Decision::Act(Action::Delete);
    }
    let wait = Decision::Wait(Duration::try_from(left).unwrap_or_default());
    if issued || condition("Denied").is_some() || condition("Failed").is_some() {
        return wait;
    }
    if condition("Approved").is_some() {
        return signing(request).map_or(wait, Decision::Act);
    }
    approval(world).map_or(wait, Decision::Act)
}

/// Approves what a node asks for itself, and what a machine asks for that becomes one; everything else is for people.
fn approval(world: &World) -> Option<Action> {
    let request = &world.request;
    let asked = parsed(request).ok()?;
    let node = asked.subject.common_name.strip_prefix(NODE_PREFIX)?;
    let requester = request.spec.username.as_deref().unwrap_or_default();
    let is_self = requester == asked.subject.common_name;
    match request.spec.signer_name.as_str() {
        KUBELET_CLIENT if kubelet_client(request, &asked).is_ok() => {
            if is_self {
                let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
                return Some(Action::Approve(Approval { subresource: "selfnodeclient", node: node.into(), takes_name_with: None, message }));
            }
            let known = world.holder.as_ref().is_some_and(|holder| *holder == asked.key_fingerprint);
            if !known && (world.node_exists || world.holder.is_some()) {
                return Some(Action::Deny { reason: "NodeNameTaken", message: format!("the name of node {node:?} belongs to another machine's key") });
            }
            let message = "Auto approving kubelet client certificate after SubjectAccessReview.";
            Some(Action::Approve(Approval { subresource: "nodeclient", node: node.into(), takes_name_with: Some(asked.key_fingerprint.clone()), message }))
        }
        KUBELET_SERVING if kubelet_serving(request, &asked).is_ok() && is_self => {
            if asked.dns_names.iter().any(|name| name != node) || asked.ip_addresses.is_empty() {
                return None;
            }
            if world.address_taken {
                return Some(Action::Deny { reason: "NodeAddressTaken", message: "another node has one of the addresses".into() });
            }
            // Who may renew a node's client certificate is that node.
            let message = "Auto approving kubelet serving certificate after SubjectAccessReview.";
            Some(Action::Approve(Approval { subresource: "selfnodeclient", node: node.into(), takes_name_with: None, message }))
        }
        _ => None,
    }
}

fn signing(request: &CertificateSigningRequest) -> Option<Action> {
    let invalid = |why: String| Action::Fail { reason: "SignerValidationFailure", message: why };
    let check = |result: Result<(), String>, usage| match result {
        Ok(()) => Action::Sign { usage, validity: validity(request) },
        Err(why) => invalid(why),
    };
    let asked = match (request.spec.signer_name.as_str(), parsed(request)) {
        (CLIENT | KUBELET_CLIENT | KUBELET_SERVING, Err(error)) => {
            return Some(invalid(format!("unable to parse csr {:?}: {error}", request.metadata.name.as_deref().unwrap_or_default())));
        }
        (_, Ok(asked)) => asked,
        _ => return None,
    };
    match request.spec.signer_name.as_str() {
        CLIENT => Some(check(client(request, &asked), Usage::Client)),
        KUBELET_CLIENT => Some(check(kubelet_client(request, &asked), Usage::Client)),
        KUBELET_SERVING => Some(check(kubelet_serving(request, &asked), Usage::Server)),
        _ => None,
    }
}

fn validity(request: &CertificateSigningRequest) -> Duration {
    let asked = request.spec.expiration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    asked.map_or(YEAR, |seconds| Duration::from_secs(seconds.max(600)).min(YEAR))
}

fn usages(request: &CertificateSigningRequest, wanted: &str) -> Result<(), String> {
    let usages: Vec<&str> = request.spec.usages.iter().flatten().map(String::as_str).collect();
    let good = usages.contains(&wanted) && usages.iter().all(|usage| [wanted, "digital signature", "key encipherment"].contains(usage));
    if good { Ok(()) } else { Err(format!("usages did not match {{digital signature, key encipherment, {wanted}}}")) }
}

fn client(request: &CertificateSigningRequest, asked: &CertificateRequest) -> Result<(), String> {
    usages(request, "client auth")?;
    // Who is an administrator is not for a request to say.
    if asked.subject.organizations.iter().any(|organization| organization == "system:masters") {
        return Err("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed".into());
    }
    Ok(())
}

fn named_as_node(asked: &CertificateRequest) -> Result<(), String> {
    if asked.subject.organizations != [NODES] {
        return Err("subject organization is not system:nodes".into());
    }
    match asked.subject.common_name.strip_prefix(NODE_PREFIX) {
        Some(node) if !node.is_empty() => Ok(()),
        _ => Err("subject common name does not begin with system:node: ".into()),
    }
}

fn kubelet_client(request: &CertificateSigningRequest, asked: &CertificateRequest) -> Result<(), String> {
    named_as_node(asked)?;
    if !asked.dns_names.is_empty() || !asked.ip_addresses.is_empty() || asked.has_other_names {
        return Err("DNS, IP, email and URI subjectAltNames are not allowed".into());
    }
    usages(request, "client auth")
}

fn kubelet_serving(request: &CertificateSigningRequest, asked: &CertificateRequest) -> Result<(), String> {
    named_as_node(asked)?;
    if asked.dns_names.is_empty() && asked.ip_addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if asked.has_other_names {
        return Err("email and URI subjectAltNames are not allowed".into());
    }
    usages(request, "server auth")
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::ByteString;
    use serde_json::json;
    use std::sync::Arc;

    struct Asked {
        signer: &'static str,
        username: &'static str,
        node: &'static str,
        addresses: &'static [&'static str],
        usage: &'static str,
        key: String,
    }

    fn key() -> String {
        pki::new_key_pem().unwrap()
    }

    fn client_of(node: &'static str, username: &'static str, key: &str) -> Asked {
        Asked { signer: KUBELET_CLIENT, username, node, addresses: &[], usage: "client auth", key: key.to_owned() }
    }

    fn world(asked: &Asked, conditions: &[&str]) -> World {
        let addresses: Vec<std::net::IpAddr> = asked.addresses.iter().map(|address| address.parse().unwrap()).collect();
        let names: Vec<String> = if addresses.is_empty() { vec![] } else { vec![asked.node.to_owned()] };
        let pem = pki::request_pem(&format!("system:node:{}", asked.node), NODES, &names, &addresses, &asked.key).unwrap();
        let mut request: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "r", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"signerName": asked.signer, "username": asked.username, "request": "", "usages": ["digital signature", asked.usage]},
            "status": {"conditions": conditions.iter().map(|kind| json!({"type": kind, "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"})).collect::<Vec<_>>()},
        }))
        .unwrap();
        request.spec.request = ByteString(pem.into_bytes());
        World { request: Arc::new(request), holder: None, node_exists: false, address_taken: false, now: "2026-01-01T00:10:00Z".parse().unwrap() }
    }

    fn fingerprint(world: &World) -> String {
        parsed(&world.request).unwrap().key_fingerprint
    }

    fn shown(decision: &Decision) -> String {
        match decision {
            Decision::Act(Action::Approve(approval)) => {
                format!("approve {}{}", approval.subresource, if approval.takes_name_with.is_some() { " and take the name" } else { "" })
            }
            Decision::Act(Action::Deny { reason, .. } | Action::Fail { reason, .. }) => (*reason).to_owned(),
            Decision::Act(Action::Sign { usage, validity }) => format!("sign {usage:?} {}h", validity.as_secs() / 3600),
            Decision::Act(Action::Delete) => "delete".into(),
            Decision::Wait(time) => format!("wait {}m", time.as_secs() / 60),
        }
    }

    #[test]
    fn a_name_belongs_to_the_key_that_took_it() {
        let key = key();
        let mut machine = world(&client_of("n1", "system:bootstrap:abcdef", &key), &[]);
        assert_eq!(shown(&decide(&machine)), "approve nodeclient and take the name");
        machine.node_exists = true;
        assert_eq!(shown(&decide(&machine)), "NodeNameTaken", "a node of unknown key");
        machine.holder = Some("other".into());
        assert_eq!(shown(&decide(&machine)), "NodeNameTaken");
        machine.holder = Some(fingerprint(&machine));
        assert_eq!(shown(&decide(&machine)), "approve nodeclient and take the name", "the same machine again");
        machine.node_exists = false;
        machine.holder = Some("other".into());
        assert_eq!(shown(&decide(&machine)), "NodeNameTaken", "it joins at this moment");
        let mut renewing = world(&client_of("n1", "system:node:n1", &key), &[]);
        renewing.node_exists = true;
        assert_eq!(shown(&decide(&renewing)), "approve selfnodeclient");
        renewing = world(&client_of("n1", "system:node:n2", &key), &[]);
        renewing.node_exists = true;
        assert_eq!(shown(&decide(&renewing)), "NodeNameTaken");
    }

    #[test]
    fn a_node_serves_at_its_own_name_and_an_address_nobody_else_has() {
        let serving = |username, addresses| Asked { signer: KUBELET_SERVING, username, node: "n1", addresses, usage: "server auth", key: key() };
        let mut own = world(&serving("system:node:n1", &["192.0.2.7"]), &[]);
        assert_eq!(shown(&decide(&own)), "approve selfnodeclient");
        own.address_taken = true;
        assert_eq!(shown(&decide(&own)), "NodeAddressTaken");
        assert_eq!(shown(&decide(&world(&serving("system:bootstrap:abcdef", &["192.0.2.7"]), &[]))), "wait 1430m", "only nodes themselves");
        assert_eq!(shown(&decide(&world(&serving("system:node:n1", &[]), &[]))), "wait 1430m");
    }

    #[test]
    fn what_is_approved_is_signed_as_its_signer_says() {
        let key = key();
        assert_eq!(shown(&decide(&world(&client_of("n1", "x", &key), &["Approved"]))), "sign Client 8760h");
        let wrong = Asked { usage: "server auth", ..client_of("n1", "x", &key) };
        assert_eq!(shown(&decide(&world(&wrong, &["Approved"]))), "SignerValidationFailure");
        assert_eq!(shown(&decide(&world(&wrong, &[]))), "wait 1430m");
        assert_eq!(shown(&decide(&world(&client_of("n1", "x", &key), &["Denied"]))), "wait 50m");
        let foreign = Asked { signer: "example.com/own", ..client_of("n1", "x", &key) };
        assert_eq!(shown(&decide(&world(&foreign, &["Approved"]))), "wait 50m");
        let mut old = world(&client_of("n1", "x", &key), &["Denied"]);
        old.now = "2026-01-01T01:00:00Z".parse::<Timestamp>().unwrap();
        assert_eq!(shown(&decide(&old)), "delete");
    }

    #[test]
    fn a_request_is_approved_then_signed_and_left_until_it_is_old() {
        use controller_kit::Controller as _;
        use k8s_openapi::api::certificates::v1::CertificateSigningRequestCondition;
        let start = world(&client_of("n1", "system:node:n1", &key()), &[]);
        let end = controller_kit::converges(start, 2, super::super::Certificates::reconcile, |world, action| {
            let now = controller_kit::whole_seconds(world.now);
            let status = Arc::make_mut(&mut world.request).status.get_or_insert_default();
            match action {
                Action::Approve(_) => {
                    let approved = CertificateSigningRequestCondition {
                        type_: "Approved".into(),
                        status: "True".into(),
                        last_update_time: Some(now),
                        ..Default::default()
                    };
                    status.conditions = Some(vec![approved]);
                }
                Action::Sign { .. } => status.certificate = Some(ByteString(b"PEM".to_vec())),
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(shown(&decide(&end)), "wait 60m");
    }
}
