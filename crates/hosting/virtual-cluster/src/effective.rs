//! Effective: what a Cluster and the policy of its namespace come to, or why they can't be served.
use crate::kinds::{AppliedPolicy, Cluster, Mode, Policy, Synced};
use crate::names::{PAUSED, RESERVED, RESTORE_AT, RESTORE_FROM};
use api_client::{ClusterSettings, PodSecurityLevel, Restore};
use api_meta::ClusterName;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The policy of a Cluster's namespace.
#[derive(Clone, Debug, Default)]
pub enum Bound {
    #[default]
    ToNone,
    To(Arc<Policy>),
    /// To one that does not exist.
    ToMissing(String),
}

/// What is to be served. Without the authority, which lies in a Secret, and the id of a snapshot, which it has when it is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    pub cluster: ClusterName,
    pub settings: ClusterSettings,
    pub policy: Option<AppliedPolicy>,
}

/// # Errors
/// Why it can't be served, in words for the Cluster's owner.
pub fn effective(cluster: &Cluster, bound: &Bound) -> Result<Effective, String> {
    let (name, namespace) = (cluster.metadata.name.as_deref().unwrap_or_default(), cluster.metadata.namespace.as_deref().unwrap_or_default());
    let spec = &cluster.spec;
    if name == RESERVED {
        return Err(format!("invalid cluster name {RESERVED:?}"));
    }
    let policy = match bound {
        Bound::ToNone => None,
        Bound::To(policy) => Some(policy),
        Bound::ToMissing(policy) => return Err(format!("policy {policy:?}, which namespace {namespace:?} is bound to, does not exist")),
    };
    if let Some(policy) = policy
        && policy.spec.allowed_mode != spec.mode
    {
        let policy = policy.metadata.name.as_deref().unwrap_or_default();
        return Err(format!("mode {:?} is not allowed by the policy {policy:?}", spec.mode.as_str()));
    }
    if spec.mode == Mode::Virtual {
        return Err("mode \"virtual\" needs PlasmaVMC, to run agents of the cluster's own, and it is not part of this server".to_owned());
    }
    // What else lies in the host cluster is not the owner's to read, even by way of this server.
    let elsewhere = |other: &str| !other.is_empty() && other != namespace;
    if let Some(addon) = spec.addons.iter().find(|addon| elsewhere(&addon.secret_namespace)) {
        return Err(format!("addons: secret {:?} must be in the Cluster's own namespace {namespace:?}", addon.secret_ref));
    }
    if let Some(reference) = spec.token_secret_ref.as_ref().filter(|reference| elsewhere(&reference.namespace)) {
        return Err(format!("tokenSecretRef: secret {:?} must be in the Cluster's own namespace {namespace:?}", reference.name));
    }
    let by_ingress = spec.expose.as_ref().is_some_and(|expose| expose.ingress.is_some());
    if by_ingress && spec.tls_sans.iter().all(|name| name.parse::<IpAddr>().is_ok() || name.contains('*')) {
        return Err("expose.ingress needs a host name in tlsSANs, which the cluster is reached by".to_owned());
    }
    let applied = policy.map(|policy| applied(policy));
    let either = |of_policy: Option<&BTreeMap<String, String>>| of_policy.filter(|selector| !selector.is_empty()).unwrap_or(&spec.node_selector).clone();
    let sync = policy.and_then(|policy| policy.spec.sync.as_ref()).map(|sync| Synced::deserialize(sync).unwrap_or_default());
    let settings = ClusterSettings {
        service_cidr: parse("serviceCIDR", "a network such as 10.43.0.0/16", &spec.service_cidr)?,
        cluster_dns: parse::<IpAddr>("clusterDNS", "an IP address", &spec.cluster_dns)?,
        node_selector: either(applied.as_ref().map(|policy| &policy.node_selector)),
        pod_security: policy.and_then(|policy| policy.spec.pod_security_admission_level).unwrap_or_default(),
        mirror_host_nodes: spec.mirror_host_nodes,
        own_nodes: spec.mode == Mode::Hcp,
        join_secret: None,
        storage_classes: sync.as_ref().or(spec.sync.as_deref()).and_then(synced_classes),
        client_ca: None,
        tls_names: spec.tls_sans.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).filter(|name| !name.is_empty()).collect(),
        paused: annotation(cluster, PAUSED) == "true",
        restore: wish(cluster).map(|request| Box::new(Restore { snapshot: String::new(), request })),
    };
    Ok(Effective { cluster: ClusterName::hosted(namespace, name)?, settings, policy: applied })
}

