//! Stories of volumes that a driver makes.
use crate::story::{CLAIMS, NODES, Others, PODS, Step, Story, node, story};
use api_client::kube;
use clock::SystemClock;
use controller_kit::CancellationToken;
use csi_controllers::{DriverSettings, snapshots};
use futures::FutureExt;
use http::{Request, header};
use lightningstor::{DRIVER, Driver, FileEngine, LightningStorSettings};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

/// The driver's node. Its name is in the names of what is attached to it.
const STORING: &str = "storing";

/// A driver that outlives the controllers which ask it, on a thread of its own.
struct Served {
    directory: TempDir,
    stop: CancellationToken,
}

impl Served {
    fn start() -> Self {
        let served = Self { directory: TempDir::new().unwrap(), stop: CancellationToken::new() };
        let settings = LightningStorSettings::under(served.directory.path(), STORING);
        let driver = Driver::new(Arc::new(FileEngine::open(settings, Arc::new(SystemClock)).unwrap()), STORING);
        let (socket, stop) = (served.socket(), served.stop.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(lightningstor::serve(driver, &socket, None, stop)).unwrap();
        });
        served
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("driver.sock")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The kinds, classes and the driver's own object, as the server installs them.
async fn prepare(client: kube::Client) {
    api_client::install_definitions(&client, &snapshots::definitions()).await.unwrap();
    let own = lightningstor::kubernetes::objects().into_iter().map(|object| {
        let plural = if object["kind"] == "CSIDriver" { "csidrivers" } else { "storageclasses" };
        (format!("/apis/storage.k8s.io/v1/{plural}"), object)
    });
    let class = ("/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses".to_owned(), snapshots::class("lightningstor", DRIVER));
    for (collection, object) in own.chain([class]) {
        let body = serde_json::to_vec(&object).unwrap();
        let create = || Request::post(&collection).header(header::CONTENT_TYPE, "application/json").body(body.clone()).unwrap();
        // A kind that was just defined is served a moment later.
        while let Err(error) = client.request::<Value>(create()).await {
            assert!(api_client::is_not_found(&error), "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

pub fn a_driver_makes_changes_and_takes_away_a_volume() -> Story {
    const CLAIM: &str = "/api/v1/namespaces/NAMESPACE/persistentvolumeclaims/data";
    const ATTRIBUTES: &str = "/apis/storage.k8s.io/v1/volumeattributesclasses";
    const ATTACHMENTS: &str = "/apis/storage.k8s.io/v1/volumeattachments";
    const SNAPSHOTS: &str = "/apis/snapshot.storage.k8s.io/v1/namespaces/NAMESPACE/volumesnapshots";
    const CONTENTS: &str = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents";
    const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "lightningstor-ssd",
        "resources": {"requests": {"storage": "16Mi"}}}});
    let faster = json!({"metadata": {"name": "NAMESPACE"}, "driverName": DRIVER, "parameters": {"readAheadKiB": "256"}});
    let pod = json!({"metadata": {"name": "user"}, "spec": {"nodeName": STORING, "containers": [{"name": "c", "image": "one"}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let snapshot = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "metadata": {"name": "before"},
        "spec": {"volumeSnapshotClassName": "lightningstor", "source": {"persistentVolumeClaimName": "data"}}});
    let by_hand = json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotContent", "metadata": {"name": "NAMESPACE"},
        "spec": {"driver": "driver.example", "deletionPolicy": "Retain", "source": {"snapshotHandle": "one"},
            "volumeSnapshotRef": {"name": "to-come", "namespace": "NAMESPACE"}}});
    let class = json!({"metadata": {"name": "NAMESPACE"}, "provisioner": DRIVER, "volumeBindingMode": "WaitForFirstConsumer"});
    let told = story(
        &[
            "volumeattributesclass-protection-controller",
            "csi-provisioner",
            "csi-modifier",
            "csi-resizer",
            "csi-snapshotter",
            "csi-attacher",
            "csi-deleter",
            "csi-storage-capacity",
            "snapshot-controller",
            "snapshot-content-controller",
        ],
        &[CLAIMS, PODS, ATTACHMENTS, SNAPSHOTS, CONTENTS, ATTRIBUTES, "/api/v1/persistentvolumes"],
        vec![
            Step::Create(NODES, node(STORING, "True")),
            Step::Create(CLASSES, class),
            Step::Create(CLAIMS, claim),
            // As the scheduler does.
            Step::Patch(CLAIM, json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": STORING}}})),
            Step::Create(ATTRIBUTES, faster),
            Step::Patch(CLAIM, json!({"spec": {"volumeAttributesClassName": "NAMESPACE"}})),
            Step::Patch(CLAIM, json!({"spec": {"resources": {"requests": {"storage": "32Mi"}}}})),
            Step::Create(SNAPSHOTS, snapshot),
            Step::Create(PODS, pod),
            Step::Delete("/apis/snapshot.storage.k8s.io/v1/namespaces/NAMESPACE/volumesnapshots/before", "Background"),
            // One that somebody made for a snapshot to come, of a driver that nobody runs.
            Step::Create(CONTENTS, by_hand),
            Step::Delete("/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents/NAMESPACE", "Background"),
            Step::Patch("/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents/NAMESPACE", json!({"metadata": {"finalizers": null}})),
            // As its node would.
            Step::Delete("/api/v1/namespaces/NAMESPACE/pods/user", "Background&gracePeriodSeconds=0"),
            Step::Delete(CLAIM, "Background"),
            Step::Delete("/apis/storage.k8s.io/v1/volumeattributesclasses/NAMESPACE", "Background"),
            Step::Delete("/apis/storage.k8s.io/v1/storageclasses/NAMESPACE", "Background"),
            Step::Delete("/api/v1/nodes/storing", "Background"),
        ],
    );
    let served = LazyLock::new(Served::start);
    let others = Others {
        prepare: |client| prepare(client).boxed(),
        rosters: Arc::new(move |kit, shutdown| {
            let socket = served.socket();
            async move {
                let settings = DriverSettings { channel: csi::channel(&socket), node_name: STORING.into(), expected: None };
                let driver = csi_controllers::Driver::connect(settings).await;
                vec![csi_controllers::roster(&kit, &driver, shutdown.clone()), snapshots::roster(&kit, shutdown)]
            }
            .boxed()
        }),
    };
    // The driver's own names and times.
    Story { but: &["volumeHandle", "snapshotHandle", "creationTime"], others: Some(others), ..told }
}
