//! Definitions: how a cluster gets the custom kinds that a part of this server works with.
use crate::{has_code, is_not_found};
use http::{Method, Request};
use serde_json::Value;

const COLLECTION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// Servers that start at the same time may get in each other's way this often.
const ATTEMPTS: usize = 5;

/// Creates CustomResourceDefinitions in a cluster, or replaces those that say something else.
///
/// They must spell out what the server would default, so that equal means equal.
///
/// # Errors
/// When the API refuses or can't be asked.
pub async fn install_definitions(client: &kube::Client, definitions: &[Value]) -> Result<(), kube::Error> {
    for wanted in definitions {
        let mut attempt = 1;
        loop {
            match ensure(client, wanted).await {
                Err(error) if has_code(&error, 409) && attempt < ATTEMPTS => attempt += 1,
                done => break done?,
            }
        }
    }
    Ok(())
}

async fn ensure(client: &kube::Client, wanted: &Value) -> Result<(), kube::Error> {
    let path = format!("{COLLECTION}/{}", wanted["metadata"]["name"].as_str().unwrap_or_default());
    let found: Value = match ask(client, Method::GET, &path, None).await {
        Err(error) if is_not_found(&error) => return ask(client, Method::POST, COLLECTION, Some(wanted)).await.map(drop),
        found => found?,
    };
    match replacement(wanted, found) {
        Some(right) => ask(client, Method::PUT, &path, Some(&right)).await.map(drop),
        None => Ok(()),
    }
}

/// What to replace a definition with; `None` when it is as wanted.
fn replacement(wanted: &Value, mut found: Value) -> Option<Value> {
    if found["spec"] == wanted["spec"] {
        return None;
    }
    found["spec"] = wanted["spec"].clone();
    Some(found)
}

async fn ask(client: &kube::Client, method: Method, path: &str, body: Option<&Value>) -> Result<Value, kube::Error> {
    let body = body.map(Value::to_string).unwrap_or_default().into_bytes();
    let request = Request::builder().method(method).uri(format!("{path}?fieldManager=k8shost")).header(http::header::CONTENT_TYPE, "application/json");
    client.request(request.body(body).map_err(kube::Error::HttpError)?).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_is_replaced_only_when_it_differs() {
        let wanted = json!({"metadata": {"name": "clusters.k3k.io"}, "spec": {"group": "k3k.io", "names": {"plural": "clusters"}}});
        let mut found = wanted.clone();
        found["metadata"] = json!({"name": "clusters.k3k.io", "resourceVersion": "7", "annotations": {"theirs": "kept"}});
        assert_eq!(replacement(&wanted, found.clone()), None);
        found["spec"]["names"]["shortNames"] = json!(["c"]);
        let right = replacement(&wanted, found.clone()).unwrap();
        assert_eq!((&right["spec"], &right["metadata"]), (&wanted["spec"], &found["metadata"]));
    }
}