/// What a Cluster says that is kept and has no effect, though whoever wrote it may think so; and why.
pub fn without_effect(cluster: &Cluster, applied: Option<&AppliedPolicy>) -> Vec<&'static str> {
    let spec = &cluster.spec;
    let sources = spec.custom_cas.as_ref().filter(|custom| custom.enabled).map(|custom| &custom.sources);
    let priority = !spec.priority_class.is_empty() || applied.is_some_and(|policy| !policy.priority_class.is_empty());
    let all = [
        (priority, "priorityClass has no effect: clusters take turns at the scheduler, and no cluster's pods preempt another's"),
        (
            sources.is_some_and(|sources| !sources.server_ca.secret_name.is_empty()),
            "customCAs.sources.serverCA has no effect: this server's own certificate is shown for all clusters",
        ),
        (
            sources.is_some_and(|sources| !sources.service_account_token.secret_name.is_empty()),
            "customCAs.sources.serviceAccountToken has no effect: tokens are signed with this server's key, and told apart by their issuer",
        ),
    ];
    all.into_iter().filter_map(|(said, why)| said.then_some(why)).collect()
}

fn annotation<'a>(cluster: &'a Cluster, name: &str) -> &'a str {
    cluster.metadata.annotations.as_ref().and_then(|all| all.get(name)).map_or("", String::as_str)
}

/// The snapshot a Cluster wants its content from.
pub fn wanted_snapshot(cluster: &Cluster) -> &str {
    annotation(cluster, RESTORE_FROM)
}

/// What a Cluster says of its snapshot, told apart from what it has said before.
fn wish(cluster: &Cluster) -> Option<String> {
    let (name, at) = (wanted_snapshot(cluster), annotation(cluster, RESTORE_AT));
    match (name, at) {
        ("", _) => None,
        (name, "") => Some(name.to_owned()),
        (name, at) => Some(format!("{name}@{at}")),
    }
}

/// The labels of the host's StorageClasses that a cluster has, if it has any.
fn synced_classes(sync: &Synced) -> Option<BTreeMap<String, String>> {
    let classes = sync.storage_classes.as_ref()?;
    let labels = classes.selector.iter().flatten();
    (classes.enabled == Some(true)).then(|| labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
}

/// A level, as labels and status spell it.
pub fn level(level: PodSecurityLevel) -> &'static str {
    match level {
        PodSecurityLevel::Privileged => "privileged",
        PodSecurityLevel::Baseline => "baseline",
        PodSecurityLevel::Restricted => "restricted",
    }
}

fn applied(policy: &Policy) -> AppliedPolicy {
    let spec = &policy.spec;
    let recorded: [(&str, &Option<Value>); 6] = [
        ("sync", &spec.sync),
        ("serverAffinity", &spec.default_server_affinity),
        ("agentAffinity", &spec.default_agent_affinity),
        ("securityContext", &spec.security_context),
        ("runtimeClassName", &spec.runtime_class_name),
        ("hostUsers", &spec.host_users),
    ];
    AppliedPolicy {
        name: policy.metadata.name.clone().unwrap_or_default(),
        node_selector: spec.default_node_selector.clone(),
        priority_class: spec.default_priority_class.clone(),
        recorded: recorded.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect(),
    }
}

