//! Escalation: nobody grants, by a role or a binding, more than they hold, unless they may `escalate` or `bind`.
//!
//! Source: the RBAC authorization page's "privilege escalation prevention"; upstream's policybased storages.
use crate::ApiServer;
use crate::context::Context;
use crate::kinds::Kind;
use crate::metadata;
use api_auth::{Attributes, MASTERS, RbacKind, Rule, covers, escalation_message};
use api_meta::{GroupResource, Status};
use api_resource::Lookup;
use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";

impl ApiServer {
    pub(crate) async fn check_escalation(&self, context: &Context<'_>, kind: &Kind, new: &Value, old: Option<&Value>) -> Result<(), Status> {
        let Some(rbac) = RbacKind::of(&kind.names().group, &kind.names().plural) else { return Ok(()) };
        if context.user.in_group(MASTERS) || old.is_some_and(|old| grants_the_same(new, old)) {
            return Ok(());
        }
        let wanted = match rbac {
            RbacKind::Role | RbacKind::ClusterRole => {
                if self.may(context, "escalate", rbac, &context.route.name) {
                    return Ok(());
                }
                rules(&new["rules"])
            }
            RbacKind::RoleBinding | RbacKind::ClusterRoleBinding => {
                let reference = &new["roleRef"];
                let name = reference["name"].as_str().unwrap_or_default();
                let of = if reference["kind"] == "Role" { RbacKind::Role } else { RbacKind::ClusterRole };
                if self.may(context, "bind", of, name) {
                    return Ok(());
                }
                let namespace = if of == RbacKind::Role { context.namespace(kind) } else { "" };
                let role = Lookup::get(self, context.cluster, &GroupResource::new(GROUP, of.resource()), namespace, name).await?;
                let role = role.ok_or_else(|| Status::not_found(GROUP, of.resource(), name))?;
                rules(&role.to_value()["rules"])
            }
        };
        let refused = |why: String| Err(Status::forbidden(GROUP, &kind.names().plural, metadata::text(new, "name"), why));
        let owned = self.authorizer.rbac().rules_for(context.cluster, context.user, context.namespace(kind));
        let missing = covers(&owned.rules, &wanted);
        if !missing.is_empty() {
            return refused(escalation_message(context.user, &missing, &owned.errors));
        }
        // An aggregated role can come to gather anything.
        if rbac == RbacKind::ClusterRole && !new["aggregationRule"].is_null() && !covers(&owned.rules, &everything()).is_empty() {
            return refused("must have cluster-admin privileges to use the aggregationRule".into());
        }
        Ok(())
    }

    fn may(&self, context: &Context<'_>, verb: &str, on: RbacKind, name: &str) -> bool {
        let attributes = Attributes {
            cluster: context.cluster,
            user: context.user,
            verb,
            group: GROUP,
            version: "*",
            resource: on.resource(),
            subresource: "",
            namespace: &context.route.namespace,
            name,
            path: "",
        };
        self.authorizer.authorize(&attributes).is_allowed()
    }
}

fn everything() -> Vec<Rule> {
    rules(&json!([{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }, { "verbs": ["*"], "nonResourceURLs": ["*"] }]))
}

/// The rules of a role. Its types have been checked.
fn rules(rules: &Value) -> Vec<Rule> {
    serde_json::from_value::<Option<Vec<Rule>>>(rules.clone()).ok().flatten().unwrap_or_default()
}

/// Whether only what a garbage collector needs to change differs, so that it can do its work on what it may not grant.
fn grants_the_same(new: &Value, old: &Value) -> bool {
    let granting = |object: &Value| {
        let mut object = object.clone();
        let metadata = metadata::of(&mut object);
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            metadata.remove(field);
        }
        object
    };
    granting(new) == granting(old)
}
