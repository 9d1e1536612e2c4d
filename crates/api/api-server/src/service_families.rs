//! Service families: which of its cluster's address families a Service is in, before it is given addresses. Pure.
//!
//! Source: KEP-563, upstream's `initIPFamilyFields`.
use api_meta::{FieldError, FieldErrors, FieldPath};
use serde_json::Value;

pub(crate) const IPV4: &str = "IPv4";
pub(crate) const IPV6: &str = "IPv6";
const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// The family of an address.
pub(crate) fn family_of(address: &str) -> &'static str {
    if address.contains(':') { IPV6 } else { IPV4 }
}

pub(crate) fn texts(spec: &Value, field: &str) -> Vec<String> {
    spec[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`, and takes off the addresses that a Service leaves. `configured` are the cluster's
/// families, the default first. Not for ExternalName.
///
/// # Errors
/// What does not fit together, or the cluster does not have.
pub(crate) fn settle(spec: &mut Value, old: Option<&Value>, configured: &[&str]) -> Result<(), FieldErrors> {
    // Whether the cluster has two families now is no reason to change a Service nobody changes.
    if old.is_some_and(|old| stays_preferring(spec, old)) {
        return Ok(());
    }
    let is_headless = spec["clusterIP"] == "None";
    // Its endpoints are somebody's own: of which families is not known.
    let is_free = is_headless && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    let policy = match (spec["ipFamilyPolicy"].as_str(), old.and_then(|old| old["ipFamilyPolicy"].as_str())) {
        (Some(given), _) => given,
        (None, Some(before)) => before,
        (None, None) if is_free => REQUIRE,
        (None, None) => SINGLE,
    };
    let policy = policy.to_owned();
    let (mut addresses, mut families) = (texts(spec, "clusterIPs"), texts(spec, "ipFamilies"));
    let path = |field: &str| FieldPath::new("spec").child(field);
    let mut errors = FieldErrors::new();
    let mut wrong_policy = |why: &str| errors.push(FieldError::invalid(&path("ipFamilyPolicy"), policy.clone(), why));
    if let Some(old) = old {
        let before = (texts(old, "clusterIPs"), texts(old, "ipFamilies"));
        let is_less = |now: &[String], before: &[String]| !now.is_empty() && now.len() < before.len();
        if policy == SINGLE {
            // What was left as it is, is left to the policy.
            if addresses == before.0 {
                addresses.truncate(1);
            }
            if families == before.1 {
                families.truncate(1);
            }
        } else {
            if is_less(&addresses, &before.0) {
                wrong_policy("must be 'SingleStack' to release the secondary cluster IP");
            }
            if is_less(&families, &before.1) {
                wrong_policy("must be 'SingleStack' to release the secondary IP family");
            }
        }
    }
    if policy == SINGLE {
        if addresses.len() == 2 {
            wrong_policy("must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified");
        }
        if families.len() == 2 {
            wrong_policy("must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified");
        }
    }
    for (index, address) in addresses.iter().enumerate().take_while(|_| !is_headless).skip(families.len()) {
        let family = family_of(address);
        if configured.contains(&family) {
            families.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(&path("clusterIPs").index(index), spec["clusterIPs"].clone(), why));
        }
    }
    if errors.is_empty() && !is_free {
        if policy == REQUIRE && configured.len() < 2 {
            errors.push(FieldError::invalid(&path("ipFamilyPolicy"), policy.clone(), "this cluster is not configured for dual-stack services"));
        }
        for (index, family) in families.iter().enumerate().filter(|(_, family)| !configured.contains(&family.as_str())) {
            errors.push(FieldError::invalid(&path("ipFamilies").index(index), family.clone(), "not configured on this cluster"));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if families.is_empty() {
        families.extend(configured.first().map(|family| (*family).to_owned()));
    }
    if families.len() == 1 && policy != SINGLE && (is_free || configured.len() == 2) {
        let other = if families[0] == IPV4 { IPV6 } else { IPV4 };
        families.push(other.to_owned());
    }
    spec["ipFamilyPolicy"] = policy.into();
    spec["ipFamilies"] = families.into();
    if !addresses.is_empty() {
        spec["clusterIPs"] = addresses.into();
    }
    Ok(())
}

/// Whether a Service that prefers two families is written with the families and addresses it has.
fn stays_preferring(spec: &Value, old: &Value) -> bool {
    let is_addressed = matches!(spec["type"].as_str(), Some("ClusterIP" | "NodePort" | "LoadBalancer"));
    let prefers = spec["ipFamilyPolicy"] == PREFER && old["ipFamilyPolicy"].as_str().is_none_or(|policy| policy == PREFER);
    let same = |field: &str| texts(spec, field) == texts(old, field);
    is_addressed && spec["type"] == old["type"] && prefers && same("clusterIPs") && same("ipFamilies")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ONE: &[&str] = &[IPV4];
    const BOTH: &[&str] = &[IPV4, IPV6];

    /// `policy families addresses`, or what is wrong.
    fn settled(spec: Value, old: Option<Value>, configured: &[&str]) -> String {
        let mut all = json!({"type": "ClusterIP", "selector": {"app": "web"}});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        match settle(&mut all, old.as_ref(), configured) {
            Ok(()) => {
                let joined = |field: &str| texts(&all, field).join(",");
                format!("{} {} {}", all["ipFamilyPolicy"].as_str().unwrap_or("-"), joined("ipFamilies"), joined("clusterIPs"))
            }
            Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        }
    }

    #[test]
    fn a_new_service_is_in_the_families_it_asks_for() {
        for (spec, configured, want) in [
            (json!({}), ONE, "SingleStack IPv4 "),
            (json!({}), BOTH, "SingleStack IPv4 "),
            (json!({"ipFamilyPolicy": PREFER}), ONE, "PreferDualStack IPv4 "),
            (json!({"ipFamilyPolicy": PREFER}), BOTH, "PreferDualStack IPv4,IPv6 "),
            (json!({"ipFamilyPolicy": REQUIRE}), BOTH, "RequireDualStack IPv4,IPv6 "),
            (
                json!({"ipFamilyPolicy": REQUIRE}),
                ONE,
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
            ),
            (json!({"ipFamilies": [IPV6]}), BOTH, "SingleStack IPv6 "),
            (json!({"ipFamilies": [IPV6]}), ONE, "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"),
            (json!({"ipFamilies": [IPV6], "ipFamilyPolicy": PREFER}), BOTH, "PreferDualStack IPv6,IPv4 "),
            (
                json!({"ipFamilies": [IPV4, IPV6]}),
                BOTH,
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ),
            (json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}), BOTH, "SingleStack IPv6 fd00::1"),
            (
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
                ONE,
                "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
                BOTH,
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified",
            ),
            (json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "ipFamilyPolicy": REQUIRE}), BOTH, "RequireDualStack IPv6,IPv4 fd00::1"),
            (json!({"clusterIP": "None", "clusterIPs": ["None"]}), BOTH, "SingleStack IPv4 None"),
            (json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilyPolicy": PREFER}), BOTH, "PreferDualStack IPv4,IPv6 None"),
            // Without a selector, nothing depends on what the cluster has.
            (json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": null}), ONE, "RequireDualStack IPv4,IPv6 None"),
            (json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {}, "ipFamilyPolicy": SINGLE}), ONE, "SingleStack IPv4 None"),
            (json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": null, "ipFamilies": [IPV6]}), ONE, "RequireDualStack IPv6,IPv4 None"),
        ] {
            assert_eq!(settled(spec.clone(), None, configured), want, "{spec} {configured:?}");
        }
    }

    #[test]
    fn an_update_says_which_way_it_goes() {
        let spec = |policy: &str, families: &[&str], addresses: &[&str]| json!({"type": "ClusterIP", "ipFamilyPolicy": policy, "ipFamilies": families, "clusterIPs": addresses, "clusterIP": addresses[0]});
        let single = spec(SINGLE, &[IPV4], &["10.0.0.1"]);
        let both = spec(REQUIRE, &[IPV4, IPV6], &["10.0.0.1", "fd00::1"]);
        for (new, old, want) in [
            (spec(PREFER, &[IPV4], &["10.0.0.1"]), &single, "PreferDualStack IPv4,IPv6 10.0.0.1"),
            (spec(REQUIRE, &[IPV4, IPV6], &["10.0.0.1", "fd00::7"]), &single, "RequireDualStack IPv4,IPv6 10.0.0.1,fd00::7"),
            (spec(SINGLE, &[IPV4, IPV6], &["10.0.0.1", "fd00::1"]), &both, "SingleStack IPv4 10.0.0.1"),
            (spec(SINGLE, &[IPV4], &["10.0.0.1", "fd00::1"]), &both, "SingleStack IPv4 10.0.0.1"),
            (
                spec(REQUIRE, &[IPV4], &["10.0.0.1"]),
                &both,
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP; \
                 spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family",
            ),
            // A policy nobody mentions stays, and so do the families.
            (json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}), &both, "RequireDualStack IPv4,IPv6 10.0.0.1,fd00::1"),
        ] {
            assert_eq!(settled(new.clone(), Some(old.clone()), BOTH), want, "{new}");
        }
        // A Service that preferred two families when there was one is left alone, until somebody says more.
        let preferring = spec(PREFER, &[IPV4], &["10.0.0.1"]);
        assert_eq!(settled(preferring.clone(), Some(preferring.clone()), BOTH), "PreferDualStack IPv4 10.0.0.1");
        assert_eq!(settled(spec(REQUIRE, &[IPV4], &["10.0.0.1"]), Some(preferring), BOTH), "RequireDualStack IPv4,IPv6 10.0.0.1");
        // One of two families stays as it is where there is one by now.
        let preferring = spec(PREFER, &[IPV4, IPV6], &["10.0.0.1", "fd00::1"]);
        assert_eq!(settled(preferring.clone(), Some(preferring), ONE), "PreferDualStack IPv4,IPv6 10.0.0.1,fd00::1");
    }
}
