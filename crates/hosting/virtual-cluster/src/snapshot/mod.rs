//! The ClusterSnapshot controller: has the server take a snapshot once, and forget it with its object.
mod reconcile;

use crate::cluster::hosting;
use crate::kinds::{Cluster, MANAGER, Snapshot};
use crate::status::host;
use api_client::Hosting;
use api_meta::ClusterName;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Recorder, Runner, async_trait};
use reconcile::{Action, World};
use serde_json::{Value, json};
use std::sync::Arc;

pub struct Snapshots {
    snapshots: Objects<Snapshot>,
    clusters: Objects<Cluster>,
    hosting: Arc<dyn Hosting>,
    /// The version of this server.
    version: String,
    recorder: Recorder,
    kit: Kit,
}

pub fn runner(kit: &Kit, snapshots: &Objects<Snapshot>, clusters: &Objects<Cluster>, hosting: Arc<dyn Hosting>, version: String) -> Runner<Snapshots> {
    let kit = kit.managed_by(MANAGER);
    let recorder = kit.recorder("cluster-snapshot-controller");
    let of_cluster = snapshots.clone();
    let controller = Snapshots { snapshots: snapshots.clone(), clusters: clusters.clone(), hosting, version, recorder, kit };
    Runner::new(controller).workers(2).watch_own(snapshots).watch(clusters, move |change| {
        let found = of_cluster.list(&host(), Some(&change.key.namespace));
        let of_it = found.iter().filter(|snapshot| *snapshot.spec.cluster_name == *change.key.name);
        of_it.map(|snapshot| ObjectKey::of(&host(), &snapshot.metadata)).collect()
    })
}

#[async_trait]
impl Controller for Snapshots {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "cluster-snapshot-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let snapshot = self.snapshots.get(key)?;
        let cluster = self.clusters.get(&ObjectKey::new(&host(), &key.namespace, &snapshot.spec.cluster_name));
        Some(World { snapshot, cluster })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::Finalizers { finalizers, preconditions } => {
                self.snapshots.patch(key, "", &json!({"metadata": {"finalizers": finalizers}}), &preconditions).await?;
            }
            Action::Status { snapshot, status } => self.tell(key, &snapshot, &status).await?,
            Action::Take { snapshot, id } => {
                let cluster = ClusterName::hosted(&key.namespace, &snapshot.spec.cluster_name).map_err(Error::Invalid)?;
                let facts = self.hosting.snapshot(&cluster, &id).await.map_err(hosting)?;
                let status = reconcile::taken(&facts, &self.version, self.kit.now());
                self.tell(key, &snapshot, &status).await?;
                self.recorder.normal(&key.cluster, &*snapshot, "Taken", format!("The snapshot holds {} objects", facts.objects));
            }
            Action::Forget { id } => self.hosting.forget_snapshot(&id).await.map_err(hosting)?,
        }
        Ok(())
    }

    async fn failed(&self, key: &ObjectKey, world: &World, error: &Error) {
        let snapshot = &world.snapshot;
        let message = error.to_string();
        let Some(status) = reconcile::not_taken(snapshot, matches!(error, Error::Invalid(_)), &message).filter(|_| !error.is_conflict()) else { return };
        self.recorder.warning(&key.cluster, &**snapshot, "NotTaken", &message);
        if let Err(error) = self.tell(key, snapshot, &status).await {
            tracing::debug!(%key, %error, "a snapshot's failure could not be told in its status");
        }
    }
}

impl Snapshots {
    async fn tell(&self, key: &ObjectKey, snapshot: &Snapshot, status: &Value) -> Result<(), Error> {
        self.snapshots.patch(key, "/status", &json!({ "status": status }), &Preconditions::uid_of(&snapshot.metadata)).await.map(drop)
    }
}
