//! Manifests: a valid one of every kind served, to be enriched, mutated and sent.
use serde_json::Value;
use std::sync::LazyLock;

static MANIFESTS: LazyLock<Vec<Value>> =
    LazyLock::new(|| serde_saphyr::from_multiple(include_str!("../corpus/manifests.yaml")).expect("the corpus is a stream of YAML documents"));

/// The valid manifests, with `{n}` and `{ip}` where an object's own number belongs.
pub fn manifests() -> &'static [Value] {
    &MANIFESTS
}

/// A manifest as the object of this number.
pub fn numbered(manifest: &Value, number: u64) -> Value {
    let ip = format!("10.{}.{}.{}", 97 + number / 65_025 % 100, number / 255 % 255, number % 255 + 1);
    let text = manifest.to_string().replace("{n}", &number.to_string()).replace("{ip}", &ip);
    serde_json::from_str(&text).expect("numbers and addresses need no escapes")
}

/// (group, version, kind) of a manifest.
pub fn kind_of(manifest: &Value) -> (&str, &str, &str) {
    let (group, version) = api_meta::split_api_version(manifest["apiVersion"].as_str().unwrap_or_default());
    (group, version, manifest["kind"].as_str().unwrap_or_default())
}
