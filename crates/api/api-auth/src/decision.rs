//! Decision: what an authorizer says, and the chain that asks them in turn.
use crate::user::MASTERS;
use crate::{Attributes, NodeAuthorizer, RbacIndex};
use std::sync::Arc;

/// An authorizer's answer with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    Deny(String),
    NoOpinion(String),
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// `system:masters` first, then nodes, then RBAC. Who gets no Allow is refused.
pub struct Authorizer {
    nodes: Arc<NodeAuthorizer>,
    rbac: Arc<RbacIndex>,
}

impl Authorizer {
    pub fn new(rbac: Arc<RbacIndex>) -> Self {
        Self { nodes: Arc::new(NodeAuthorizer::default()), rbac }
    }
    pub fn rbac(&self) -> &Arc<RbacIndex> {
        &self.rbac
    }
    pub fn nodes(&self) -> &Arc<NodeAuthorizer> {
        &self.nodes
    }
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.in_group(MASTERS) {
            return Decision::Allow(String::new());
        }
        let node = match self.nodes.authorize(attributes) {
            Decision::NoOpinion(reason) => reason,
            decided => return decided,
        };
        match self.rbac.authorize(attributes) {
            Decision::NoOpinion(rbac) => Decision::NoOpinion([node, rbac].into_iter().filter(|r| !r.is_empty()).collect::<Vec<_>>().join(", ")),
            decided => decided,
        }
    }
}
