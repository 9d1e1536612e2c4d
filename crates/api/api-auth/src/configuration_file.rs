//! Configuration files of `apiserver.config.k8s.io`: how they are read, and how all that is wrong with one is told.
use api_meta::FieldErrors;
use serde::Deserialize;
use serde::de::DeserializeOwned;

const GROUP: &str = "apiserver.config.k8s.io";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

/// The configuration in a text of YAML or JSON, which has to be of this kind and hold no unknown fields.
pub(crate) fn decoded<T: DeserializeOwned>(text: &str, kind: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Header {
        api_version: String,
        kind: String,
    }
    if text.trim().is_empty() {
        return Err("empty config data".into());
    }
    let header: Header = serde_saphyr::from_str(text).map_err(|error| format!("strict decoding error: {error}"))?;
    let known = header.api_version.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/')).is_some_and(|version| VERSIONS.contains(&version));
    if !known || header.kind != kind {
        return Err(format!("expected {kind} of {GROUP}/v1, got kind {:?} of {:?}", header.kind, header.api_version));
    }
    serde_saphyr::from_str(text).map_err(|error| format!("strict decoding error: {error}"))
}

/// Several errors as one message, the way upstream aggregates them.
pub(crate) fn aggregated(errors: impl IntoIterator<Item = String>) -> Result<(), String> {
    let mut told: Vec<String> = Vec::new();
    for error in errors {
        if !told.contains(&error) {
            told.push(error);
        }
    }
    match told.len() {
        0 => Ok(()),
        1 => Err(told.remove(0)),
        _ => Err(format!("[{}]", told.join(", "))),
    }
}

pub(crate) fn checked(errors: &FieldErrors) -> Result<(), String> {
    aggregated(errors.iter().map(ToString::to_string))
}
