//! The registry as a whole.
use api_builtins::BUILTINS;
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
