//! Protobuf: a client that speaks nothing else, with messages made from its own description of them.
use crate::custom_resources::{WIDGETS, define, widget, widgets};
use crate::support::quiet;
use prost::Message;
use serde_json::json;
use testkit::{Api, Ask, Reply};

#[allow(clippy::all, reason = "generated")]
mod objects {
    include!(concat!(env!("OUT_DIR"), "/objects.rs"));
}

use objects::{ConfigMap, ConfigMapList, ObjectMeta, PartialObjectMetadata, PartialObjectMetadataList, Status, TypeMeta, Unknown, WatchEvent};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

fn enveloped(kind: &str, message: &impl Message) -> Vec<u8> {
    let type_meta = TypeMeta { api_version: "v1".into(), kind: kind.into() };
    let unknown = Unknown { type_meta: Some(type_meta), raw: message.encode_to_vec(), ..Unknown::default() };
    [b"k8s\0".to_vec(), unknown.encode_to_vec()].concat()
}

/// The kind and the message in an envelope.
fn opened<M: Message + Default>(bytes: &[u8]) -> (String, M) {
    let unknown = Unknown::decode(bytes.strip_prefix(b"k8s\0").expect("the envelope begins with its magic")).unwrap();
    (unknown.type_meta.unwrap().kind, M::decode(&unknown.raw[..]).unwrap())
}

fn ask(api: &Api, method: &str, path: &str, accept: &str, body: Vec<u8>) -> Reply {
    let ask = Ask::new(method, path).header("accept", accept);
    api.send(&if body.is_empty() { ask } else { ask.body(PROTOBUF, body) })
}

fn map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: name.into(), labels: [("app".to_owned(), "web".to_owned())].into(), ..ObjectMeta::default() };
    ConfigMap { metadata: Some(metadata), data: [("k".to_owned(), "v".to_owned())].into(), binary_data: [("b".to_owned(), vec![0, 255])].into() }
}

#[test]
fn a_client_may_speak_nothing_but_protobuf() {
    let (_server, api) = quiet();
    let made = ask(&api, "POST", MAPS, PROTOBUF, enveloped("ConfigMap", &map("a")));
    assert_eq!((made.code, made.header("content-type")), (201, Some(PROTOBUF)));
    let (kind, mut made) = opened::<ConfigMap>(&made.body);
    assert_eq!((kind.as_str(), &made.data, &made.binary_data), ("ConfigMap", &map("a").data, &map("a").binary_data));
    let metadata = made.metadata.as_mut().unwrap();
    assert!(!metadata.uid.is_empty() && metadata.creation_timestamp.as_ref().unwrap().seconds > 1_700_000_000);
    let first = metadata.resource_version.clone();

    // What was read can be written back, with the precondition it carries.
    let (_, mut read) = opened::<ConfigMap>(&ask(&api, "GET", &format!("{MAPS}/a"), PROTOBUF, vec![]).body);
    assert_eq!(read, made);
    read.data.insert("more".into(), "x".into());
    let (_, written) = opened::<ConfigMap>(&ask(&api, "PUT", &format!("{MAPS}/a"), PROTOBUF, enveloped("ConfigMap", &read)).body);
    assert_eq!(written.data, read.data);
    let stale = ask(&api, "PUT", &format!("{MAPS}/a"), PROTOBUF, enveloped("ConfigMap", &read));
    let (kind, status) = opened::<Status>(&stale.body);
    assert_eq!((stale.code, kind.as_str(), status.reason.as_str(), status.code), (409, "Status", "Conflict", 409));

    ask(&api, "POST", MAPS, PROTOBUF, enveloped("ConfigMap", &map("b")));
    let (kind, list) = opened::<ConfigMapList>(&ask(&api, "GET", &format!("{MAPS}?labelSelector=app=web"), PROTOBUF, vec![]).body);
    let names: Vec<String> = list.items.iter().map(|item| item.metadata.as_ref().unwrap().name.clone()).collect();
    assert_eq!((kind.as_str(), names), ("ConfigMapList", vec!["a".to_owned(), "b".to_owned()]));
    assert!(!list.metadata.unwrap().resource_version.is_empty());

    let stream = ask(&api, "GET", &format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={first}"), &format!("{PROTOBUF};stream=watch"), vec![]);
    assert_eq!(stream.header("content-type"), Some("application/vnd.kubernetes.protobuf;stream=watch"));
    let mut rest = &stream.body[..];
    let mut seen = Vec::new();
    while let Some((length, after)) = rest.split_at_checked(4) {
        let (event, after) = after.split_at(u32::from_be_bytes(length.try_into().unwrap()) as usize);
        let event = WatchEvent::decode(event).unwrap();
        let (_, object) = opened::<ConfigMap>(&event.object.unwrap().raw);
        seen.push(format!("{} {}", event.r#type, object.metadata.unwrap().name));
        rest = after;
    }
    assert_eq!(seen, ["MODIFIED a", "ADDED b"]);

    let (kind, gone) = opened::<Status>(&ask(&api, "DELETE", &format!("{MAPS}/a"), PROTOBUF, vec![]).body);
    assert_eq!((kind.as_str(), gone.status.as_str()), ("Status", "Success"));
    let missing = ask(&api, "GET", &format!("{MAPS}/a"), PROTOBUF, vec![]);
    assert_eq!((missing.code, opened::<Status>(&missing.body).1.message.as_str()), (404, "configmaps \"a\" not found"));
}

#[test]
fn metadata_alone_is_told_in_protobuf_of_any_kind() {
    let (_server, api) = quiet();
    define(&api, &widgets());
    api.post(WIDGETS, &widget("w", json!({"size": 3, "color": "red"}))).ok();
    ask(&api, "POST", MAPS, PROTOBUF, enveloped("ConfigMap", &map("a")));
    for (path, name) in [(MAPS, "a"), (WIDGETS, "w")] {
        let (kind, one) = opened::<PartialObjectMetadata>(&ask(&api, "GET", &format!("{path}/{name}"), METADATA, vec![]).body);
        assert_eq!((kind.as_str(), one.metadata.unwrap().name.as_str()), ("PartialObjectMetadata", name));
        let (kind, list) = opened::<PartialObjectMetadataList>(&ask(&api, "GET", path, METADATA_LIST, vec![]).body);
        assert!(list.items.iter().any(|item| item.metadata.as_ref().unwrap().name == name), "{path}");
        assert_eq!(kind, "PartialObjectMetadataList");
    }
    // Of custom resources there is no more than that.
    let refused = ask(&api, "GET", &format!("{WIDGETS}/w"), PROTOBUF, vec![]);
    assert_eq!(refused.code, 406);
    let either = ask(&api, "GET", &format!("{WIDGETS}/w"), "application/vnd.kubernetes.protobuf,application/json", vec![]);
    assert_eq!((either.header("content-type"), &either.ok()["spec"]["color"]), (Some("application/json"), &json!("red")));
    // Tables are JSON.
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1";
    assert_eq!(ask(&api, "GET", MAPS, table, vec![]).ok()["kind"], "Table");
}
