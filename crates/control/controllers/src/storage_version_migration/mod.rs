//! StorageVersionMigration: every object of a resource is written once more, and so stored in today's form.
//!
//! Source: KEP 4192, upstream's storage-version-migrator, whose three controllers are one here.
mod objects;
mod reconcile;
#[cfg(test)]
mod tests;

use controller_kit::{Change, Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait, until};
use k8s_openapi::api::storagemigration::v1::{StorageVersionMigration, StorageVersionMigrationStatus};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::GroupResource;
use reconcile::{Action, World, failed, succeeded};
use serde_json::json;
use std::time::Duration;

const NAME: &str = "storage-version-migrator-controller";
/// A resource that nobody serves may have been defined just before.
const SERVED_WITHIN: Duration = Duration::from_mins(1);

pub struct Migrations {
    kit: Kit,
    migrations: Objects<StorageVersionMigration>,
    definitions: Objects<CustomResourceDefinition>,
}

pub fn runner(kit: &Kit) -> Runner<Migrations> {
    let kit = kit.managed_by(NAME);
    let (migrations, definitions) = (kit.objects::<StorageVersionMigration>(), kit.objects::<CustomResourceDefinition>());
    let all = migrations.clone();
    Runner::new(Migrations { kit, migrations: migrations.clone(), definitions: definitions.clone() })
        .watch(&migrations, move |change| {
            // Those of one resource take turns.
            let Some(of) = change.new.as_ref().or(change.old.as_ref()) else { return Vec::new() };
            let others = all.list(&change.key.cluster, None).into_iter().filter(|other| other.spec == of.spec);
            others.map(|other| ObjectKey::of(&change.key.cluster, &other.metadata)).chain(gone(change)).collect()
        })
        .needs(&definitions)
}

fn resource_of(migration: &StorageVersionMigration) -> GroupResource {
    migration.spec.clone().unwrap_or_default().resource
}

fn gone(change: &Change<StorageVersionMigration>) -> Option<ObjectKey> {
    change.new.is_none().then(|| change.key.clone())
}

#[async_trait]
impl Controller for Migrations {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        NAME
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let migration = self.migrations.get(key)?;
        let resource = resource_of(&migration);
        let mut others = self.migrations.list(&key.cluster, None);
        others.retain(|other| other.spec == migration.spec && other.metadata.uid != migration.metadata.uid);
        let definition = self.definitions.get(&ObjectKey::new(&key.cluster, "", &format!("{}.{}", resource.resource, resource.group)));
        Some(World { migration, others, definition, now: self.kit.now() })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        reconcile::reconcile(world)
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        match action {
            Action::TellDefinition { definition, conditions, stored_versions } => {
                let mut patch = json!({"status": {"conditions": conditions}});
                if let Some(versions) = stored_versions {
                    patch["status"]["storedVersions"] = json!(versions);
                }
                let of = ObjectKey::of(&key.cluster, &definition.metadata);
                self.definitions.patch(&of, "/status", &patch, &Preconditions::exactly(&definition.metadata)).await.map(drop)
            }
            Action::SetStatus(status) => self.tell(key, status).await,
            Action::NoteVersion => self.note_version(key).await,
            Action::Migrate { up_to } => self.migrate(key, up_to).await,
        }
    }
}

impl Migrations {
    async fn tell(&self, key: &ObjectKey, status: StorageVersionMigrationStatus) -> Result<(), Error> {
        let Some(migration) = self.migrations.get(key) else { return Ok(()) };
        self.migrations.replace_status(&key.cluster, &StorageVersionMigration { status: Some(status), ..(*migration).clone() }).await.map(drop)
    }

    /// What is written after this needs no migration.
    async fn note_version(&self, key: &ObjectKey) -> Result<(), Error> {
        let Some(migration) = self.migrations.get(key) else { return Ok(()) };
        let status = migration.status.clone().unwrap_or_default();
        let Some(resource) = objects::served(&self.kit, &key.cluster, &resource_of(&migration)).await? else {
            return self.unserved(key, &migration).await;
        };
        let version = objects::version(&self.kit, &key.cluster, &resource).await?;
        self.tell(key, StorageVersionMigrationStatus { resource_version: Some(version), ..status }).await
    }

    async fn unserved(&self, key: &ObjectKey, migration: &StorageVersionMigration) -> Result<(), Error> {
        let made = migration.metadata.creation_timestamp.as_ref().map_or(self.kit.now(), |time| time.0);
        let why = "resource does not exist in discovery";
        match until(made, SERVED_WITHIN, self.kit.now()) {
            Some(_) => Err(Error::NotYet(format!("{why}, requeuing to attempt again"))),
            None => self.tell(key, failed(migration, why.to_owned(), self.kit.now())).await,
        }
    }

    async fn migrate(&self, key: &ObjectKey, up_to: u64) -> Result<(), Error> {
        let Some(migration) = self.migrations.get(key) else { return Ok(()) };
        let Some(resource) = objects::served(&self.kit, &key.cluster, &resource_of(&migration)).await? else {
            return self.unserved(key, &migration).await;
        };
        let status = match objects::rewrite(&self.kit, &key.cluster, &resource, up_to).await {
            Ok(()) => succeeded(&migration, self.kit.now()),
            Err(error) if objects::may_pass(&error) => return Err(error),
            Err(error) => failed(&migration, format!("migration encountered unhandled error: {error}"), self.kit.now()),
        };
        self.tell(key, status).await
    }
}
