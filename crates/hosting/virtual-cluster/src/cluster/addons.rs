//! Addons: manifests from Secrets, applied in a virtual cluster.
use super::secrets::request;
use api_client::{is_not_found, kube};
use controller_kit::Error;
use http::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// Who applies, in managed fields.
const MANAGER: &str = "k3k-addons";

/// Applies every object of every document, in the order of the keys; what others set stays, what these say wins.
///
/// # Errors
/// When a document is no manifest, a kind is not (yet) known, or the cluster refuses.
pub async fn apply(client: &kube::Client, secret: &str, manifests: &BTreeMap<String, String>) -> Result<(), Error> {
    let mut known = Known::new(client);
    for (key, text) in manifests {
        let place = format!("addon {secret:?}, key {key:?}");
        for object in objects(text).map_err(|why| Error::NotYet(format!("{place}: {why}")))? {
            let path = known.path(&object).await.map_err(|error| told(&place, error))?;
            let path = format!("{path}?fieldManager={MANAGER}&force=true");
            let body = serde_json::to_vec(&object)?;
            let request = request(Method::PATCH, &path, body, "application/apply-patch+yaml")?;
            client.request::<Value>(request).await.map_err(|error| told(&place, error.into()))?;
        }
    }
    Ok(())
}

fn told(place: &str, error: Error) -> Error {
    Error::NotYet(format!("{place}: {error}"))
}

/// The objects in a stream of YAML documents; those of lists one by one.
pub fn objects(text: &str) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        match document.get("items") {
            Some(Value::Array(items)) if document["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) => objects.extend(items.iter().cloned()),
            _ => objects.push(document),
        }
    }
    for object in &objects {
        let has = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if let Some(missing) = ["/apiVersion", "/kind", "/metadata/name"].into_iter().find(|pointer| !has(pointer)) {
            return Err(format!("an object has no {}", missing[1..].replace('/', ".")));
        }
    }
    Ok(objects)
}

/// The resources of the versions asked about so far.
pub struct Known<'a> {
    client: &'a kube::Client,
    versions: HashMap<String, Value>,
}

impl<'a> Known<'a> {
    pub fn new(client: &'a kube::Client) -> Self {
        Self { client, versions: HashMap::new() }
    }

    /// Asks about the version of this object again when it is needed next.
    pub fn forget(&mut self, object: &Value) {
        self.versions.remove(object["apiVersion"].as_str().unwrap_or_default());
    }

    /// Where the object is, or would be.
    ///
    /// # Errors
    /// [`Error::NotYet`] when its kind is not served.
    pub async fn path(&mut self, object: &Value) -> Result<String, Error> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        if !self.versions.contains_key(&version) {
            let list = match self.client.request(request(Method::GET, &root, Vec::new(), "application/json")?).await {
                Err(error) if is_not_found(&error) => json!({}),
                found => found?,
            };
            self.versions.insert(version.clone(), list);
        }
        let resources = self.versions[&version]["resources"].as_array().into_iter().flatten();
        let mut resources = resources.filter(|resource| resource["kind"] == *kind && resource["name"].as_str().is_some_and(|name| !name.contains('/')));
        let Some(resource) = resources.next() else {
            return Err(Error::NotYet(format!("no kind {kind:?} in {version:?}")));
        };
        let (plural, name) = (resource["name"].as_str().unwrap_or_default(), text("/metadata/name"));
        let namespace = Some(text("/metadata/namespace")).filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".to_owned());
        let namespace = if resource["namespaced"] == true { format!("/namespaces/{namespace}") } else { String::new() };
        Ok(format!("{root}{namespace}/{plural}/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_lists_and_empty_ones_are_told_apart() {
        let text = "---\n# nothing\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: b}}\n";
        let names: Vec<Value> = objects(text).unwrap().iter().map(|object| object["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(objects("apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n").unwrap_err(), "an object has no metadata.name");
        assert!(objects("a: [").is_err());
    }
}
