//! What a StorageVersionMigration needs next: its turn, the version it starts from, the writing itself, and its end.
use controller_kit::{Plan, whole_seconds};
use jiff::Timestamp;
use k8s_openapi::api::storagemigration::v1::{StorageVersionMigration, StorageVersionMigrationStatus};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, CustomResourceDefinitionCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::sync::Arc;

pub const RUNNING: &str = "Running";
pub const SUCCEEDED: &str = "Succeeded";
pub const FAILED: &str = "Failed";
/// The condition of a definition whose objects are migrated.
pub const STORAGE_MIGRATING: &str = "StorageMigrating";

/// All a decision may see.
pub struct World {
    pub migration: Arc<StorageVersionMigration>,
    /// Others of the same resource.
    pub others: Vec<Arc<StorageVersionMigration>>,
    /// The resource's definition, if it is a custom one.
    pub definition: Option<Arc<CustomResourceDefinition>>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Says on the definition how it goes, and in the end which version alone is stored.
    TellDefinition {
        definition: Arc<CustomResourceDefinition>,
        conditions: Vec<CustomResourceDefinitionCondition>,
        stored_versions: Option<Vec<String>>,
    },
    SetStatus(StorageVersionMigrationStatus),
    /// Finds out what the newest is that may be stored in an old form.
    NoteVersion,
    /// Writes what is as old or older.
    Migrate {
        up_to: u64,
    },
}

pub fn reconcile(world: &World) -> Plan<Action> {
    let World { migration, others, now, .. } = world;
    let mut plan = Plan::nothing();
    match (is_ended(migration), is(migration, RUNNING)) {
        (true, true) => {
            plan.actions.extend(definition_ended(world));
            plan.push(Action::SetStatus(with(migration, condition(migration, RUNNING, "False", "MigrationCompleted", "Migration completed".into(), *now))));
        }
        (true, false) => {}
        (false, false) => {
            let runs = |other: &Arc<StorageVersionMigration>| !is_ended(other) && is(other, RUNNING);
            let is_first = others.iter().filter(|other| !is_ended(other)).all(|other| age(migration) < age(other));
            if is_first && !others.iter().any(runs) {
                plan.actions.extend(definition_begun(world));
                plan.push(Action::SetStatus(with(
                    migration,
                    condition(migration, RUNNING, "True", "MigrationRunning", "The migration is running".into(), *now),
                )));
            }
        }
        (false, true) => {
            let version = migration.status.as_ref().and_then(|status| status.resource_version.as_deref()).unwrap_or_default();
            plan.push(match version.parse() {
                Ok(up_to) => Action::Migrate { up_to },
                Err(_) if version.is_empty() => Action::NoteVersion,
                Err(error) => {
                    let why =
                        format!("migration encountered unhandled error: error comparing resource versions between GC and SVM resource: {version:?}: {error}");
                    Action::SetStatus(failed(migration, why, *now))
                }
            });
        }
    }
    plan
}

/// The status of one that came to its good end.
pub fn succeeded(migration: &StorageVersionMigration, now: Timestamp) -> StorageVersionMigrationStatus {
    with(migration, condition(migration, SUCCEEDED, "True", "StorageVersionMigrationSucceeded", String::new(), now))
}

pub fn failed(migration: &StorageVersionMigration, why: String, now: Timestamp) -> StorageVersionMigrationStatus {
    with(migration, condition(migration, FAILED, "True", "StorageVersionMigrationFailed", why, now))
}

fn is(migration: &StorageVersionMigration, kind: &str) -> bool {
    let conditions = migration.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn is_ended(migration: &StorageVersionMigration) -> bool {
    is(migration, SUCCEEDED) || is(migration, FAILED)
}

/// The oldest comes first.
fn age(migration: &StorageVersionMigration) -> (Option<Timestamp>, Option<&str>) {
    (migration.metadata.creation_timestamp.as_ref().map(|time| time.0), migration.metadata.name.as_deref())
}

fn condition(migration: &StorageVersionMigration, kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: whole_seconds(now),
        observed_generation: migration.metadata.generation,
    }
}

fn with(migration: &StorageVersionMigration, condition: Condition) -> StorageVersionMigrationStatus {
    let mut status = migration.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|other| other.type_ == condition.type_) {
        Some(other) => *other = condition,
        None => conditions.push(condition),
    }
    status
}

fn definition_begun(world: &World) -> Option<Action> {
    let message = format!("Migration {} is running", world.migration.metadata.name.as_deref().unwrap_or_default());
    tell_definition(world, "True", "MigrationRunning", message, None)
}

/// Only the newest version is stored from now on, unless the definition changed while objects were written.
fn definition_ended(world: &World) -> Option<Action> {
    let definition = world.definition.as_ref()?;
    if !is(&world.migration, SUCCEEDED) {
        return tell_definition(world, "False", "MigrationFailed", "The migration has failed".into(), None);
    }
    let unchanged = told(definition).is_some_and(|condition| condition.observed_generation == definition.metadata.generation);
    if !unchanged {
        let message = "The migration has succeeded but the stored versions have not been updated due to a generation mismatch";
        return tell_definition(world, "False", "MigrationSucceeded", message.into(), None);
    }
    let stored = definition.spec.versions.iter().filter(|version| version.storage).map(|version| version.name.clone()).collect();
    tell_definition(world, "False", "MigrationSucceeded", "The migration has succeeded and the stored versions have been updated".into(), Some(stored))
}

fn told(definition: &CustomResourceDefinition) -> Option<&CustomResourceDefinitionCondition> {
    definition.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == STORAGE_MIGRATING)
}

/// `None` where it says so already.
fn tell_definition(world: &World, status: &str, reason: &str, message: String, stored_versions: Option<Vec<String>>) -> Option<Action> {
    let definition = world.definition.as_ref()?;
    let new = CustomResourceDefinitionCondition {
        type_: STORAGE_MIGRATING.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(whole_seconds(world.now)),
        observed_generation: definition.metadata.generation,
    };
    let old = told(definition);
    let same_but_time = |old: &CustomResourceDefinitionCondition| {
        CustomResourceDefinitionCondition { last_transition_time: new.last_transition_time.clone(), ..old.clone() } == new
    };
    let stored = definition.status.as_ref().and_then(|status| status.stored_versions.as_ref());
    if old.is_some_and(same_but_time) && stored_versions.as_ref().is_none_or(|wanted| Some(wanted) == stored) {
        return None;
    }
    let mut conditions = definition.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.retain(|condition| condition.type_ != STORAGE_MIGRATING);
    conditions.push(new);
    Some(Action::TellDefinition { definition: definition.clone(), conditions, stored_versions })
}
