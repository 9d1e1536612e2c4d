//! State: what a definition's status has to say, as upstream's naming, establishing, approval and finalizing controllers say it.
use crate::definition::AcceptedNames;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The annotation that lets a definition use a group of the Kubernetes community.
pub const APPROVED: &str = "api-approved.kubernetes.io";

/// The names that are taken in a group, those of the definition itself included.
pub trait Taken {
    /// Whether a plural, singular or short name is in use.
    fn resource(&self, name: &str) -> bool;
    /// Whether a kind or list kind is in use.
    fn kind(&self, name: &str) -> bool;
}

/// The status a definition should have; equal to what it has when all is said.
///
/// `violations`: why its schemas are not structural.
pub fn status(definition: &Value, taken: &dyn Taken, violations: &[String], now: Timestamp) -> Value {
    let mut status = definition["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let (names, trouble) = accepted(&definition["spec"]["names"], &status["acceptedNames"], taken);
    status["acceptedNames"] = names;
    let accepted = trouble.is_none();
    let (reason, message) = trouble.unwrap_or(("NoConflicts", "no conflicts found".into()));
    set_condition(&mut status, "NamesAccepted", accepted, reason, &message, now);
    // What was established stays so, whatever becomes of its names.
    if accepted && !is_true(&status, "Established") {
        set_condition(&mut status, "Established", true, "InitialNamesAccepted", "the initial names have been accepted", now);
    } else if condition(&status, "Established").is_none() {
        set_condition(&mut status, "Established", false, "NotAccepted", "not all names are accepted", now);
    }
    approve(definition, &mut status, now);
    if violations.is_empty() {
        remove_condition(&mut status, "NonStructuralSchema");
    } else {
        let message = match violations {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        set_condition(&mut status, "NonStructuralSchema", true, "Violations", &message, now);
    }
    status
}

/// Says how far the deletion of a definition's objects is.
pub fn set_terminating(status: &mut Value, going_on: bool, reason: &str, message: &str, now: Timestamp) {
    set_condition(status, "Terminating", going_on, reason, message, now);
}

/// The names a definition gets, and the last of the reasons it does not get all.
fn accepted(asked: &Value, held: &Value, taken: &dyn Taken) -> (Value, Option<(&'static str, String)>) {
    let read = |value: &Value| serde_json::from_value::<AcceptedNames>(value.clone()).unwrap_or_default();
    let (asked, held) = (read(asked), read(held));
    let mut given = held.clone();
    let mut trouble = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    let free = |name: &str, own: &str, used: bool| if name == own || !used { Ok(()) } else { Err(in_use(name)) };
    let mut decide = |result: Result<(), String>, reason: &'static str| match result {
        Ok(()) => true,
        Err(why) => {
            trouble = Some((reason, why));
            false
        }
    };
    if decide(free(&asked.plural, &held.plural, taken.resource(&asked.plural)), "PluralConflict") {
        given.plural = asked.plural;
    }
    if decide(free(&asked.singular, &held.singular, taken.resource(&asked.singular)), "SingularConflict") {
        given.singular = asked.singular;
    }
    if asked.short_names != held.short_names {
        let new = asked.short_names.iter().filter(|name| !held.short_names.contains(name));
        let clashes: Vec<String> = new.filter(|name| taken.resource(name)).map(|name| in_use(name)).collect();
        let result = match &clashes[..] {
            [] => Ok(()),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        };
        if decide(result, "ShortNamesConflict") {
            given.short_names = asked.short_names;
        }
    }
    if decide(free(&asked.kind, &held.kind, taken.kind(&asked.kind)), "KindConflict") {
        given.kind = asked.kind;
    }
    if decide(free(&asked.list_kind, &held.list_kind, taken.kind(&asked.list_kind)), "ListKindConflict") {
        given.list_kind = asked.list_kind;
    }
    given.categories = asked.categories;
    let mut names = Map::new();
    for (key, text) in [("plural", given.plural), ("singular", given.singular), ("kind", given.kind), ("listKind", given.list_kind)] {
        // Upstream always writes the plural and the kind.
        if !text.is_empty() || matches!(key, "plural" | "kind") {
            names.insert(key.into(), text.into());
        }
    }
    for (key, list) in [("shortNames", given.short_names), ("categories", given.categories)] {
        if !list.is_empty() {
            names.insert(key.into(), list.into());
        }
    }
    (Value::Object(names), trouble)
}

/// Whether a group belongs to the Kubernetes community.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// What the approval of a definition for a protected group is worth.
#[derive(Debug, PartialEq)]
pub enum Approval {
    Missing,
    Invalid,
    Bypassed,
    Approved,
}

/// With upstream's words for it.
pub fn approval(definition: &Value) -> (Approval, String) {
    let annotation = definition["metadata"]["annotations"][APPROVED].as_str().unwrap_or_default();
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    if annotation.is_empty() {
        return (Approval::Missing, format!("protected groups must have approval annotation {APPROVED:?}, {see}"));
    }
    if annotation.starts_with("unapproved") {
        return (Approval::Bypassed, format!("not approved: {annotation:?}"));
    }
    let is_url = annotation.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) && !rest.split('/').next().unwrap_or_default().is_empty()
    });
    if is_url {
        return (Approval::Approved, format!("approved in {annotation}"));
    }
    let why = format!("protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", {see}");
    (Approval::Invalid, why)
}

