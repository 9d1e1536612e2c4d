//! Stories of what a whole cluster shares: namespaces, roles, tokens.
use crate::story::{ACCOUNTS, CONFIG_MAPS, DEPLOYMENTS, Step, Story, UID_OF, story, workload};
use api_meta::ClusterName;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clock::{Clock, ManualClock, SystemClock};
use controllers::TokenSigner;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn a_cluster_role_gathers_the_rules_of_others() -> Story {
    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let rules = |resource: &str| json!([{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]);
    let part = |name: &str, resource: &str| json!({"metadata": {"name": format!("NAMESPACE-{name}"), "labels": {"of": "NAMESPACE", "part": "NAMESPACE"}}, "rules": rules(resource)});
    let whole = json!({"metadata": {"name": "NAMESPACE-all", "labels": {"of": "NAMESPACE"}}, "rules": [],
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "NAMESPACE"}}]}});
    story(
        &["clusterrole-aggregation-controller"],
        &["/apis/rbac.authorization.k8s.io/v1/clusterroles?labelSelector=of%3DNAMESPACE"],
        vec![
            Step::Create(ROLES, whole),
            Step::Create(ROLES, part("a", "pods")),
            Step::Create(ROLES, part("b", "services")),
            Step::Delete("/apis/rbac.authorization.k8s.io/v1/clusterroles/NAMESPACE-a", "Background"),
        ],
    )
}

pub fn a_namespace_goes_with_all_that_is_in_it() -> Story {
    story(
        &["namespace-controller"],
        &["/api/v1/namespaces?labelSelector=story%3DNAMESPACE", DEPLOYMENTS, CONFIG_MAPS],
        vec![
            Step::Create(DEPLOYMENTS, workload("web", json!({"replicas": 1}))),
            Step::Create(CONFIG_MAPS, json!({"metadata": {"name": "kept"}})),
            Step::Delete("/api/v1/namespaces/NAMESPACE", "Background"),
        ],
    )
}

pub fn bootstrap_tokens_sign_and_end() -> Story {
    const PUBLIC: &str = "/api/v1/namespaces/kube-public/configmaps";
    let text = |text: &str| json!(STANDARD.encode(text));
    let token = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "data": {"token-id": text("abcdef"), "token-secret": text("0123456789abcdef"), "usage-bootstrap-signing": text("true")}});
    story(
        &["bootstrap-signer-controller", "token-cleaner-controller"],
        &[
            "/api/v1/namespaces/kube-public/configmaps?fieldSelector=metadata.name%3Dcluster-info",
            "/api/v1/namespaces/kube-system/secrets?fieldSelector=metadata.name%3Dbootstrap-token-abcdef",
        ],
        vec![
            Step::Create(PUBLIC, json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "of the cluster"}})),
            Step::Create("/api/v1/namespaces/kube-system/secrets", token),
            Step::Patch("/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef", json!({"data": {"expiration": text("2026-01-01T00:00:00Z")}})),
            Step::Delete("/api/v1/namespaces/kube-public/configmaps/cluster-info", "Background"),
        ],
    )
}

pub fn custom_dependents_stay_or_go_as_is_asked_for() -> Story {
    const GADGETS: &str = "/apis/NAMESPACE.example.com/v1/namespaces/NAMESPACE/gadgets";
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let definition = json!({"metadata": {"name": "gadgets.NAMESPACE.example.com"}, "spec": {"group": "NAMESPACE.example.com", "scope": "Namespaced",
        "names": {"plural": "gadgets", "kind": "Gadget"}, "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]}});
    let owner = |name: &str| Step::Create(CONFIG_MAPS, json!({"metadata": {"name": name}}));
    let gadget = |name: &str, owner: &str| {
        let uid = format!("{UID_OF}/api/v1/namespaces/NAMESPACE/configmaps/{owner}");
        let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid, "blockOwnerDeletion": true});
        Step::Create(GADGETS, json!({"apiVersion": "NAMESPACE.example.com/v1", "kind": "Gadget", "metadata": {"name": name, "ownerReferences": [reference]}}))
    };
    story(
        &["garbage-collector-controller"],
        &[GADGETS, CONFIG_MAPS],
        vec![
            Step::Create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition),
            owner("leaving"),
            gadget("stays-1", "leaving"),
            gadget("stays-2", "leaving"),
            gadget("stays-3", "leaving"),
            Step::Delete("/api/v1/namespaces/NAMESPACE/configmaps/leaving", "Orphan"),
            owner("taking"),
            gadget("goes-1", "taking"),
            gadget("goes-2", "taking"),
            Step::Delete("/api/v1/namespaces/NAMESPACE/configmaps/taking", "Foreground"),
        ],
    )
}

