//! Certificates: approves what nodes ask for, signs what is approved, and forgets requests that are old.
//!
//! Source: upstream's csrapproving, csrsigning and csrcleaner controllers. Beyond them, a node's name belongs to the key
//! that took it first: whoever else may join can't become a node that exists.
mod decide;

use crate::ControllersSettings;
use api_meta::ClusterName;
use controller_kit::{Change, Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use decide::{Approval, Decision, decide};
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const KEY_TYPE: &str = "k8shost.io/node-key";
const NAMESPACE: &str = "kube-system";
const FINGERPRINT: &str = "fingerprint";

/// Signs with a cluster's client authority. `bin` fills it with the server.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// The certificate (PEM) a request (PEM) asks for.
    ///
    /// # Errors
    /// Why it can't be had.
    async fn sign(&self, cluster: &ClusterName, request_pem: &str, usage: pki::Usage, validity: Duration) -> Result<String, String>;
}

pub struct Certificates {
    kit: Kit,
    requests: Objects<CertificateSigningRequest>,
    nodes: Objects<Node>,
    keys: Objects<Secret>,
    signer: Arc<dyn Signer>,
    /// The node of the server itself, which never joins.
    own_node: Option<String>,
}

pub struct World {
    pub request: Arc<CertificateSigningRequest>,
    /// The fingerprint of the key that took the node's name, if anybody did.
    pub holder: Option<String>,
    /// Whether there is a node of that name.
    pub node_exists: bool,
    /// Nodes other than the one that asks which say they have one of the addresses it asks for.
    pub address_taken: bool,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// After a look whether the requester may create `certificatesigningrequests/{subresource}`.
    Approve(Approval),
    Deny {
        reason: &'static str,
        message: String,
    },
    Fail {
        reason: &'static str,
        message: String,
    },
    Sign {
        usage: pki::Usage,
        validity: Duration,
    },
    Delete,
}

pub(crate) fn runner(kit: &Kit, signer: Arc<dyn Signer>, settings: &ControllersSettings) -> Runner<Certificates> {
    let requests = kit.objects::<CertificateSigningRequest>();
    let (nodes, keys) = (kit.objects::<Node>(), kit.selected::<Secret>(&format!("type={KEY_TYPE}")));
    let controller =
        Certificates { kit: kit.clone(), requests: requests.clone(), nodes: nodes.clone(), keys: keys.clone(), signer, own_node: settings.own_node.clone() };
    Runner::new(controller).needs(&nodes).needs(&keys).watch_own(&requests)
}

/// The Secret that tells which key a node's name belongs to.
fn key_name(node: &str) -> String {
    format!("{node}.node-key.k8shost")
}

fn fingerprint(secret: &Secret) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(FINGERPRINT)?.0.clone()).ok()
}

