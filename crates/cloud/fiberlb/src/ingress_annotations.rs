//! What Ingresses ask for by annotations, and what is wrong with it. Pure.
use k8s_openapi::api::networking::v1::Ingress;

/// Requests a second that each client may make to an Ingress.
pub const RATE_LIMIT: &str = "fiberlb.plasmacloud.io/rate-limit";
/// Whether TLS connections for an Ingress's hosts go to its backends as they are.
pub const PASSTHROUGH: &str = "fiberlb.plasmacloud.io/ssl-passthrough";
/// What the same is called by another controller, whose Ingresses are served as they stand.
const PASSTHROUGH_OF_NGINX: &str = "nginx.ingress.kubernetes.io/ssl-passthrough";

/// The limit an Ingress asks for, or what is wrong with it.
pub fn rate_limit(ingress: &Ingress) -> Result<Option<u32>, String> {
    let Some(text) = ingress.metadata.annotations.as_ref().and_then(|all| all.get(RATE_LIMIT)) else { return Ok(None) };
    match text.trim().parse() {
        Ok(number) if (1..=1_000_000).contains(&number) => Ok(Some(number)),
        _ => Err(format!("annotation \"{RATE_LIMIT}\" is {text:?}, which is not a number of 1 to 1000000")),
    }
}

/// Whether an Ingress passes TLS through, or what is wrong with what it says of that.
pub fn passes_through(ingress: &Ingress) -> Result<bool, String> {
    let annotations = ingress.metadata.annotations.as_ref();
    let said = [PASSTHROUGH, PASSTHROUGH_OF_NGINX].into_iter().find_map(|name| Some((name, annotations?.get(name)?)));
    match said.map(|(name, text)| (name, text.as_str())) {
        None | Some((_, "false" | "False" | "FALSE" | "f" | "F" | "0")) => Ok(false),
        Some((_, "true" | "True" | "TRUE" | "t" | "T" | "1")) => Ok(true),
        Some((name, text)) => Err(format!("annotation \"{name}\" is {text:?}, which is neither true nor false")),
    }
}

/// What an Ingress's annotations ask for that can't be had.
pub fn wrongs(ingress: &Ingress) -> Vec<String> {
    let (limit, passes) = (rate_limit(ingress), passes_through(ingress));
    let mut wrongs = Vec::new();
    if passes == Ok(true) {
        let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
        let hosts: Vec<&str> = rules.map(|rule| rule.host.as_deref().unwrap_or_default()).collect();
        if hosts.is_empty() || hosts.contains(&"") {
            wrongs.push(format!("annotation \"{PASSTHROUGH}\": connections are passed through by the host they ask for, and a rule has none"));
        }
        if limit.as_ref().is_ok_and(Option::is_some) {
            wrongs.push(format!("annotation \"{RATE_LIMIT}\" has no effect: requests in connections that are passed through can't be told"));
        }
    }
    wrongs.extend(limit.err());
    wrongs.extend(passes.err());
    wrongs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_asked_for_in_vain_is_told() {
        let check = |rules: Value, annotations: Value, expected: &[&str]| {
            let ingress = serde_json::from_value(json!({ "metadata": { "annotations": annotations }, "spec": { "rules": rules } })).unwrap();
            let wrongs = wrongs(&ingress);
            assert!(wrongs.len() == expected.len() && wrongs.iter().zip(expected).all(|(wrong, part)| wrong.contains(part)), "{wrongs:?}");
        };
        let (named, unnamed) = (json!([{ "host": "a.example.com" }]), json!([{}]));
        check(named.clone(), json!({ PASSTHROUGH: "true" }), &[]);
        check(named.clone(), json!({ PASSTHROUGH: "yes" }), &["is \"yes\", which is neither true nor false"]);
        check(named, json!({ PASSTHROUGH: "true", RATE_LIMIT: "5" }), &["has no effect"]);
        check(unnamed, json!({ PASSTHROUGH_OF_NGINX: "true", RATE_LIMIT: "x" }), &["a rule has none", "not a number"]);
        check(json!([]), json!({ PASSTHROUGH: "1" }), &["a rule has none"]);
    }
}
