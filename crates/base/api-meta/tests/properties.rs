//! Laws of quantities and selectors, and what upstream's documentation says of them.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
use api_meta::label_selector::{Operator, Requirement};
use api_meta::{FieldSelector, LabelSelector, Quantity};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).unwrap_or_else(|why| panic!("{text:?}: {why}"))
}

/// A quantity as text, and its exact number of billionths.
fn any_quantity() -> impl Strategy<Value = (String, i128)> {
    const SUFFIXES: &[(&str, i128)] = &[
        ("n", 1),
        ("u", 1_000),
        ("m", 1_000_000),
        ("", 1_000_000_000),
        ("k", 1_000_000_000_000),
        ("M", 1_000_000_000_000_000),
        ("e3", 1_000_000_000_000),
        ("E-3", 1_000_000),
        ("Ki", 1024 * 1_000_000_000),
        ("Mi", (1 << 20) * 1_000_000_000),
        ("Gi", (1 << 30) * 1_000_000_000),
    ];
    (-1_000_000_000_i64..1_000_000_000, prop::sample::select(SUFFIXES))
        .prop_map(|(number, (suffix, factor))| (format!("{number}{suffix}"), i128::from(number) * factor))
}

fn any_requirement() -> impl Strategy<Value = Requirement> {
    let value = "[a-z]([a-z.]{0,3}[a-z])?|[0-9]{1,3}";
    let several = prop::collection::btree_set(value, 1..4).prop_map(|values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>());
    let number = (0..1000u16).prop_map(|number| vec![number.to_string()]);
    let test = prop_oneof![
        several.clone().prop_map(|values| (Operator::In, values)),
        several.prop_map(|values| (Operator::NotIn, values)),
        Just((Operator::Exists, vec![])),
        Just((Operator::DoesNotExist, vec![])),
        number.clone().prop_map(|values| (Operator::GreaterThan, values)),
        number.prop_map(|values| (Operator::LessThan, values)),
    ];
    ("(x\\.y/)?[a-d]", test).prop_map(|(key, (operator, values))| Requirement { key, operator, values })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn quantities_have_one_canonical_form((text, _) in any_quantity()) {
        let parsed = quantity(&text);
        let shown = parsed.to_string();
        prop_assert_eq!(quantity(&shown), parsed, "{}", &shown);
        prop_assert_eq!(quantity(&shown).to_string(), shown.clone());
        // No suffix is left that could be larger, and no fraction.
        let digits = shown.trim_start_matches('-').trim_end_matches(|c: char| !c.is_ascii_digit());
        prop_assert!(!digits.contains('.'));
        if !shown.contains(['i', 'e']) && digits != "0" {
            prop_assert!(!digits.ends_with("000") || text.ends_with('i'), "{} {}", text, shown);
        }
    }

    #[test]
    fn quantities_are_ordered_as_numbers_are((one, first) in any_quantity(), (two, second) in any_quantity()) {
        let (a, b) = (quantity(&one), quantity(&two));
        prop_assert_eq!(a.cmp(&b), first.cmp(&second));
        prop_assert_eq!(a + b, b + a);
        prop_assert_eq!((a + b) - b, a);
        prop_assert_eq!((a + b).cmp(&a), second.cmp(&0));
        prop_assert_eq!(a.is_negative(), first < 0);
    }

    #[test]
    fn label_selectors_survive_being_printed(requirements in prop::collection::vec(any_requirement(), 0..4), labels in prop::collection::btree_map("[a-d]", "[a-z]|[0-9]{1,3}", 0..4)) {
        let mut requirements = requirements;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        let selector = LabelSelector::from_requirements(requirements);
        let parsed = LabelSelector::parse(&selector.to_string()).unwrap();
        prop_assert_eq!(&parsed, &selector, "{}", selector);
        let labels: BTreeMap<String, String> = labels;
        prop_assert_eq!(parsed.matches(&labels), selector.matches(&labels));
    }

    #[test]
    fn field_selectors_take_any_value_that_is_escaped(value in "[ -~é]{0,6}", equal in any::<bool>()) {
        let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let selector = FieldSelector::parse(&format!("spec.a{}{escaped},metadata.name=x", if equal { "=" } else { "!=" })).unwrap();
        let first = &selector.requirements()[0];
        prop_assert_eq!((first.field.as_str(), first.equal, &first.value), ("spec.a", equal, &value));
        prop_assert_eq!(selector.exact("metadata.name"), Some("x"));
    }
}

// kubernetes.io/docs/concepts/configuration/manage-resources-containers and the Quantity of the API reference.
#[test]
fn quantities_are_as_documented() {
    let about = ["128974848", "129e6", "129M", "128974848000m", "123Mi"];
    for pair in about.windows(2) {
        let (a, b) = (quantity(pair[0]).units(), quantity(pair[1]).units());
        assert!(a.abs_diff(b) < 100_000, "{pair:?}: {a} {b}");
    }
    for (text, canonical) in [("0.1", "100m"), ("400m", "400m"), ("400Mi", "400Mi"), ("1.5", "1500m"), ("1.5Gi", "1536Mi"), ("0.5", "500m"), ("1000m", "1")] {
        assert_eq!(quantity(text).to_string(), canonical);
    }
    assert_eq!(quantity("64Mi") + quantity("64Mi"), quantity("128Mi"));
    assert_eq!((quantity("250m") + quantity("250m")).to_string(), "500m");
}

// kubernetes.io/docs/concepts/overview/working-with-objects/labels
#[test]
fn label_selectors_are_as_documented() {
    let labels: BTreeMap<String, String> = [("environment", "production"), ("tier", "frontend")].map(|(key, value)| (key.into(), value.into())).into();
    for (text, matches) in [
        ("environment = production", true),
        ("tier != frontend", false),
        ("environment=production,tier!=frontend", false),
        ("environment in (production, qa)", true),
        ("tier notin (frontend, backend)", false),
        ("partition", false),
        ("!partition", true),
        ("partition,environment notin (qa)", false),
        ("environment,environment notin (frontend)", true),
        ("partition in (customerA, customerB),environment!=qa", false),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap().matches(&labels), matches, "{text}");
    }
}

// kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors
#[test]
fn field_selectors_are_as_documented() {
    let value_of = |field: &str| match field {
        "metadata.name" => "my-service".into(),
        "status.phase" => "Running".into(),
        "spec.restartPolicy" => "Never".into(),
        _ => "".into(),
    };
    for (text, matches) in [
        ("metadata.name=my-service", true),
        ("metadata.namespace!=default", true),
        ("status.phase=Pending", false),
        ("status.phase!=Running,spec.restartPolicy=Always", false),
        ("status.phase==Running,spec.restartPolicy!=Always", true),
    ] {
        assert_eq!(FieldSelector::parse(text).unwrap().matches(value_of), matches, "{text}");
    }
}
