//! ClusterRole aggregation: a role with an aggregation rule holds the rules of all roles it selects.
use api_meta::ClusterName;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, selector};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;

pub struct Aggregation {
    roles: Objects<ClusterRole>,
}

pub struct World {
    pub role: Arc<ClusterRole>,
    pub roles: Vec<Arc<ClusterRole>>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    SetRules(Vec<PolicyRule>),
}

pub fn runner(kit: &Kit) -> Runner<Aggregation> {
    let roles = kit.objects::<ClusterRole>();
    let all = roles.clone();
    Runner::new(Aggregation { roles: roles.clone() }).watch(&roles, move |change| {
        // The server itself keeps what all virtual clusters start with.
        let seen = if change.key.cluster == ClusterName::base() { Vec::new() } else { seen(&all, &change.key.cluster) };
        let aggregating = seen.into_iter().filter(|role| role.aggregation_rule.is_some());
        aggregating.map(|role| ObjectKey::of(&change.key.cluster, &role.metadata)).collect()
    })
}

/// The roles a cluster sees: its own, and those all virtual clusters start with where it has none of the name.
fn seen(roles: &Objects<ClusterRole>, cluster: &ClusterName) -> Vec<Arc<ClusterRole>> {
    let mut seen = roles.list(cluster, None);
    if !cluster.is_root() {
        let own: HashSet<Option<String>> = seen.iter().map(|role| role.metadata.name.clone()).collect();
        seen.extend(roles.list(&ClusterName::base(), None).into_iter().filter(|role| !own.contains(&role.metadata.name)));
    }
    seen
}

#[async_trait]
impl Controller for Aggregation {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let roles = seen(&self.roles, &key.cluster);
        let role = roles.iter().find(|role| role.metadata.name.as_deref() == Some(&key.name))?.clone();
        role.aggregation_rule.as_ref()?;
        Some(World { role, roles })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let selectors = world.role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
        let mut rules: Vec<PolicyRule> = Vec::new();
        for of in selectors.filter_map(|of| selector(of).ok()) {
            for role in world.roles.iter().filter(|role| role.metadata.name != world.role.metadata.name && of.matches(&role.metadata.labels)) {
                for rule in role.rules.iter().flatten() {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
        if world.role.rules.as_deref().unwrap_or_default() == rules { Plan::nothing() } else { vec![Action::SetRules(rules)].into() }
    }

    async fn act(&self, key: &ObjectKey, Action::SetRules(rules): Action) -> Result<(), Error> {
        if let Some(World { role, .. }) = self.observe(key) {
            self.roles.patch(key, "", &json!({ "rules": rules }), &Preconditions::exactly(&role.metadata)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    #[test]
    fn rules_of_selected_roles_are_gathered_once() {
        let role = |name: &str, label: &str| -> Arc<ClusterRole> {
            let value = json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": [{"verbs": ["get"], "resources": [label]}]});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let admin = json!({"metadata": {"name": "admin"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "admin"}}]}});
        let mut world =
            World { role: Arc::new(serde_json::from_value(admin).unwrap()), roles: vec![role("a", "admin"), role("b", "admin"), role("c", "view")] };
        let Some(Action::SetRules(rules)) = Aggregation::reconcile(&world).actions.pop() else { panic!() };
        assert_eq!(rules.len(), 1);
        Arc::make_mut(&mut world.role).rules = Some(rules);
        assert_eq!(Aggregation::reconcile(&world), Plan::nothing());
    }

    #[test]
    fn several_selectors_gather_in_their_order_and_come_to_rest() {
        let role = |name: &str, label: &str, verb: &str| -> Arc<ClusterRole> {
            let value = json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": [{"verbs": [verb], "resources": ["pods"]}]});
            Arc::new(serde_json::from_value(value).unwrap())
        };
        let selectors = json!([{"matchLabels": {"to": "edit"}}, {"matchLabels": {"to": "view"}}]);
        let whole = json!({"metadata": {"name": "whole", "labels": {"to": "view"}}, "aggregationRule": {"clusterRoleSelectors": selectors}, "rules": [{"verbs": ["*"]}]});
        let roles = vec![role("a", "view", "get"), role("b", "edit", "patch"), role("c", "none", "delete")];
        let world = World { role: Arc::new(serde_json::from_value(whole).unwrap()), roles };
        let end = converges(world, 1, Aggregation::reconcile, |world, Action::SetRules(rules)| Arc::make_mut(&mut world.role).rules = Some(rules));
        let verbs: Vec<String> = end.role.rules.iter().flatten().flat_map(|rule| rule.verbs.clone()).collect();
        assert_eq!(verbs, ["patch", "get"], "what was written by hand goes");
    }
}
