//! The registry as a whole.
use api_builtins::BUILTINS;
use api_resource::AnyResource;
use std::collections::BTreeSet;

#[test]
fn no_two_kinds_share_a_path_or_a_name() {
    let (mut paths, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for resource in BUILTINS {
        let names = resource.names();
        assert!(paths.insert((&names.group, &names.version, &names.plural)), "{}", names.plural);
        assert!(kinds.insert((&names.group, &names.version, &names.kind)), "{}", names.kind);
        assert_eq!(names.singular, names.kind.to_lowercase());
    }
}

#[test]
fn every_kind_has_a_schema() {
    for resource in BUILTINS {
        // Generated, or written here for what upstream serves from elsewhere.
        assert!(resource.schema().definition.is_some() || resource.document().is_some(), "{}", resource.names().kind);
    }
}

#[test]
fn short_names_lead_to_one_kind() {
    let mut seen = BTreeSet::new();
    // Another version of a kind answers to the same names.
    let kinds = BUILTINS.iter().filter(|resource| resource.versions().is_none_or(|versions| versions.storage() == resource.names().api_version()));
    for short in kinds.flat_map(|resource| resource.names().short.iter()) {
        assert!(seen.insert(short), "{short}");
    }
}

#[test]
fn every_table_begins_with_what_identifies_the_row() {
    for resource in BUILTINS {
        let columns = resource.columns();
        let named = columns.iter().any(|column| column.format == "name");
        assert!(named, "{}", resource.names().plural);
        let visible: Vec<i32> = columns.iter().map(|column| column.priority).collect();
        assert!(visible.contains(&0), "{}", resource.names().plural);
    }
}

/// Kinds of the API that are no resources: documents, or what subresources take and give.
const NO_RESOURCES: &[&str] = &[
    "/v1/APIGroup",
    "/v1/APIGroupList",
    "/v1/APIResourceList",
    "/v1/APIVersions",
    "/v1/Status",
    "authentication.k8s.io/v1/TokenRequest",
    "autoscaling/v1/Scale",
    "policy/v1/Eviction",
];

#[test]
fn no_kind_that_is_stable_is_missing() {
    let facts: serde_json::Value = serde_json::from_str(include_str!("../../../api-schema/data/kubernetes-1.37-schema-facts.json")).unwrap();
    let kinds: BTreeSet<&str> =
        facts.as_object().unwrap().values().flat_map(|facts| facts["gvk"].as_array().into_iter().flatten()).filter_map(|kind| kind.as_str()).collect();
    let stable = |version: &str| version.strip_prefix('v').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let mut missing = Vec::new();
    for kind in &kinds {
        let [group, version, name] = kind.split('/').collect::<Vec<_>>()[..] else { continue };
        if !stable(version) || NO_RESOURCES.contains(kind) {
            continue;
        }
        let serves = |resource: &&&dyn AnyResource| {
            let names = resource.names();
            names.group == group && names.version == version && (names.kind == name || names.list_kind() == name)
        };
        if !BUILTINS.iter().any(|resource| serves(&resource)) {
            missing.push(kind);
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    // What subresources speak is spoken by one.
    for kind in NO_RESOURCES.iter().filter(|kind| kind.matches('/').count() == 2 && !kind.starts_with('/')) {
        let spoken = |part: &api_resource::Subresource| format!("{}/{}/{}", part.speaks.0, part.speaks.1, part.speaks.2) == **kind;
        assert!(BUILTINS.iter().any(|resource| resource.subresources().iter().any(spoken)), "{kind}");
    }
}

#[test]
fn what_a_cluster_starts_with_is_valid() {
    let services = BUILTINS.iter().map(|kind| api_builtins::local_api_services::builtin(&kind.names().group, &kind.names().version, "2026-01-01T00:00:00Z"));
    for object in api_builtins::flow_control::objects().into_iter().chain(services) {
        let (group, version) = api_meta::split_api_version(object["apiVersion"].as_str().unwrap());
        let kind = BUILTINS.iter().find(|kind| kind.names().group == group && kind.names().version == version && object["kind"] == *kind.names().kind).unwrap();
        let mut defaulted = object.clone();
        kind.default(&mut defaulted);
        assert_eq!(defaulted, object, "nothing is left to default");
        assert!(kind.validate(&object, None).is_empty(), "{object}: {:?}", kind.validate(&object, None));
    }
}
