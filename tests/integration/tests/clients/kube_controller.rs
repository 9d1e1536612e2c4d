//! kube's `Controller`: an operator with a finalizer, owned objects, a status and events.
use crate::bell::{Bell, bell, define};
use crate::support::{client, soon};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event as RecordedEvent;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::finalizer::{Error as FinalizerError, Event as Finalizer, finalizer};
use kube::runtime::{conditions, wait::await_condition, watcher};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use testkit::Server;

const FINALIZER: &str = "clients.example.com/ringer";

struct Ringer {
    client: Client,
    recorder: Recorder,
}

type RingerError = FinalizerError<kube::Error>;

impl Ringer {
    /// Keeps a ConfigMap with every stroke, and says in the status how many there are.
    async fn ring(&self, bell: Arc<Bell>) -> kube::Result<Action> {
        let (name, namespace) = (bell.name_any(), bell.namespace().unwrap());
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
        let strokes: Vec<&str> = (0..bell.spec.strokes).map(|_| bell.spec.tone.as_str()).collect();
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [bell.controller_owner_ref(&()).unwrap()]},
            "data": {"strokes": strokes.join(" ")},
        });
        maps.patch(&name, &PatchParams::apply("ringer").force(), &Patch::Apply(&map)).await?;
        let bells: Api<Bell> = Api::namespaced(self.client.clone(), &namespace);
        let status = json!({
            "apiVersion": Bell::api_version(&()), "kind": Bell::kind(&()),
            "status": {"rung": bell.spec.strokes, "observedGeneration": bell.metadata.generation},
        });
        bells.patch_status(&name, &PatchParams::apply("ringer").force(), &Patch::Apply(&status)).await?;
        let event =
            Event { type_: EventType::Normal, reason: "Rung".into(), note: Some(format!("{} strokes", strokes.len())), action: "Ring".into(), secondary: None };
        self.recorder.publish(&event, &bell.object_ref(&())).await?;
        Ok(Action::await_change())
    }

    /// Leaves a note, which shows that it was asked before the object went.
    async fn silence(&self, bell: Arc<Bell>) -> kube::Result<Action> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &bell.namespace().unwrap());
        let note = serde_json::from_value(json!({"metadata": {"name": format!("{}-fell-silent", bell.name_any())}})).unwrap();
        maps.create(&PostParams::default(), &note).await?;
        Ok(Action::await_change())
    }
}

async fn reconcile(bell: Arc<Bell>, ringer: Arc<Ringer>) -> Result<Action, RingerError> {
    let bells: Api<Bell> = Api::namespaced(ringer.client.clone(), &bell.namespace().unwrap());
    finalizer(&bells, FINALIZER, bell, async |event| match event {
        Finalizer::Apply(bell) => ringer.ring(bell).await,
        Finalizer::Cleanup(bell) => ringer.silence(bell).await,
    })
    .await
}

fn rung(times: i32) -> impl kube::runtime::wait::Condition<Bell> {
    move |bell: Option<&Bell>| {
        bell.is_some_and(|bell| {
            let observed = bell.status.clone().unwrap_or_default();
            observed.rung == times && Some(observed.observed_generation) == bell.metadata.generation
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_keeps_what_its_objects_ask_for() {
    let server = Server::control_plane();
    let client = client(&server).await;
    define(&client).await;
    let (bells, maps): (Api<Bell>, Api<ConfigMap>) = (Api::default_namespaced(client.clone()), Api::default_namespaced(client.clone()));
    let reporter = Reporter { controller: "ringer".into(), instance: Some("ringer-0".into()) };
    let ringer = Arc::new(Ringer { client: client.clone(), recorder: Recorder::new(client.clone(), reporter) });
    let controller = Controller::new(bells.clone(), watcher::Config::default().streaming_lists())
        .owns(maps.clone(), watcher::Config::default().streaming_lists())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(200)), ringer);
    let operator = tokio::spawn(controller.for_each(|outcome| {
        // A conflict is no defect, but where the test fails it tells why.
        outcome.map_or_else(|error| eprintln!("{error}: {:?}", std::error::Error::source(&error)), drop);
        std::future::ready(())
    }));

    let created = bells.create(&PostParams::default(), &bell("big", "bong", 3)).await.unwrap();
    let uid = created.uid().unwrap();
    let done = soon("it has rung", await_condition(bells.clone(), "big", rung(3))).await.unwrap().unwrap();
    assert_eq!((done.finalizers(), done.metadata.generation), ([FINALIZER.to_owned()].as_slice(), Some(1)));
    let strokes = async |text: &str| {
        let text = text.to_owned();
        let condition = move |map: Option<&ConfigMap>| map.is_some_and(|map| map.data.as_ref().is_some_and(|data| data["strokes"] == text));
        soon("the map says so", await_condition(maps.clone(), "big", condition)).await.unwrap().unwrap()
    };
    let map = strokes("bong bong bong").await;
    assert_eq!(map.owner_references()[0].uid, uid);
    // A change of the object, and one of what it owns.
    bells.patch("big", &PatchParams::default(), &Patch::Merge(json!({"spec": {"strokes": 1}}))).await.unwrap();
    soon("it has rung once", await_condition(bells.clone(), "big", rung(1))).await.unwrap();
    strokes("bong").await;
    maps.patch("big", &PatchParams::default(), &Patch::Merge(json!({"data": {"strokes": "silence"}}))).await.unwrap();
    strokes("bong").await;
    maps.delete("big", &DeleteParams::default()).await.unwrap();
    let another = move |new: Option<&ConfigMap>| new.is_some_and(|new| new.metadata.uid != map.metadata.uid);
    soon("the map is made again", await_condition(maps.clone(), "big", another)).await.unwrap();

    let events: Api<RecordedEvent> = Api::default_namespaced(client);
    let recorded = events.list(&ListParams::default().fields("reason=Rung")).await.unwrap();
    let notes: Vec<_> =
        recorded.iter().map(|event| (event.regarding.as_ref().unwrap().name.as_deref().unwrap(), event.reporting_controller.as_deref())).collect();
    assert!(!notes.is_empty() && notes.iter().all(|note| *note == ("big", Some("ringer"))), "{notes:?}");

    let deleted = bells.delete("big", &DeleteParams::foreground()).await.unwrap();
    let going = deleted.left().expect("it waits for its finalizer");
    assert!(going.metadata.deletion_timestamp.is_some());
    soon("it is gone", await_condition(bells.clone(), "big", conditions::is_deleted(&created.uid().unwrap()))).await.unwrap();
    assert!(maps.get_opt("big-fell-silent").await.unwrap().is_some());
    soon("its map is collected", await_condition(maps, "big", |map: Option<&ConfigMap>| map.is_none())).await.unwrap();
    operator.abort();
}