#[async_trait]
impl Controller for Certificates {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "certificatesigningrequest-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let request = self.requests.get(key)?;
        let asked = decide::parsed(&request).ok();
        let node = asked.as_ref().and_then(|asked| asked.subject.common_name.strip_prefix("system:node:")).unwrap_or_default();
        let holder = self.keys.get(&ObjectKey::new(&key.cluster, NAMESPACE, &key_name(node))).and_then(|secret| fingerprint(&secret));
        let is_own = key.cluster.is_root() && self.own_node.as_deref() == Some(node);
        let node_exists = is_own || self.nodes.get(&ObjectKey::new(&key.cluster, "", node)).is_some();
        let wanted = asked.as_ref().map(|asked| asked.ip_addresses.clone()).unwrap_or_default();
        let address_taken = !wanted.is_empty()
            && self.nodes.list(&key.cluster, None).iter().any(|other| {
                let addresses = other.status.iter().flat_map(|status| status.addresses.iter().flatten());
                other.metadata.name.as_deref() != Some(node)
                    && addresses.filter_map(|address| address.address.parse().ok()).any(|address| wanted.contains(&address))
            });
        Some(World { request, holder, node_exists, address_taken, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        match decide(world) {
            Decision::Act(action) => vec![action].into(),
            Decision::Wait(time) => {
                let mut plan = Plan::nothing();
                plan.look_again(time);
                plan
            }
        }
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(request) = self.requests.get(key) else { return Ok(()) };
        match action {
            Action::Approve(approval) => self.approve(key, &request, approval).await,
            Action::Deny { reason, message } => self.condition(key, &request, "Denied", reason, message).await,
            Action::Fail { reason, message } => self.condition(key, &request, "Failed", reason, message).await,
            Action::Sign { usage, validity } => {
                let pem = String::from_utf8_lossy(&request.spec.request.0).into_owned();
                match self.signer.sign(&key.cluster, &pem, usage, validity).await {
                    Ok(certificate) => {
                        let mut signed = (*request).clone();
                        signed.status.get_or_insert_default().certificate = Some(k8s_openapi::ByteString(certificate.into_bytes()));
                        self.requests.replace_status(&key.cluster, &signed).await.map(drop)
                    }
                    Err(why) => self.condition(key, &request, "Failed", "SignerValidationFailure", why).await,
                }
            }
            Action::Delete => {
                match self.requests.delete(key, &Deletion { preconditions: Preconditions::uid_of(&request.metadata), ..Default::default() }).await {
                    Err(error) if !error.is_not_found() => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Certificates {
    async fn approve(&self, key: &ObjectKey, request: &CertificateSigningRequest, approval: Approval) -> Result<(), Error> {
        if !self.may(key, request, approval.subresource).await? {
            // As upstream: somebody else may approve it.
            return Ok(());
        }
        if let Some(fingerprint) = &approval.takes_name_with
            && !self.take_name(&key.cluster, &approval.node, fingerprint).await?
        {
            let message = format!("the name of node {:?} belongs to another machine's key", approval.node);
            return self.condition(key, request, "Denied", "NodeNameTaken", message).await;
        }
        self.condition(key, request, "Approved", "AutoApproved", approval.message.to_owned()).await
    }

    async fn may(&self, key: &ObjectKey, request: &CertificateSigningRequest, subresource: &str) -> Result<bool, Error> {
        let api: kube::Api<SubjectAccessReview> = kube::Api::all(self.kit.clients().cluster(&key.cluster));
        let review = SubjectAccessReview {
            metadata: ObjectMeta::default(),
            spec: SubjectAccessReviewSpec {
                user: request.spec.username.clone(),
                uid: request.spec.uid.clone(),
                groups: request.spec.groups.clone(),
                extra: request.spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".into()),
                    resource: Some("certificatesigningrequests".into()),
                    verb: Some("create".into()),
                    subresource: Some(subresource.into()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            status: None,
        };
        let answer = api.create(&kube::api::PostParams::default(), &review).await.map_err(Error::from)?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// False if another key has the name. Creating the Secret decides between two that come at once.
    async fn take_name(&self, cluster: &ClusterName, node: &str, key: &str) -> Result<bool, Error> {
        let at = ObjectKey::new(cluster, NAMESPACE, &key_name(node));
        if let Some(secret) = self.keys.get(&at) {
            return Ok(fingerprint(&secret).as_deref() == Some(key));
        }
        let secret = Secret {
            metadata: ObjectMeta { name: Some(key_name(node)), namespace: Some(NAMESPACE.into()), ..Default::default() },
            type_: Some(KEY_TYPE.into()),
            data: Some([(FINGERPRINT.to_owned(), k8s_openapi::ByteString(key.as_bytes().to_vec()))].into()),
            immutable: Some(true),
            ..Default::default()
        };
        match self.keys.create(cluster, &secret).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_already_exists() => Ok(self.keys.fresh(&at).await?.and_then(|secret| fingerprint(&secret)).as_deref() == Some(key)),
            Err(error) => Err(error),
        }
    }

    async fn condition(&self, key: &ObjectKey, request: &CertificateSigningRequest, kind: &str, reason: &str, message: String) -> Result<(), Error> {
        let mut decided = request.clone();
        let conditions = &mut decided.status.get_or_insert_default().conditions;
        conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
            type_: kind.into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message),
            ..Default::default()
        });
        match kind {
            "Failed" => self.requests.replace_status(&key.cluster, &decided).await,
            _ => self.requests.replace_part(&key.cluster, &decided, "/approval").await,
        }
        .map(drop)
    }
}

/// Ties the key of a node's name to the node, so that the name is free again when the node is deleted.
pub struct NodeKeys {
    nodes: Objects<Node>,
    keys: Objects<Secret>,
}

pub(crate) fn node_keys(kit: &Kit) -> Runner<NodeKeys> {
    let (nodes, keys) = (kit.objects::<Node>(), kit.selected::<Secret>(&format!("type={KEY_TYPE}")));
    let of_node = |change: &Change<Node>| vec![ObjectKey::new(&change.key.cluster, NAMESPACE, &key_name(&change.key.name))];
    Runner::new(NodeKeys { nodes: nodes.clone(), keys: keys.clone() }).watch_own(&keys).watch(&nodes, of_node)
}

#[async_trait]
impl Controller for NodeKeys {
    type World = (Arc<Secret>, Arc<Node>);
    type Action = OwnerReference;

    fn name(&self) -> &'static str {
        "node-key-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<Self::World> {
        let node = key.name.strip_suffix(key_name("").as_str())?;
        Some((self.keys.get(key)?, self.nodes.get(&ObjectKey::new(&key.cluster, "", node))?))
    }

    fn reconcile((secret, node): &Self::World) -> Plan<OwnerReference> {
        let owned = secret.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == node.metadata.uid.as_ref());
        let (Some(name), Some(uid), false) = (&node.metadata.name, &node.metadata.uid, owned) else { return Plan::nothing() };
        vec![OwnerReference { api_version: "v1".into(), kind: "Node".into(), name: name.clone(), uid: uid.clone(), ..Default::default() }].into()
    }

    async fn act(&self, key: &ObjectKey, owner: OwnerReference) -> Result<(), Error> {
        let Some(secret) = self.keys.get(key) else { return Ok(()) };
        let patch = json!({"metadata": {"ownerReferences": [owner]}});
        self.keys.patch(key, "", &patch, &Preconditions::exactly(&secret.metadata)).await.map(drop)
    }
}
