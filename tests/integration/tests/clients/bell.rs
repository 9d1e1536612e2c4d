//! Bell: a custom resource of the kube tests, its definition derived from these types.
use crate::support::soon;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{conditions, wait::await_condition};
use kube::{Client, CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[kube(group = "clients.example.com", version = "v1", kind = "Bell", namespaced, status = "BellStatus", derive = "PartialEq", shortname = "be")]
#[kube(scale(spec_replicas_path = ".spec.strokes", status_replicas_path = ".status.rung"))]
#[kube(printcolumn(name = "Tone", type_ = "string", json_path = ".spec.tone"), selectable = ".spec.tone")]
#[serde(rename_all = "camelCase")]
pub struct BellSpec {
    #[schemars(length(min = 1))]
    pub tone: String,
    #[schemars(range(min = 0, max = 12))]
    pub strokes: i32,
    #[serde(default = "loudly")]
    pub how: How,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum How {
    Loudly,
    Softly,
}

fn loudly() -> How {
    How::Loudly
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BellStatus {
    pub rung: i32,
    pub observed_generation: i64,
}

pub fn bell(name: &str, tone: &str, strokes: i32) -> Bell {
    Bell::new(name, BellSpec { tone: tone.into(), strokes, how: How::Softly })
}

/// Applies the definition and waits until it is served.
pub async fn define(client: &Client) -> CustomResourceDefinition {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = Bell::crd();
    definitions.patch(Bell::crd_name(), &PatchParams::apply("bells").force(), &Patch::Apply(&definition)).await.unwrap();
    let established = await_condition(definitions, Bell::crd_name(), conditions::is_crd_established());
    soon("the definition is established", established).await.unwrap().unwrap()
}
