//! Requests: quantities, selectors, continue tokens, paths and queries.
use api_meta::{FieldSelector, LabelSelector, Quantity};
use std::collections::BTreeMap;

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

pub fn quantity(bytes: &[u8]) {
    let Some(Ok(quantity)) = text(bytes).map(Quantity::parse) else { return };
    let shown = quantity.to_string();
    let again = Quantity::parse(&shown).unwrap_or_else(|why| panic!("{shown:?}: {why}"));
    assert_eq!(again, quantity, "{shown}");
    assert_eq!(again.to_string(), shown);
    let (more, less) = (quantity + quantity, quantity - again);
    assert!(less.is_zero() && more.is_negative() == quantity.is_negative());
    assert!(quantity.is_negative() || quantity.units() <= quantity.millis());
}

pub fn quantity_examples() -> Vec<Vec<u8>> {
    super::texts(&[
        "0",
        "100m",
        "1.5Gi",
        "-12e6",
        "+.5E-3",
        "128974848",
        "1Ei",
        "9223372036854775807",
        "0.000000001",
        "5n",
        "3u",
        "1E",
        "999999999999999999999999k",
    ])
}

pub fn label_selector(bytes: &[u8]) {
    let Some(Ok(selector)) = text(bytes).map(LabelSelector::parse) else { return };
    let shown = selector.to_string();
    let again = LabelSelector::parse(&shown).unwrap_or_else(|why| panic!("{shown:?}: {why}"));
    assert_eq!(again.to_string(), shown);
    let labels: BTreeMap<String, String> = [("app", "web"), ("tier", "2"), ("x", "")].map(|(key, value)| (key.into(), value.into())).into();
    assert_eq!(selector.matches(&labels), again.matches(&labels), "{shown}");
}

pub fn label_selector_examples() -> Vec<Vec<u8>> {
    super::texts(&["app=web,tier!=2", "app in (a, b),!gone", "example.com/x notin (),tier>1,tier<3", "app", "x=", "app==web", "in in (in,notin)"])
}

pub fn field_selector(bytes: &[u8]) {
    let Some(Ok(selector)) = text(bytes).map(FieldSelector::parse) else { return };
    selector.matches(|field| if field == "metadata.name" { "a".into() } else { "".into() });
    for requirement in selector.requirements() {
        let escaped = requirement.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let sign = if requirement.equal { "=" } else { "!=" };
        let again = FieldSelector::parse(&format!("{}{sign}{escaped}", requirement.field));
        // A field's own name may hold what cannot be written there again.
        if !requirement.field.contains(['\\', '!', '=', ',']) {
            assert_eq!(again.expect("a requirement written down").requirements(), std::slice::from_ref(requirement));
        }
    }
}

pub fn field_selector_examples() -> Vec<Vec<u8>> {
    super::texts(&["metadata.name=a,status.phase!=Running", "a==b\\,c\\=\\\\d", "a=", ",,a=b"])
}

pub fn continue_token(bytes: &[u8]) {
    let Some(Ok(token)) = text(bytes).map(api_server::decoders::continue_token) else { return };
    assert_eq!(api_server::decoders::continue_token(&token).ok(), Some(token));
}

pub fn continue_token_examples() -> Vec<Vec<u8>> {
    // {"v":"meta.k8s.io/v1","rv":7,"start":"ns/name"} and one with another version.
    super::texts(&["eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6Nywic3RhcnQiOiJucy9uYW1lIn0", "eyJ2IjoibWV0YS5rOHMuaW8vdjIiLCJydiI6Nywic3RhcnQiOiIuLiJ9"])
}

pub fn request(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    // What is refused is refused in good order.
    if let Err(status) = api_server::decoders::request(path, query) {
        assert!((400..500).contains(&status.code), "{status:?}");
    }
}

pub fn request_examples() -> Vec<Vec<u8>> {
    super::texts(&[
        "/api/v1/namespaces/default/pods/p?resourceVersion=7&resourceVersionMatch=Exact&limit=2&continue=abc",
        "/apis/apps/v1/watch/namespaces/default/deployments?watch=true&timeoutSeconds=3&sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
        "/api/v1/nodes/n/proxy/some/path?labelSelector=a%3Db,c+in+(d)&fieldSelector=metadata.name%3Dx&timeout=1h2m3.5s",
        "/clusters/team/apis/example.com/v1/widgets/a%2Fb/scale?dryRun=All&pretty=1",
        "/healthz/ping?verbose",
    ])
}
