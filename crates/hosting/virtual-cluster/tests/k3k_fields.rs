//! The definitions say of every field what K3k's own say, field by field: types, defaults, enums, what is required, rules and their messages.
//!
//! `k3k-fields.txt` has a line for each field of K3k's: kind, path (`[]` an item, `{}` a value), and all that is said of it but
//! its description. A field that is a core type names it, and nothing beneath it is listed.
#![allow(clippy::unwrap_used, reason = "a test may")]
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const FIELDS: &str = include_str!("k3k-fields.txt");
const DEFINITIONS: [&str; 2] = [include_str!("../data/clusters.json"), include_str!("../data/virtualclusterpolicies.json")];

/// The fields that only Clusters of this server have.
const OWN_FIELDS: [&str; 4] = [".status.address", ".status.paused", ".status.podSecurity", ".status.restoredFrom"];
/// The fields whose rules refuse more than K3k does, where silence would lose what somebody means; the guide tells of them.
const STRICTER: [&str; 9] = [
    ".spec",
    ".spec.clusterCIDR",
    ".spec.clusterDNS",
    ".spec.expose.loadBalancer",
    ".spec.expose.nodePort",
    ".spec.mode",
    ".spec.serverArgs",
    ".spec.serviceCIDR",
    ".spec.version",
];

/// What is said of each field, by its path.
fn fields(schema: &Value) -> BTreeMap<String, Map<String, Value>> {
    let mut found = BTreeMap::new();
    add(schema, String::new(), &mut found);
    found
}

fn add(schema: &Value, path: String, found: &mut BTreeMap<String, Map<String, Value>>) {
    let mut said = schema.as_object().unwrap().clone();
    said.remove("description");
    if let Some(Value::Array(required)) = said.get_mut("required") {
        required.sort_by(|left, right| left.as_str().cmp(&right.as_str()));
    }
    if let Some(rules) = said.remove("x-kubernetes-validations") {
        said.insert("rules".into(), rules);
    }
    for (name, property) in said.remove("properties").iter().flat_map(|all| all.as_object().unwrap()) {
        add(property, format!("{path}.{name}"), found);
    }
    for (part, sign) in [("items", "[]"), ("additionalProperties", "{}")] {
        if said.get(part).is_some_and(Value::is_object) {
            add(&said.remove(part).unwrap(), format!("{path}{sign}"), found);
        }
    }
    found.insert(if path.is_empty() { ".".into() } else { path }, said);
}

/// How what is said here differs from what K3k says; `None`: it does not.
fn difference(path: &str, theirs: &Map<String, Value>, ours: &Map<String, Value>) -> Option<String> {
    let (mut theirs, mut ours) = (theirs.clone(), ours.clone());
    let rules = |said: &mut Map<String, Value>| said.remove("rules").map_or_else(Vec::new, |rules| rules.as_array().unwrap().clone());
    let (their_rules, our_rules) = (rules(&mut theirs), rules(&mut ours));
    if let Some(missing) = their_rules.iter().find(|rule| !our_rules.contains(rule)) {
        return Some(format!("lacks the rule {missing}"));
    }
    if our_rules.len() > their_rules.len() && !STRICTER.contains(&path) {
        return Some("refuses more".into());
    }
    if STRICTER.contains(&path.trim_end_matches("[]")) {
        // Rules about every element need to know how many there can be.
        ["maxItems", "maxLength"].iter().for_each(|bound| _ = ours.remove(*bound));
    }
    if path == ".status.phase" {
        // A phase of our own is among theirs.
        ours.get_mut("enum")?.as_array_mut().unwrap().retain(|phase| phase != "Paused");
    }
    (theirs != ours).then(|| format!("{} instead of {}", Value::Object(ours), Value::Object(theirs)))
}

#[test]
fn every_field_is_k3ks() {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for text in DEFINITIONS {
        let definition: Value = serde_json::from_str(text).unwrap();
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let version = &definition["spec"]["versions"][0];
        let mut ours = fields(&version["schema"]["openAPIV3Schema"]);
        for line in FIELDS.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')) {
            let (path, said) = line.split_once(' ').unwrap();
            let theirs: Value = serde_json::from_str(said).unwrap();
            compared += 1;
            if path == "columns" {
                assert_eq!(version["additionalPrinterColumns"], theirs, "{kind}");
                continue;
            }
            let Some(found) = ours.remove(path) else {
                wrong.push(format!("{kind} {path} is missing"));
                continue;
            };
            if theirs.get("$ref").is_some() {
                let (beneath, of) = ([".", "[]", "{}"].map(|sign| format!("{path}{sign}")), ours.len());
                ours.retain(|path, _| !beneath.iter().any(|start| path.starts_with(start)));
                if ours.len() == of {
                    wrong.push(format!("{kind} {path} has no fields"));
                }
                continue;
            }
            wrong.extend(difference(path, theirs.as_object().unwrap(), &found).map(|why| format!("{kind} {path}: {why}")));
        }
        wrong.extend(ours.into_keys().filter(|path| !OWN_FIELDS.contains(&path.as_str())).map(|path| format!("{kind} {path} is none of K3k's")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 500, "{compared} fields");
}

#[test]
fn kinds_are_named_and_served_as_k3ks() {
    for (text, names, scope) in [
        (DEFINITIONS[0], json!({"kind": "Cluster", "listKind": "ClusterList", "plural": "clusters", "singular": "cluster"}), "Namespaced"),
        (
            DEFINITIONS[1],
            json!({
                "kind": "VirtualClusterPolicy", "listKind": "VirtualClusterPolicyList", "plural": "virtualclusterpolicies",
                "singular": "virtualclusterpolicy", "shortNames": ["vcp"],
            }),
            "Cluster",
        ),
    ] {
        let definition: Value = serde_json::from_str(text).unwrap();
        let version = &definition["spec"]["versions"][0];
        assert_eq!((&definition["spec"]["names"], definition["spec"]["scope"].as_str().unwrap()), (&names, scope));
        assert_eq!((&version["name"], &version["served"], &version["storage"]), (&json!("v1beta1"), &json!(true), &json!(true)));
        assert_eq!(version["subresources"], json!({"status": {}}));
    }
}
