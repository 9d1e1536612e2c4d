//! What a node may read of pods: those bound to it (upstream's AuthorizeNodeWithSelectors, KEP-4601).
use crate::ApiServer;
use crate::query::Query;
use crate::stored::stored;
use api_auth::{Attributes, MASTERS, forbidden};
use api_meta::{GroupResource, Status};
use store::Key;

impl ApiServer {
    /// Refuses a node the pods of others, unless a role grants them. What the node authorizer allows by name alone is
    /// looked at here, where the selectors and the store are.
    pub(crate) async fn check_node_reads(&self, attributes: &Attributes<'_>, query: &Query) -> Result<(), Status> {
        let Some(node) = attributes.user.node() else { return Ok(()) };
        let reads_pods = attributes.group.is_empty() && attributes.resource == "pods" && attributes.subresource.is_empty();
        if !reads_pods || !matches!(attributes.verb, "get" | "list" | "watch") || attributes.user.in_group(MASTERS) {
            return Ok(());
        }
        let selects_own = attributes.verb != "get" && query.fields()?.exact("spec.nodeName").is_some_and(|name| name == node);
        if selects_own || self.is_bound_to(attributes, node).await || self.authorizer.rbac().authorize(attributes).is_allowed() {
            return Ok(());
        }
        let why = if attributes.name.is_empty() {
            "can only list/watch pods with spec.nodeName field selector".to_owned()
        } else {
            format!("no relationship found between node '{node}' and this object")
        };
        Err(forbidden(attributes, &why))
    }

    async fn is_bound_to(&self, attributes: &Attributes<'_>, node: &str) -> bool {
        if attributes.name.is_empty() || attributes.namespace.is_empty() {
            return false;
        }
        let key = Key::new(attributes.cluster, &GroupResource::new("", "pods"), attributes.namespace, attributes.name);
        let found = self.store.get(&key).await.ok().flatten();
        found.is_some_and(|record| stored(&record).object.to_value()["spec"]["nodeName"] == node)
    }
}
