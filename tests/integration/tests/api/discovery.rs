//! Discovery: what is served is told, in every form clients ask for, and what is told is served.
use crate::support::quiet;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::Ask;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// `group/version resource` of each resource, from a resource list.
fn plain(list: &Value) -> BTreeSet<String> {
    let version = list["groupVersion"].as_str().unwrap();
    list["resources"].as_array().unwrap().iter().map(|r| format!("{version} {} {} {}", r["name"].as_str().unwrap(), r["kind"], r["verbs"])).collect()
}

fn aggregated(document: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for group in document["items"].as_array().unwrap() {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        for version in group["versions"].as_array().unwrap() {
            let version_name = version["version"].as_str().unwrap();
            let group_version = if name.is_empty() { version_name.to_owned() } else { format!("{name}/{version_name}") };
            for resource in version["resources"].as_array().unwrap() {
                let plural = resource["resource"].as_str().unwrap();
                all.insert(format!("{group_version} {plural} {} {}", resource["responseKind"]["kind"], resource["verbs"]));
                for sub in resource["subresources"].as_array().into_iter().flatten() {
                    let path = format!("{plural}/{}", sub["subresource"].as_str().unwrap());
                    all.insert(format!("{group_version} {path} {} {}", sub["responseKind"]["kind"], sub["verbs"]));
                }
            }
        }
    }
    all
}

#[test]
fn both_forms_of_discovery_tell_the_same() {
    let (_server, api) = quiet();
    assert_eq!(api.get("/api").ok()["versions"], json!(["v1"]));
    let groups = api.get("/apis").ok();
    assert_eq!((&groups["kind"], &groups["apiVersion"]), (&json!("APIGroupList"), &json!("v1")));
    let mut listed = plain(&api.get("/api/v1").ok());
    for group in groups["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        let own = api.get(&format!("/apis/{name}")).ok();
        assert_eq!((&own["kind"], &own["versions"], &own["preferredVersion"]), (&json!("APIGroup"), &group["versions"], &group["preferredVersion"]));
        for version in group["versions"].as_array().unwrap() {
            listed.append(&mut plain(&api.get(&format!("/apis/{}", version["groupVersion"].as_str().unwrap())).ok()));
        }
    }
    let mut told = BTreeSet::new();
    for path in ["/api", "/apis"] {
        let reply = api.send(&Ask::new("GET", path).header("accept", AGGREGATED));
        assert_eq!(reply.header("content-type"), Some("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"));
        told.append(&mut aggregated(&reply.ok()));
    }
    assert_eq!(told, listed);
    assert!(told.len() > 100, "{}", told.len());
    // Generated clients ask with the slash of upstream's OpenAPI document.
    for path in ["/api", "/apis", "/apis/apps", "/api/v1", "/apis/apps/v1", "/version"] {
        assert_eq!(api.get(&format!("{path}/")).ok(), api.get(path).ok(), "{path}");
    }
    for path in ["/apis/none", "/apis/apps/v9", "/api/v2"] {
        assert_eq!(api.get(path).refusal().0, 404, "{path}");
    }
}

#[test]
fn every_verb_that_is_told_is_served() {
    let (_server, api) = quiet();
    let groups = api.get("/apis").ok();
    let versions = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|g| g["versions"].as_array().unwrap())
        .map(|v| format!("/apis/{}", v["groupVersion"].as_str().unwrap()));
    for base in std::iter::once("/api/v1".to_owned()).chain(versions) {
        let list = api.get(&base).ok();
        for resource in list["resources"].as_array().unwrap() {
            let (name, verbs) = (resource["name"].as_str().unwrap(), resource["verbs"].as_array().unwrap());
            if name.contains('/') {
                continue;
            }
            let home = if resource["namespaced"] == true { format!("{base}/namespaces/default/{name}") } else { format!("{base}/{name}") };
            // What is asked is wrong in itself where it would change something: the point is that it is not refused as unknown.
            for (verb, ask) in [
                ("list", Ask::new("GET", &home)),
                ("watch", Ask::new("GET", &format!("{home}?watch=1&timeoutSeconds=1&resourceVersion=99999999"))),
                ("get", Ask::new("GET", &format!("{home}/none"))),
                ("create", Ask::new("POST", &format!("{home}?dryRun=Wrong")).json(&json!({}))),
                ("update", Ask::new("PUT", &format!("{home}/none?dryRun=Wrong")).json(&json!({"metadata": {"name": "none"}}))),
                ("patch", Ask::new("PATCH", &format!("{home}/none?dryRun=Wrong")).body("application/merge-patch+json", "{}")),
                ("delete", Ask::new("DELETE", &format!("{home}/none?dryRun=Wrong"))),
                ("deletecollection", Ask::new("DELETE", &format!("{home}?propagationPolicy=Wrong"))),
            ] {
                let code = api.send(&ask).code;
                if verbs.iter().any(|v| v == verb) {
                    let want: &[u16] = match verb {
                        "list" => &[200],
                        "watch" => &[504],
                        "get" => &[404],
                        _ => &[400, 404, 422, 201],
                    };
                    assert!(want.contains(&code), "{verb} {home}: {code}");
                } else {
                    assert_eq!(code, 405, "{verb} {home}");
                }
            }
        }
    }
}

#[test]
fn open_api_documents_are_there_for_every_group_and_change_only_with_it() {
    let (server, api) = quiet();
    let index = api.get("/openapi/v3").ok();
    let paths = index["paths"].as_object().unwrap();
    for group in ["api/v1", "apis/apps/v1", "apis/rbac.authorization.k8s.io/v1"] {
        let url = paths[group]["serverRelativeURL"].as_str().unwrap();
        let reply = api.get(url);
        let document = reply.ok();
        assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{group}");
        assert!(!document["components"]["schemas"].as_object().unwrap().is_empty());
        let again = api.send(&Ask::new("GET", url).header("if-none-match", reply.header("etag").unwrap()));
        assert_eq!((again.code, again.body.len()), (304, 0));
    }
    assert_eq!(api.get("/openapi/v3/apis/none/v1").code, 404);
    assert_eq!(api.get("/openapi/v2").ok()["swagger"], "2.0");
    let kubectl = server.tool();
    let explained = kubectl.k("explain deployment.spec.strategy.rollingUpdate.maxSurge").ok();
    assert!(explained.contains("GROUP:      apps") && explained.contains("FIELD: maxSurge <IntOrString>"), "{explained}");
    let recursive = kubectl.k("explain configmap --recursive").ok();
    assert!(recursive.contains("binaryData\t<map[string]string>"), "{recursive}");
    assert!(kubectl.k("explain configmap.nothing").err().contains("field \"nothing\" does not exist"));
    let version = api.get("/version").ok();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("37")));
    assert!(api.get("/").ok()["paths"].as_array().unwrap().contains(&json!("/apis/apps/v1")));
    let resources = kubectl.k("api-resources --verbs=list --no-headers -o name").ok();
    assert!(resources.lines().any(|line| line == "deployments.apps") && !resources.contains("tokenreviews"));
}
