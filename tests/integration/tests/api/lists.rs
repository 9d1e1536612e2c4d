//! Lists: pages that fit together, selectors, resource versions.
use crate::support::{CONFIG_MAPS, config_map, names, pod, quiet};
use serde_json::{Value, json};
use testkit::{Api, Ask};

fn fill(api: &Api, count: usize) {
    for n in 0..count {
        let mut object = config_map(&format!("c{n:02}"), &json!({"n": n.to_string()}));
        object["metadata"]["labels"] = json!({"parity": if n % 2 == 0 { "even" } else { "odd" }, "n": n.to_string()});
        api.post(CONFIG_MAPS, &object).ok();
    }
}

/// All pages of a list; between them `meanwhile` happens.
fn pages(api: &Api, path: &str, mut meanwhile: impl FnMut(usize)) -> Vec<Value> {
    let mut pages: Vec<Value> = Vec::new();
    loop {
        let token = pages.last().map_or("", |page| page["metadata"]["continue"].as_str().unwrap());
        let page = api.get(&format!("{path}&continue={token}")).ok();
        let more = page["metadata"]["continue"].as_str().is_some_and(|token| !token.is_empty());
        pages.push(page);
        if !more {
            return pages;
        }
        meanwhile(pages.len());
    }
}

#[test]
fn pages_show_one_moment_whatever_happens_meanwhile() {
    let (_server, api) = quiet();
    fill(&api, 10);
    let whole = names(&api.get(CONFIG_MAPS).ok());
    let pages = pages(&api, &format!("{CONFIG_MAPS}?limit=4"), |page| {
        // One that was there goes, one that was not comes, one changes: behind, before and on the pages to come.
        api.delete(&format!("{CONFIG_MAPS}/c0{}", 9 - page)).ok();
        api.post(CONFIG_MAPS, &config_map(&format!("c0{}-new", 4 * page), &json!({}))).ok();
        api.patch("merge", &format!("{CONFIG_MAPS}/c09"), &json!({"data": {"n": format!("changed {page}")}})).ok();
    });
    let listed: Vec<String> = pages.iter().flat_map(names).collect();
    assert_eq!(listed, whole);
    assert_eq!(pages.iter().map(|page| page["items"].as_array().unwrap().len()).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(pages.iter().map(|page| page["metadata"]["remainingItemCount"].clone()).collect::<Vec<_>>(), [json!(6), json!(2), Value::Null]);
    let versions: Vec<&Value> = pages.iter().map(|page| &page["metadata"]["resourceVersion"]).collect();
    assert!(versions.iter().all(|version| **version == pages[0]["metadata"]["resourceVersion"]), "{versions:?}");
    assert_eq!(pages[2]["items"][1]["data"]["n"], "9");
    // The same moment can be asked for again.
    let then = api.get(&format!("{CONFIG_MAPS}?resourceVersion={}&resourceVersionMatch=Exact", versions[0].as_str().unwrap())).ok();
    assert_eq!(names(&then), whole);
    assert_ne!(names(&api.get(CONFIG_MAPS).ok()), whole);
}

#[test]
fn selectors_choose_and_pages_of_the_chosen_fit_too() {
    let (_server, api) = quiet();
    fill(&api, 10);
    let selected = |query: &str| names(&api.get(&format!("{CONFIG_MAPS}?{query}")).ok());
    assert_eq!(selected("labelSelector=parity%3Dodd,n+notin+(1,3)"), ["c05", "c07", "c09"]);
    assert_eq!(selected("labelSelector=n%3E7"), ["c08", "c09"]);
    assert_eq!(selected("labelSelector=!parity"), Vec::<String>::new());
    assert_eq!(selected("fieldSelector=metadata.name%3Dc03"), ["c03"]);
    assert_eq!(selected("fieldSelector=metadata.name!%3Dc03&labelSelector=parity%3Dodd&limit=0"), ["c01", "c05", "c07", "c09"]);
    assert_eq!(selected("fieldSelector=metadata.name%3Da%2Fb"), Vec::<String>::new());
    assert_eq!(selected("fieldSelector=metadata.name%3Dc03,metadata.namespace%3Dkube-system"), Vec::<String>::new());
    let pages = pages(&api, &format!("{CONFIG_MAPS}?limit=2&labelSelector=parity%3Dodd"), |_| {});
    assert_eq!(pages.iter().map(names).collect::<Vec<_>>(), [vec!["c01", "c03"], vec!["c05", "c07"], vec!["c09"]]);
    assert!(pages.iter().all(|page| page["metadata"].get("remainingItemCount").is_none()), "what selectors leave out is not counted");
    for (name, phase) in [("a", "Running"), ("b", "Pending"), ("c", "Running")] {
        api.post("/api/v1/namespaces/default/pods", &pod(name)).ok();
        let path = format!("/api/v1/namespaces/default/pods/{name}/status");
        api.patch("merge", &path, &json!({"status": {"phase": phase}})).ok();
    }
    assert_eq!(names(&api.get("/api/v1/pods?fieldSelector=status.phase%3DRunning").ok()), ["a", "c"]);
    assert_eq!(names(&api.get("/api/v1/pods?fieldSelector=status.phase!%3DRunning,spec.nodeName%3D").ok()), ["b"]);
}

#[test]
fn resource_versions_mean_what_they_say() {
    let (_server, api) = quiet();
    let created = api.post(CONFIG_MAPS, &config_map("a", &json!({"k": "1"}))).ok();
    let version = created["metadata"]["resourceVersion"].as_str().unwrap();
    let changed = api.patch("merge", &format!("{CONFIG_MAPS}/a"), &json!({"data": {"k": "2"}})).ok();
    let newest = api.get(CONFIG_MAPS).ok()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert_eq!(changed["metadata"]["resourceVersion"], newest.as_str(), "a list tells the newest revision");
    let value = |query: &str| api.get(&format!("{CONFIG_MAPS}?{query}")).ok()["items"][0]["data"]["k"].clone();
    assert_eq!(value(&format!("resourceVersion={version}&resourceVersionMatch=Exact")), "1");
    assert_eq!(value(&format!("resourceVersion={version}&resourceVersionMatch=NotOlderThan")), "2");
    assert_eq!(value(&format!("resourceVersion={version}")), "2");
    assert_eq!(value("resourceVersion=0"), "2");
    assert_eq!(value("resourceVersion=&continue=&labelSelector=&fieldSelector="), "2");
    let refused = |query: &str| {
        let (code, reason, message) = api.get(&format!("{CONFIG_MAPS}{query}")).refusal();
        (code, reason, message.replace("ListOptions.meta.k8s.io \"\" is invalid: ", ""))
    };
    let invalid = |message: &str| (422, "Invalid".to_owned(), message.to_owned());
    assert_eq!(
        refused("?resourceVersionMatch=Exact"),
        invalid("resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided")
    );
    assert_eq!(
        refused("?resourceVersionMatch=Exact&resourceVersion=0"),
        invalid("resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
    );
    assert_eq!(
        refused("?resourceVersionMatch=Roughly&resourceVersion=1"),
        invalid("resourceVersionMatch: Unsupported value: \"Roughly\": supported values: \"Exact\", \"NotOlderThan\", \"\"")
    );
    assert_eq!(refused("?sendInitialEvents=true"), invalid("sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"));
    for path in ["?resourceVersion=99999999", "/a?resourceVersion=99999999"] {
        let reply = api.get(&format!("{CONFIG_MAPS}{path}"));
        assert_eq!(reply.refusal().0, 504, "{}", reply.text());
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert_eq!(reply.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    }
}

#[test]
fn a_large_list_is_whole_and_head_has_no_body() {
    let (_server, api) = quiet();
    for n in 0..40 {
        api.post(CONFIG_MAPS, &config_map(&format!("big{n:02}"), &json!({"text": "x".repeat(10_000)}))).ok();
    }
    let reply = api.get(CONFIG_MAPS);
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
    assert_eq!(names(&reply.ok()).len(), 40);
    let metadata = api.send(&Ask::new("GET", CONFIG_MAPS).header("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")).ok();
    assert_eq!((metadata["kind"].as_str(), names(&metadata).len()), (Some("PartialObjectMetadataList"), 40));
    assert!(metadata["items"][7].get("data").is_none());
    let yaml = api.send(&Ask::new("GET", &format!("{CONFIG_MAPS}/big01")).header("accept", "application/yaml"));
    assert_eq!(yaml.header("content-type"), Some("application/yaml"));
    assert!(yaml.text().contains("name: big01"), "{}", yaml.text());
    let head = api.send(&Ask::new("HEAD", CONFIG_MAPS));
    assert_eq!((head.code, head.header("content-length")), (200, reply.header("content-length")));
}
