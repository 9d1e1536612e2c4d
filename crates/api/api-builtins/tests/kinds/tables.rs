//! Every kind that can be written has a table of what is accepted and refused; the rest of them are here.
use crate::suite::Suite;
use api_builtins::BUILTINS;
use serde_json::json;

/// Reviews are refused by who answers them, with tests of their own.
const REVIEWS: &[&str] = &["authentication.k8s.io", "authorization.k8s.io"];

const TABLES: &[&str] = &[
    include_str!("apiextensions.rs"),
    include_str!("apps.rs"),
    include_str!("core.rs"),
    include_str!("others.rs"),
    include_str!("pods.rs"),
    include_str!("tables.rs"),
];

#[test]
fn no_kind_is_without_a_table() {
    let written = BUILTINS.iter().filter(|kind| kind.verbs().contains(&"create") && !REVIEWS.contains(&&*kind.names().group));
    let missing: Vec<&str> =
        written.map(|kind| &*kind.names().plural).filter(|plural| !TABLES.iter().any(|table| table.contains(&format!("\"{plural}\"")))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn roots_of_trust_are_named_after_their_signer() {
    let bundle = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    Suite::new(
        "certificates.k8s.io/v1",
        "clustertrustbundles",
        json!({"metadata": {"name": "example.com:pods:one"}, "spec": {"signerName": "example.com/pods", "trustBundle": bundle}}),
    )
    .refuses(
        json!({"metadata": {"name": "one"}}),
        &["metadata.name: Invalid value: \"one\": ClusterTrustBundle for signerName example.com/pods must be named with prefix example.com:pods:"],
    )
    .refuses(json!({"spec": {"trustBundle": "x"}}), &["spec.trustBundle: Invalid value: \"<value omitted>\": at least one trust anchor must be provided"])
    .refuses(
        json!({"spec": {"signerName": null}}),
        &["metadata.name: Invalid value: \"example.com:pods:one\": ClusterTrustBundle without signer name must not have \":\" in its name"],
    );
}

#[test]
fn policies_that_change_objects_say_how() {
    let group = "admissionregistration.k8s.io/v1";
    let resources = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    let mutations = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]);
    Suite::new(group, "mutatingadmissionpolicies", json!({"spec": {"matchConstraints": {"resourceRules": resources}, "mutations": mutations}}))
        .refuses(json!({"spec": {"mutations": []}}), &["spec.mutations: Required value: mutations must contain at least one item"])
        .refuses(
            json!({"spec": {"reinvocationPolicy": "Always"}}),
            &["spec.reinvocationPolicy: Unsupported value: \"Always\": supported values: \"IfNeeded\", \"Never\""],
        )
        .refuses(json!({"spec": {"matchConstraints": null}}), &["spec.matchConstraints: Required value"]);
    Suite::new(group, "mutatingadmissionpolicybindings", json!({"spec": {"policyName": "p"}}))
        .refuses(json!({"spec": {"policyName": null}}), &["spec.policyName: Required value"]);
}

#[test]
fn templates_of_claims_are_held_to_what_claims_are() {
    let spec = |class: &str| json!({"spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": class}}]}}}});
    Suite::new("resource.k8s.io/v1", "resourceclaimtemplates", spec("gpu.example.com"))
        .refuses(
            json!({"spec": {"spec": {"devices": {"requests": [{"name": "gpu"}]}}}}),
            &["spec.spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"],
        )
        .refuses_update(
            spec("other"),
            &["spec: Invalid value: {\"spec\":{\"devices\":{\"requests\":[{\"exactly\":{\"allocationMode\":\"ExactCount\",\"count\":1,\"deviceClassName\":\"other\"},\"name\":\"gpu\"}]}}}: field is immutable"],
        );
}