fn parse<T: std::str::FromStr>(field: &str, what: &str, text: &str) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("{field}: {text:?} is not {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cluster(spec: Value) -> Cluster {
        serde_json::from_value(json!({"metadata": {"name": "mine", "namespace": "team"}, "spec": spec})).unwrap()
    }

    fn policy(spec: Value) -> Bound {
        Bound::To(Arc::new(serde_json::from_value(json!({"metadata": {"name": "gold"}, "spec": spec})).unwrap()))
    }

    #[test]
    fn a_policy_goes_before_the_cluster_and_only_where_it_says_something() {
        let cluster = cluster(json!({"nodeSelector": {"pool": "a"}, "priorityClass": "low", "serviceCIDR": "10.43.0.0/16"}));
        let alone = effective(&cluster, &Bound::ToNone).unwrap();
        assert_eq!((alone.cluster.as_str(), alone.settings.node_selector["pool"].as_str()), ("mine.team", "a"));
        assert_eq!(alone.settings.pod_security, PodSecurityLevel::Baseline);
        let bound = policy(json!({"defaultNodeSelector": {"pool": "b"}, "podSecurityAdmissionLevel": "restricted", "sync": {"services": {"enabled": true}}}));
        let bound = effective(&cluster, &bound).unwrap();
        assert_eq!((bound.settings.node_selector["pool"].as_str(), bound.settings.pod_security), ("b", PodSecurityLevel::Restricted));
        let applied = serde_json::to_value(bound.policy).unwrap();
        assert_eq!(applied, json!({"name": "gold", "nodeSelector": {"pool": "b"}, "sync": {"services": {"enabled": true}}}));
    }

    #[test]
    fn annotations_pause_a_cluster_and_say_what_it_is_restored_from() {
        let with = |annotations: Value| {
            let cluster: Cluster = serde_json::from_value(json!({"metadata": {"name": "mine", "namespace": "team", "annotations": annotations}})).unwrap();
            let settings = effective(&cluster, &Bound::ToNone).unwrap().settings;
            (settings.paused, settings.restore.map(|restore| restore.request))
        };
        assert_eq!(with(json!({})), (false, None));
        assert_eq!(with(json!({PAUSED: "true"})), (true, None));
        assert_eq!(with(json!({PAUSED: "false", RESTORE_FROM: "s"})), (false, Some("s".into())));
        assert_eq!(with(json!({RESTORE_FROM: "s", RESTORE_AT: "noon"})), (false, Some("s@noon".into())));
        assert_eq!(with(json!({RESTORE_AT: "noon"})), (false, None));
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let said = |spec: Value, applied: Option<AppliedPolicy>| without_effect(&cluster(spec), applied.as_ref()).len();
        assert_eq!(said(json!({}), None), 0);
        assert_eq!(said(json!({"priorityClass": "high"}), None), 1);
        assert_eq!(said(json!({}), Some(AppliedPolicy { priority_class: "high".into(), ..AppliedPolicy::default() })), 1);
        let sources = json!({"clientCA": {"secretName": "c"}, "serverCA": {"secretName": "s"}, "serviceAccountToken": {"secretName": "t"}});
        assert_eq!(said(json!({"customCAs": {"enabled": true, "sources": sources}}), None), 2);
        assert_eq!(said(json!({"customCAs": {"enabled": false, "sources": sources}}), None), 0);
    }

    #[test]
    fn what_cannot_be_served_is_refused_in_words() {
        let check = |spec, bound: &Bound, expected: &str| assert_eq!(effective(&cluster(spec), bound).unwrap_err(), expected);
        check(json!({}), &Bound::ToMissing("gold".into()), "policy \"gold\", which namespace \"team\" is bound to, does not exist");
        check(json!({"mode": "hcp"}), &policy(json!({"allowedMode": "shared"})), "mode \"hcp\" is not allowed by the policy \"gold\"");
        check(json!({"serviceCIDR": "10"}), &Bound::ToNone, "serviceCIDR: \"10\" is not a network such as 10.43.0.0/16");
        let nameless = "expose.ingress needs a host name in tlsSANs, which the cluster is reached by";
        check(json!({"expose": {"ingress": {}}, "tlsSANs": ["192.0.2.1", "*.example.com"]}), &Bound::ToNone, nameless);
        let elsewhere = "addons: secret \"s\" must be in the Cluster's own namespace \"team\"";
        check(json!({"addons": [{"secretNamespace": "kube-system", "secretRef": "s"}]}), &Bound::ToNone, elsewhere);
        assert!(effective(&cluster(json!({"tokenSecretRef": {"name": "t", "namespace": "team"}})), &Bound::ToNone).is_ok());
    }
}