pub fn objects_are_stored_in_the_newest_version_alone() -> Story {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    const MIGRATIONS: &str = "/apis/storagemigration.k8s.io/v1/storageversionmigrations";
    const WIDGETS: &str = "/apis/NAMESPACE.example.com/v1/namespaces/NAMESPACE/widgets";
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let definition = json!({"metadata": {"name": "widgets.NAMESPACE.example.com", "labels": {"of": "NAMESPACE"}},
        "spec": {"group": "NAMESPACE.example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1", true), version("v2", false)]}});
    let widget = |name: &str| json!({"apiVersion": "NAMESPACE.example.com/v1", "kind": "Widget", "metadata": {"name": name}, "size": 1});
    let migration = |name: &str| json!({"metadata": {"name": name}, "spec": {"resource": {"group": "NAMESPACE.example.com", "resource": "widgets"}}});
    story(
        &["storage-version-migrator-controller"],
        &["/apis/apiextensions.k8s.io/v1/customresourcedefinitions?labelSelector=of%3DNAMESPACE", MIGRATIONS, WIDGETS],
        vec![
            Step::Create(DEFINITIONS, definition),
            Step::Create(WIDGETS, widget("a")),
            Step::Create(WIDGETS, widget("b")),
            Step::Patch(
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.NAMESPACE.example.com",
                json!({"spec": {"versions": [version("v1", false), version("v2", true)]}}),
            ),
            Step::Create(MIGRATIONS, migration("first")),
            Step::Create(MIGRATIONS, migration("again")),
            Step::Delete("/apis/storagemigration.k8s.io/v1/storageversionmigrations/first", "Background"),
            Step::Delete("/apis/storagemigration.k8s.io/v1/storageversionmigrations/again", "Background"),
        ],
    )
}

const SECRETS: &str = "/api/v1/namespaces/NAMESPACE/secrets";
const TRACKING: &str = "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3Dkube-apiserver-legacy-service-account-token-tracking";

/// Signs alike at each telling.
struct Alike;

impl TokenSigner for Alike {
    fn sign(&self, _: &ClusterName, _: &str, secret: &str, account: &str, _: &str) -> Result<String, String> {
        Ok(format!("{secret} of {account}"))
    }
}

fn secret() -> Value {
    json!({"metadata": {"name": "kept", "annotations": {"kubernetes.io/service-account.name": "robot"}}, "type": "kubernetes.io/service-account-token"})
}

pub fn a_kept_token_is_filled_and_goes_with_its_account() -> Story {
    let mut told = story(
        &["serviceaccount-token-controller", "legacy-service-account-token-tracking-controller"],
        &[SECRETS, TRACKING],
        vec![
            Step::Create(ACCOUNTS, json!({"metadata": {"name": "robot"}})),
            Step::Create(SECRETS, secret()),
            Step::Delete("/api/v1/namespaces/NAMESPACE/serviceaccounts/robot", "Background"),
            // It is kept again, since another day.
            Step::Delete("/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking", "Background"),
        ],
    );
    told.settings.token_signer = Some(Arc::new(Alike));
    // The namespace's name is in it.
    Story { but: &["namespace", "since"], ..told }
}

pub fn a_token_nobody_asked_for_is_marked_and_goes() -> Story {
    const KEPT: &str = "/api/v1/namespaces/NAMESPACE/secrets/kept";
    const SINCE: &str = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let later = SystemClock.now() + jiff::SignedDuration::from_hours(24 * 800);
    let mut told = story(
        &["legacy-serviceaccount-token-cleaner-controller"],
        &[SECRETS],
        vec![
            Step::Create(ACCOUNTS, json!({"metadata": {"name": "robot"}, "secrets": [{"name": "kept"}]})),
            Step::Patch(SINCE, json!({"data": {"since": "2020-01-01"}})),
            // Made long ago, for those who live later.
            Step::Create(SECRETS, secret()),
            Step::Patch(KEPT, json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2021-01-01"}}})),
        ],
    );
    told.settings.token_signer = Some(Arc::new(Alike));
    Story { but: &["namespace"], clock: Arc::new(ManualClock::at(later)), ..told }
}