fn approve(definition: &Value, status: &mut Value, now: Timestamp) {
    const CONDITION: &str = "KubernetesAPIApprovalPolicyConformant";
    if !is_protected(definition["spec"]["group"].as_str().unwrap_or_default()) {
        return;
    }
    let (approval, message) = approval(definition);
    let (holds, reason) = match approval {
        Approval::Approved => (true, "ApprovedAnnotation"),
        Approval::Bypassed => (false, "UnapprovedAnnotation"),
        Approval::Invalid => (false, "InvalidAnnotation"),
        Approval::Missing => (false, "MissingAnnotation"),
    };
    set_condition(status, CONDITION, holds, reason, &message, now);
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|c| c["type"] == kind)
}

fn is_true(status: &Value, kind: &str) -> bool {
    condition(status, kind).is_some_and(|c| c["status"] == "True")
}

fn remove_condition(status: &mut Value, kind: &str) {
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|c| c["type"] != kind);
    }
}

fn set_condition(status: &mut Value, kind: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let text = if holds { "True" } else { "False" };
    let since = match condition(status, kind) {
        Some(old) if old["status"] == text => old["lastTransitionTime"].clone(),
        _ => now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
    };
    let new = json!({ "type": kind, "status": text, "lastTransitionTime": since, "reason": reason, "message": message });
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let conditions = status["conditions"].as_array_mut().expect("it was just made a list");
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Names(&'static [&'static str]);

    impl Taken for Names {
        fn resource(&self, name: &str) -> bool {
            self.0.contains(&name)
        }
        fn kind(&self, name: &str) -> bool {
            self.0.contains(&name)
        }
    }

    fn definition(status: Value) -> Value {
        let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wd", "w"]});
        json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "names": names}, "status": status})
    }

    fn said(status: &Value) -> Vec<String> {
        let text = |c: &Value, key: &str| c[key].as_str().unwrap().to_owned();
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().map(|c| format!("{}={} {}: {}", text(c, "type"), text(c, "status"), text(c, "reason"), text(c, "message"))).collect()
    }

    #[test]
    fn free_names_are_accepted_and_stay_so() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let first = status(&definition(Value::Null), &Names(&[]), &[], now);
        assert_eq!(
            said(&first),
            ["NamesAccepted=True NoConflicts: no conflicts found", "Established=True InitialNamesAccepted: the initial names have been accepted"]
        );
        let own = Names(&["widgets", "widget", "wd", "w", "Widget", "WidgetList"]);
        assert_eq!(status(&definition(first.clone()), &own, &[], "2026-01-02T00:00:00Z".parse().unwrap()), first);
    }

    #[test]
    fn what_others_hold_is_not_given() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let refused = status(&definition(Value::Null), &Names(&["wd", "w", "Widget"]), &[], now);
        assert_eq!(
            said(&refused),
            ["NamesAccepted=False KindConflict: \"Widget\" is already in use", "Established=False NotAccepted: not all names are accepted"]
        );
        assert_eq!(refused["acceptedNames"], json!({"plural": "widgets", "singular": "widget", "kind": "", "listKind": "WidgetList"}));
        let short = status(&definition(Value::Null), &Names(&["wd", "w"]), &[], now);
        assert_eq!(said(&short)[0], "NamesAccepted=False ShortNamesConflict: [\"wd\" is already in use, \"w\" is already in use]");
    }

    #[test]
    fn protected_groups_say_who_approved() {
        let approved = |annotation: &str| approval(&json!({"metadata": {"annotations": {APPROVED: annotation}}})).0;
        assert_eq!(approved(""), Approval::Missing);
        assert_eq!(approved("unapproved, experimental"), Approval::Bypassed);
        assert_eq!(approved("https://github.com/kubernetes/kubernetes/pull/1"), Approval::Approved);
        assert_eq!(approved("because"), Approval::Invalid);
        assert!(is_protected("k8s.io") && is_protected("a.kubernetes.io") && !is_protected("xk8s.io") && !is_protected("example.com"));
    }
}
