//! Escalation: nobody grants by a role or binding what they may not do themselves.
use crate::rule::path_covers;
use crate::{Rule, User};
use std::collections::BTreeMap;

/// The parts of `wanted` that `owned` does not cover, compacted and sorted as upstream lists them; empty when all is covered.
pub fn covers(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let missing = wanted.iter().flat_map(atoms).filter(|atom| !owned.iter().any(|rule| covers_atom(rule, atom))).collect();
    compact(missing)
}

/// Upstream's reason for refusing to create or bind a role; empty when nothing is missing.
pub fn escalation_message(user: &User, missing: &[Rule], errors: &[String]) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let mut texts: Vec<String> = missing.iter().map(describe).collect();
    texts.sort();
    let mut message =
        format!("user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}", user.username, quoted(&user.groups), texts.join("\n"));
    if !errors.is_empty() {
        message.push_str(&format!("; resolution errors: {}", quoted(errors)));
    }
    message
}

/// A rule as upstream's CompactString prints it.
fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", parts.join(", "))
}

/// `["a" "b"]`, as Go's %q prints a list.
fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", items.join(" "))
}

/// Rules of one verb on one resource of one group (and one name), or on one path.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        let of_verb = Rule { verbs: vec![verb.clone()], ..Rule::default() };
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let atom = Rule { api_groups: vec![group.clone()], resources: vec![resource.clone()], ..of_verb.clone() };
                if rule.resource_names.is_empty() {
                    atoms.push(atom);
                } else {
                    atoms.extend(rule.resource_names.iter().map(|name| Rule { resource_names: vec![name.clone()], ..atom.clone() }));
                }
            }
        }
        atoms.extend(rule.non_resource_urls.iter().map(|url| Rule { non_resource_urls: vec![url.clone()], ..of_verb.clone() }));
    }
    atoms
}

fn covers_atom(rule: &Rule, atom: &Rule) -> bool {
    let has = |list: &[String], item: &str| list.iter().any(|have| have == "*" || have == item);
    if !has(&rule.verbs, &atom.verbs[0]) {
        return false;
    }
    if let [url] = &atom.non_resource_urls[..] {
        return rule.non_resource_urls.iter().any(|have| path_covers(have, url));
    }
    let resource = &atom.resources[0];
    let names_covered = match &atom.resource_names[..] {
        [] => rule.resource_names.is_empty(),
        names => rule.resource_names.is_empty() || names.iter().all(|name| rule.resource_names.contains(name)),
    };
    let subresource_covered = || resource.split_once('/').is_some_and(|(_, sub)| rule.resources.iter().any(|have| have.strip_prefix("*/") == Some(sub)));
    has(&rule.api_groups, &atom.api_groups[0]) && (has(&rule.resources, resource) || subresource_covered()) && names_covered
}

/// Joins atoms that differ only in their verb.
fn compact(atoms: Vec<Rule>) -> Vec<Rule> {
    let mut joined: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    for mut atom in atoms {
        let verbs = std::mem::take(&mut atom.verbs);
        let list = joined.entry(atom).or_default();
        for verb in verbs {
            if !list.contains(&verb) {
                list.push(verb);
            }
        }
    }
    joined.into_iter().map(|(rule, verbs)| Rule { verbs, ..rule }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rules(value: Value) -> Vec<Rule> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_is_held_can_be_granted() {
        let check = |owned: Value, wanted: Value, missing: &[&str]| {
            let texts: Vec<String> = covers(&rules(owned), &rules(wanted)).iter().map(describe).collect();
            assert_eq!(texts, missing);
        };
        let all = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        let get = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]);
        check(all.clone(), get.clone(), &[]);
        check(get.clone(), all.clone(), &[r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#]);
        check(json!([]), get.clone(), &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#]);
        check(json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]), get, &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#]);
        let named = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["a"]}]);
        check(named.clone(), named.clone(), &[]);
        check(named, json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]), &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#]);
        check(json!([{"nonResourceURLs": ["/healthz*"], "verbs": ["get"]}]), json!([{"nonResourceURLs": ["/healthz/etcd"], "verbs": ["get"]}]), &[]);
        let scale = |r: &str| json!([{"apiGroups": ["apps"], "resources": [r], "verbs": ["update"]}]);
        check(scale("*/scale"), scale("deployments/scale"), &[]);
    }

    #[test]
    fn the_refusal_names_the_user_and_the_rules() {
        let user = User::authenticated("eve", ["devs".to_owned()]);
        let missing = rules(json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]));
        assert_eq!(
            escalation_message(&user, &missing, &[]),
            "user \"eve\" (groups=[\"devs\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
        );
    }
}
