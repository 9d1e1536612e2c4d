//! The schemas of the built-in kinds: from k8s-openapi and the facts file at build time, decoded at first use.
use crate::structure;
use crate::{Schema, SchemaRef};

/// The built-in definition of this name, e.g. `io.k8s.api.apps.v1.Deployment`.
pub fn definition(name: &str) -> Option<&'static Schema> {
    structure::find_definition(name).map(structure::schema)
}

/// The schema of a built-in kind; list kinds too.
pub fn for_kind(group: &str, version: &str, kind: &str) -> Option<SchemaRef> {
    structure::find_kind(group, version, kind).map(SchemaRef::node)
}

/// Every (group, version, kind) of the API, list kinds and alpha ones too, sorted.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    structure::kinds()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ListType, MapType, Type};
    use serde_json::Value;
    use std::collections::BTreeMap;

    #[test]
    fn every_kind_of_the_facts_resolves_to_its_definition() {
        let facts: BTreeMap<String, Value> = serde_json::from_str(include_str!("../data/kubernetes-1.37-schema-facts.json")).unwrap();
        let mut count = 0;
        for (name, facts) in &facts {
            assert!(definition(name).is_some(), "{name}");
            for kind in facts["gvk"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(|k| *k != "*") {
                let parts: Vec<&str> = kind.split('/').collect();
                let schema = for_kind(parts[0], parts[1], parts[2]).unwrap_or_else(|| panic!("{kind}"));
                assert_eq!(schema.definition.as_deref(), Some(name.as_str()));
                count += 1;
            }
        }
        assert_eq!(count, kinds().count());
        assert!(for_kind("apps", "v1", "Nothing").is_none() && definition("io.k8s.Nothing").is_none());
    }

    #[test]
    fn every_node_decodes() {
        fn walk(schema: &Schema, seen: &mut Vec<*const Schema>) {
            if seen.contains(&std::ptr::from_ref(schema)) {
                return;
            }
            seen.push(std::ptr::from_ref(schema));
            schema.properties.values().chain(&schema.items).chain(&schema.additional).for_each(|child| walk(child, seen));
        }
        let mut seen = Vec::new();
        for (group, version, kind) in kinds() {
            walk(&for_kind(group, version, kind).unwrap(), &mut seen);
        }
        assert!(seen.len() > 1000, "{}", seen.len());
    }

    #[test]
    fn fields_carry_their_own_facts() {
        let pod = for_kind("", "v1", "Pod").unwrap();
        let spec = pod.field("spec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.list_type, ListType::Map(vec!["name".into()]));
        assert!(containers.patch.merge && containers.patch.merge_key.as_deref() == Some("name"));
        assert_eq!(spec.field("nodeSelector").unwrap().map_type, MapType::Atomic);
        assert!(spec.field("volumes").unwrap().patch.retain_keys);
        let port = containers.item().unwrap().field("ports").unwrap();
        assert_eq!(port.list_type, ListType::Map(vec!["containerPort".into(), "protocol".into()]));
        assert_eq!(port.item().unwrap().field("protocol").unwrap().default, Some("TCP".into()));
        assert_eq!(pod.field("metadata").unwrap().field("finalizers").unwrap().list_type, ListType::Set);

        let deployment = definition("io.k8s.api.apps.v1.DeploymentSpec").unwrap();
        let strategy = deployment.field("strategy").unwrap();
        assert!(strategy.patch.retain_keys && !strategy.patch.merge && strategy.properties.contains_key("rollingUpdate"));
        assert_eq!(strategy.definition.as_deref(), Some("io.k8s.api.apps.v1.DeploymentStrategy"));
        assert_eq!(strategy.field("rollingUpdate").unwrap().field("maxSurge").unwrap().kind, Type::IntOrString);
        assert_eq!(deployment.field("selector").unwrap().map_type, MapType::Atomic);
        let volume = definition("io.k8s.api.core.v1.PersistentVolumeSpec").unwrap();
        assert_eq!(volume.field("claimRef").unwrap().map_type, MapType::Granular);
        assert_eq!(definition("io.k8s.api.core.v1.ObjectReference").unwrap().map_type, MapType::Atomic);
    }

    #[test]
    fn schemas_may_hold_themselves() {
        let mut schema = definition("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap();
        for _ in 0..100 {
            schema = schema.field("properties").unwrap().field("any").unwrap();
        }
        assert_eq!(schema.field("maximum").unwrap().kind, Type::Number);
        assert_eq!(schema.field("items").unwrap().kind, Type::Any);
        assert!(schema.properties.contains_key("$ref"));
    }
}
