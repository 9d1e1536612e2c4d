//! Patches: what each form does to lists and maps, and to what is patched.
use crate::support::{CONFIG_MAPS, config_map, deployment, pod, quiet};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/default/pods";

#[test]
fn strategic_patches_know_lists_by_their_keys() {
    let (_server, api) = quiet();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let mut web = deployment("web");
    web["spec"]["template"]["spec"]["containers"] = json!([
        {"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}], "ports": [{"containerPort": 80}]},
        {"name": "b", "image": "b:1"},
    ]);
    api.post(deployments, &web).ok();
    let patched = |containers: Value| {
        let patch = json!({"spec": {"template": {"spec": containers}}});
        let spec = api.patch("strategic-merge", &format!("{deployments}/web"), &patch).ok()["spec"]["template"]["spec"].take();
        let short = |c: &Value| format!("{}={} {}", c["name"].as_str().unwrap(), c["image"].as_str().unwrap(), c["env"].as_array().map_or(0, Vec::len));
        spec["containers"].as_array().unwrap().iter().map(short).collect::<Vec<_>>()
    };
    assert_eq!(patched(json!({"containers": [{"name": "b", "image": "b:2"}]})), ["a=a:1 1", "b=b:2 0"]);
    assert_eq!(patched(json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]})), ["a=a:1 2", "b=b:2 0"]);
    assert_eq!(patched(json!({"containers": [{"name": "a", "env": [{"name": "X", "$patch": "delete"}]}]})), ["a=a:1 1", "b=b:2 0"]);
    assert_eq!(
        patched(json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "c", "image": "c:1"}]})),
        ["c=c:1 0", "b=b:2 0", "a=a:1 1"]
    );
    assert_eq!(patched(json!({"containers": [{"$patch": "replace"}, {"name": "d", "image": "d:1"}]})), ["d=d:1 0"]);
    // A merge patch replaces the list and leaves the rest.
    let merged =
        api.patch("merge", &format!("{deployments}/web"), &json!({"spec": {"template": {"spec": {"containers": [{"name": "e", "image": "e:1"}]}}}})).ok();
    assert_eq!(merged["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(merged["spec"]["replicas"], 2);
}

#[test]
fn json_patches_apply_all_or_nothing() {
    let (_server, api) = quiet();
    let one = format!("{CONFIG_MAPS}/a");
    api.post(CONFIG_MAPS, &config_map("a", &json!({"k": "1", "b.c": "2"}))).ok();
    let patch = json!([
        {"op": "test", "path": "/data/k", "value": "1"},
        {"op": "replace", "path": "/data/k", "value": "2"},
        {"op": "move", "from": "/data/b.c", "path": "/data/moved"},
        {"op": "copy", "from": "/data/k", "path": "/data/copy"},
        {"op": "add", "path": "/metadata/labels", "value": {"x/y": "y"}},
        {"op": "replace", "path": "/metadata/labels/x~1y", "value": "z"},
    ]);
    let patched = api.patch("json", &one, &patch).ok();
    assert_eq!(patched["data"], json!({"k": "2", "moved": "2", "copy": "2"}));
    assert_eq!(patched["metadata"]["labels"]["x/y"], "z");
    let half = json!([{"op": "replace", "path": "/data/k", "value": "3"}, {"op": "test", "path": "/data/copy", "value": "no"}]);
    assert_eq!(api.patch("json", &one, &half).refusal().0, 422);
    assert_eq!(api.get(&one).ok(), patched);
    // What is not there is null to a test, as clients rely on that add a finalizer.
    let add = json!([{"op": "test", "path": "/metadata/finalizers", "value": null}, {"op": "add", "path": "/metadata/finalizers", "value": ["x/y"]}]);
    let patched = api.patch("json", &one, &add).ok();
    assert_eq!(patched["metadata"]["finalizers"], json!(["x/y"]));
    assert_eq!(api.patch("json", &one, &add).refusal().0, 422);
    // A resourceVersion in a patch is a condition.
    let version = patched["metadata"]["resourceVersion"].clone();
    let guarded = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": version}, {"op": "add", "path": "/data/k", "value": "4"}]);
    api.patch("json", &one, &guarded).ok();
    assert_eq!(api.patch("json", &one, &guarded).refusal().0, 422);
    assert_eq!(api.patch("merge", &one, &json!({"metadata": {"resourceVersion": version}, "data": {"k": "5"}})).refusal().1, "Conflict");
    assert_eq!(api.patch("merge", &format!("{CONFIG_MAPS}/none"), &json!({})).refusal().0, 404);
}

#[test]
fn no_patch_makes_an_object_that_can_not_be_read() {
    let (_server, api) = quiet();
    let revisions = "/apis/apps/v1/namespaces/default/controllerrevisions";
    api.post(revisions, &json!({"metadata": {"name": "r"}, "data": {"a": {}}, "revision": 1})).ok();
    let nested = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({ "a": inner }));
    let path = format!("{revisions}/r");
    for (kind, patch) in [
        ("json", json!([{"op": "replace", "path": "/data", "value": nested(100)}])),
        ("merge", json!({"data": nested(100)})),
        ("strategic-merge", json!({"data": nested(100)})),
    ] {
        let (code, _, message) = api.patch(kind, &path, &patch).refusal();
        assert!(code == 422 && message.contains("nested too deeply"), "{kind}: {code} {message}");
    }
    let apply = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "s"}, "revision": 1, "data": nested(80)});
    assert_eq!(api.patch("apply", &format!("{revisions}/s?fieldManager=m"), &apply).refusal().0, 400);
    // As deep as may be is stored, listed, watched and patched again.
    let deep = api.post(revisions, &json!({"metadata": {"name": "deep"}, "data": nested(97), "revision": 1})).ok();
    assert_eq!(api.get(revisions).ok()["items"][0], deep);
    assert_eq!(api.watch(&format!("{revisions}?watch=1")).next_short(), "ADDED deep");
    api.patch("merge", &format!("{revisions}/deep"), &json!({"revision": 2})).ok();
    api.delete(&format!("{revisions}/deep")).ok();
}

#[test]
fn a_pod_keeps_what_can_not_be_changed() {
    let (_server, api) = quiet();
    api.post(PODS, &pod("p")).ok();
    let reply = api.patch("strategic-merge", &format!("{PODS}/p"), &json!({"spec": {"containers": [{"name": "c", "image": "other"}]}}));
    assert_eq!(reply.ok()["spec"]["containers"][0]["image"], "other");
    let (code, _, message) = api.patch("merge", &format!("{PODS}/p"), &json!({"spec": {"hostname": "h"}})).refusal();
    assert_eq!(code, 422);
    assert!(message.starts_with("Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields other than"), "{message}");
}
