//! kube's `Api`: a derived definition, server-side apply, subresources, pages, and the errors it tells apart.
use crate::bell::{Bell, BellStatus, How, bell, define};
use crate::support::client;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, VersionMatch};
use kube::core::Status;
use kube::{Error, ResourceExt};
use serde_json::json;
use std::fmt::Debug;
use testkit::Server;

#[track_caller]
fn refused<T: Debug>(result: kube::Result<T>) -> Status {
    match result {
        Err(Error::Api(status)) => *status,
        other => panic!("not refused, but {other:?}"),
    }
}

#[tokio::test]
async fn a_derived_definition_is_served_as_it_says() {
    let server = Server::control_plane();
    let client = client(&server).await;
    let definition = define(&client).await;
    assert_eq!(definition.status.unwrap().accepted_names.unwrap().short_names, Some(vec!["be".to_owned()]));
    let bells: Api<Bell> = Api::default_namespaced(client.clone());
    let created = bells.create(&PostParams::default(), &bell("a", "c", 3)).await.unwrap();
    assert_eq!((created.metadata.generation, &created.status), (Some(1), &None));
    // What the schema says is enforced and filled in.
    let status = refused(bells.create(&PostParams::default(), &bell("b", "", 13)).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let mut fields: Vec<String> = status.details.unwrap().causes.into_iter().map(|cause| cause.field).collect();
    fields.sort();
    assert_eq!(fields, ["spec.strokes", "spec.tone"]);
    let body = json!({"apiVersion": "clients.example.com/v1", "kind": "Bell", "metadata": {"name": "b"}, "spec": {"tone": "d", "strokes": 1}});
    let request = kube::core::Request::new("/apis/clients.example.com/v1/namespaces/default/bells");
    let defaulted: Bell = client.request(request.create(&PostParams::default(), body.to_string().into_bytes()).unwrap()).await.unwrap();
    assert_eq!(defaulted.spec.how, How::Loudly);
    // A selectable field, the status and the scale subresource.
    let selected = bells.list(&ListParams::default().fields("spec.tone=d")).await.unwrap();
    assert_eq!(selected.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);
    let status = json!({"status": BellStatus { rung: 2, observed_generation: 1 }});
    let rung = bells.patch_status("a", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    assert_eq!((rung.metadata.generation, rung.status.unwrap().rung), (Some(1), 2));
    let scale = bells.patch_scale("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 5}}))).await.unwrap();
    assert_eq!((scale.spec.unwrap().replicas, scale.status.unwrap().replicas), (Some(5), 2));
    let scaled = bells.get("a").await.unwrap();
    assert_eq!((scaled.spec.strokes, scaled.metadata.generation), (5, Some(2)));
    let metadata = bells.get_metadata("a").await.unwrap();
    assert_eq!((metadata.metadata.uid, metadata.types.unwrap().kind), (created.metadata.uid, "PartialObjectMetadata".to_owned()));
}

#[tokio::test]
async fn appliers_own_what_they_applied() {
    let server = Server::control_plane();
    let client = client(&server).await;
    define(&client).await;
    let bells: Api<Bell> = Api::default_namespaced(client);
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    let applied = bells.patch("a", &one, &Patch::Apply(&bell("a", "c", 3))).await.unwrap();
    assert_eq!(applied.managed_fields().iter().map(|entry| entry.manager.as_deref()).collect::<Vec<_>>(), [Some("one")]);
    let again = bells.patch("a", &one, &Patch::Apply(&bell("a", "c", 3))).await.unwrap();
    assert_eq!(again.resource_version(), applied.resource_version());
    let other = bells.patch("a", &two, &Patch::Apply(&bell("a", "c", 4))).await;
    let status = refused(other);
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.strokes");
    let dry = bells.patch("a", &two.clone().force().dry_run(), &Patch::Apply(&bell("a", "c", 4))).await.unwrap();
    assert_eq!((dry.spec.strokes, bells.get("a").await.unwrap().spec.strokes), (4, 3));
    let forced = bells.patch("a", &two.clone().force(), &Patch::Apply(&bell("a", "c", 4))).await.unwrap();
    assert_eq!(forced.spec.strokes, 4);
    // The status has managers of its own.
    let rung = json!({"apiVersion": "clients.example.com/v1", "kind": "Bell", "status": {"rung": 4, "observedGeneration": 2}});
    let rung = bells.patch_status("a", &two, &Patch::Apply(&rung)).await.unwrap();
    let entries = rung.managed_fields().iter().map(|entry| (entry.manager.as_deref().unwrap(), entry.subresource.as_deref().unwrap_or_default()));
    assert_eq!(entries.collect::<Vec<_>>(), [("one", ""), ("two", ""), ("two", "status")]);
    let unknown = json!({"apiVersion": "clients.example.com/v1", "kind": "Bell", "metadata": {"name": "a", "namespace": "default"}, "spec": {"colour": "red"}});
    for parameters in [PatchParams::apply("three"), PatchParams::apply("three").validation_strict(), PatchParams::apply("three").validation_ignore()] {
        let status = refused(bells.patch("a", &parameters, &Patch::Apply(&unknown)).await);
        let expected = "failed to create typed patch object (default/a; clients.example.com/v1, Kind=Bell): .spec.colour: field not declared in schema";
        assert_eq!((status.code, status.message.as_str()), (400, expected));
    }
}

#[tokio::test]
async fn errors_are_told_apart() {
    let server = Server::control_plane();
    let client = client(&server).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    assert!(maps.get_opt("a").await.unwrap().is_none());
    let status = refused(maps.get("a").await);
    assert!(status.is_not_found(), "{status:?}");
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"x": "1"}})).unwrap();
    let created = maps.create(&PostParams::default(), &map).await.unwrap();
    assert!(refused(maps.create(&PostParams::default(), &map).await).is_already_exists());
    let newer = maps.patch("a", &PatchParams::default(), &Patch::Strategic(json!({"data": {"y": "2"}}))).await.unwrap();
    assert!(refused(maps.replace("a", &PostParams::default(), &created).await).is_conflict());
    let stale = Preconditions { uid: None, resource_version: created.resource_version() };
    assert!(refused(maps.delete("a", &DeleteParams::default().preconditions(stale)).await).is_conflict());
    let wrong: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    assert!(refused(wrong.create(&PostParams::default(), &map).await).is_not_found());
    let bells: Api<Bell> = Api::default_namespaced(client.clone());
    let status = refused(bells.list(&ListParams::default()).await);
    assert!(status.is_not_found(), "a kind nobody has defined: {status:?}");
    let version = PatchParams::default();
    let json_patch = |path: &str| serde_json::from_value(json!([{"op": "remove", "path": path}])).unwrap();
    assert!(refused(maps.patch("a", &version, &Patch::Json::<()>(json_patch("/data/z"))).await).is_invalid());
    let without = maps.patch("a", &version, &Patch::Json::<()>(json_patch("/data/y"))).await.unwrap();
    assert_eq!((without.data, newer.data.unwrap().len()), (created.data, 2));
    // An entry is read, changed and written back, whether it was there or not.
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let mut entry = secrets.entry("s").await.unwrap().or_insert(|| serde_json::from_value(json!({"stringData": {"k": "v"}})).unwrap());
    entry.commit(&PostParams::default()).await.unwrap();
    assert_eq!(secrets.get("s").await.unwrap().data.unwrap()["k"].0, b"v");
}

#[tokio::test]
async fn lists_come_in_pages_and_as_they_were() {
    let server = Server::control_plane();
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "kube-public");
    let mut versions = Vec::new();
    for n in 0..7 {
        let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": format!("m{n}"), "labels": {"of": "kube"}}})).unwrap();
        versions.push(maps.create(&PostParams::default(), &map).await.unwrap().resource_version().unwrap());
    }
    let mut parameters = ListParams::default().labels("of=kube").limit(3);
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let page = maps.list(&parameters).await.unwrap();
        pages += 1;
        seen.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 7));
    let then = ListParams::default().labels("of=kube").at(&versions[1]).matching(VersionMatch::Exact);
    assert_eq!(maps.list(&then).await.unwrap().items.len(), 2);
    let deleted = maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("of=kube")).await.unwrap();
    assert!(deleted.left().is_some_and(|list| list.items.len() == 7));
}
