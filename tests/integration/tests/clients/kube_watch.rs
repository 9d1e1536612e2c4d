//! kube's runtime: watchers by list and by stream, and the stores they fill.
use crate::bell::{Bell, bell, define};
use crate::support::{client, soon};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::watcher::{Config, Event, InitialListStrategy, watch_object, watcher};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, reflector};
use kube::{Client, ResourceExt};
use serde_json::json;
use std::pin::pin;
use testkit::Server;

async fn create(maps: &Api<ConfigMap>, name: &str, colour: &str) -> ConfigMap {
    let map = serde_json::from_value(json!({"metadata": {"name": name, "labels": {"colour": colour}}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap()
}

#[tokio::test]
async fn watchers_see_what_is_and_what_comes_by_list_and_by_stream() {
    let server = Server::control_plane();
    let client = client(&server).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    for name in ["a", "b", "c"] {
        create(&maps, name, "red").await;
    }
    create(&maps, "d", "blue").await;
    let config = || Config::default().labels("colour=red");
    let strategies = [config().page_size(2), config().any_semantic(), config().streaming_lists()];
    assert_eq!(strategies[2].initial_list_strategy, InitialListStrategy::StreamingList);
    for config in strategies {
        let case = format!("{config:?}");
        let mut events = pin!(watcher(maps.clone(), config));
        let mut next = async || {
            let event = soon(&format!("something comes of {case}"), events.next()).await.unwrap().unwrap();
            event.to_string()
        };
        let mut first = Vec::new();
        while first.last().is_none_or(|event| event != "InitDone") {
            first.push(next().await);
        }
        assert_eq!(first, ["Init", "InitApply(a)", "InitApply(b)", "InitApply(c)", "InitDone"], "{case}");
        // What stops matching is gone for a watcher, and what begins to match is new.
        maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"colour": "blue"}}}))).await.unwrap();
        assert_eq!(next().await, "Delete(a)", "{case}");
        maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": {"colour": "red"}}}))).await.unwrap();
        assert_eq!(next().await, "Apply(a)", "{case}");
    }
}

#[tokio::test]
async fn a_store_follows_the_server() {
    let server = Server::control_plane();
    let client = client(&server).await;
    define(&client).await;
    let bells: Api<Bell> = Api::default_namespaced(client);
    bells.create(&PostParams::default(), &bell("a", "c", 1)).await.unwrap();
    let (reader, writer) = store::<Bell>();
    // Only what changes the generation is passed on; the store has everything.
    let stream = reflector(writer, watcher(bells.clone(), Config::default().streaming_lists()));
    let mut changed = pin!(stream.default_backoff().touched_objects().predicate_filter(predicates::generation, PredicateConfig::default()));
    assert_eq!(soon("the first comes", changed.try_next()).await.unwrap().unwrap().name_any(), "a");
    let status = json!({"status": {"rung": 1, "observedGeneration": 1}});
    bells.patch_status("a", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    bells.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"strokes": 2}}))).await.unwrap();
    let second = soon("the change comes", changed.try_next()).await.unwrap().unwrap();
    assert_eq!((second.spec.strokes, second.status.unwrap().rung), (2, 1));
    reader.wait_until_ready().await.unwrap();
    assert_eq!(reader.get(&ObjectRef::new("a").within("default")).unwrap().spec.strokes, 2);
    bells.delete("a", &DeleteParams::default()).await.unwrap();
    bells.create(&PostParams::default(), &bell("b", "d", 1)).await.unwrap();
    while soon("the last comes", changed.try_next()).await.unwrap().unwrap().name_any() != "b" {}
    assert_eq!(reader.state().iter().map(|bell| bell.name_any()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn one_object_is_watched_from_nothing_to_nothing() {
    let server = Server::control_plane();
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
    let mut states = pin!(watch_object(maps.clone(), "a"));
    let mut next = async || soon("its state comes", states.try_next()).await.unwrap().unwrap().map(|map| map.data.unwrap_or_default().len());
    assert_eq!(next().await, None);
    create(&maps, "other", "red").await;
    create(&maps, "a", "red").await;
    assert_eq!(next().await, Some(0));
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "1"}}))).await.unwrap();
    assert_eq!(next().await, Some(1));
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_watch_goes_on_where_the_server_ended_it() {
    let server = Server::control_plane();
    let client: Client = client(&server).await;
    let namespaces: Api<Namespace> = Api::all(client);
    let config = Config::default().labels("made=here").timeout(1).streaming_lists();
    let mut events = pin!(watcher(namespaces.clone(), config));
    for expected in ["Init", "InitDone"] {
        assert_eq!(soon("the beginning comes", events.next()).await.unwrap().unwrap().to_string(), expected);
    }
    let (made, mut seen) = (["n1", "n2", "n3"], Vec::new());
    let make = async {
        for name in made {
            // Each comes in another watch than the one before.
            tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
            let namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": {"made": "here"}}})).unwrap();
            namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        }
    };
    let see = async {
        while seen.len() < made.len() {
            match soon("the namespaces come", events.next()).await.unwrap().unwrap() {
                Event::Apply(namespace) if !seen.contains(&namespace.name_any()) => seen.push(namespace.name_any()),
                Event::Apply(_) => {}
                other => panic!("nothing was to be listed anew or deleted: {other}"),
            }
        }
    };
    futures::join!(make, see);
    assert_eq!(seen, made);
}
