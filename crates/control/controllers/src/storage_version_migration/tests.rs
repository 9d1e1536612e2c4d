//! Tables of what the storage version migrator does in which world.
use super::reconcile::{Action, FAILED, RUNNING, STORAGE_MIGRATING, SUCCEEDED, World, failed, reconcile, succeeded};
use super::*;
use controller_kit::converges;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;

fn migration(name: &str, made: &str, status: Value) -> Arc<StorageVersionMigration> {
    let value = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": format!("2026-01-01T{made}Z")},
        "spec": {"resource": {"group": "example.com", "resource": "widgets"}}, "status": status});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn conditions(kinds: &[(&str, &str)]) -> Value {
    let one =
        |(kind, status): &(&str, &str)| json!({"type": kind, "status": status, "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    json!({"conditions": kinds.iter().map(one).collect::<Vec<_>>()})
}

fn definition(generation: i64) -> Arc<CustomResourceDefinition> {
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage});
    let value = json!({"metadata": {"name": "widgets.example.com", "generation": generation},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"}, "versions": [version("v1", false), version("v2", true)]},
        "status": {"storedVersions": ["v1", "v2"], "conditions": [{"type": "Established", "status": "True"}]}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn world(migration: Arc<StorageVersionMigration>, others: Vec<Arc<StorageVersionMigration>>) -> World {
    World { migration, others, definition: Some(definition(3)), now: "2026-01-01T01:00:00Z".parse::<Timestamp>().unwrap() }
}

/// Does to the world what the API would; the writing of all objects ends as `end` says.
fn apply(world: &mut World, action: Action, end: impl Fn(&StorageVersionMigration, Timestamp) -> StorageVersionMigrationStatus) {
    let now = world.now;
    let migration = Arc::make_mut(&mut world.migration);
    match action {
        Action::TellDefinition { conditions, stored_versions, .. } => {
            let status = Arc::make_mut(world.definition.as_mut().unwrap()).status.as_mut().unwrap();
            status.conditions = Some(conditions);
            status.stored_versions = stored_versions.or(status.stored_versions.take());
        }
        Action::SetStatus(status) => migration.status = Some(status),
        Action::NoteVersion => migration.status.as_mut().unwrap().resource_version = Some("17".into()),
        Action::Migrate { up_to } => {
            assert_eq!(up_to, 17);
            migration.status = Some(end(migration, now));
        }
    }
}

fn told(world: &World) -> Vec<String> {
    let status = world.migration.status.as_ref().unwrap();
    status
        .conditions
        .iter()
        .flatten()
        .map(|condition| format!("{}={} {}: {}", condition.type_, condition.status, condition.reason, condition.message))
        .collect()
}

fn of_definition(world: &World) -> (String, Vec<String>) {
    let status = world.definition.as_ref().unwrap().status.as_ref().unwrap();
    let told = status.conditions.iter().flatten().find(|condition| condition.type_ == STORAGE_MIGRATING).unwrap();
    (format!("{} {}: {}", told.status, told.reason.as_deref().unwrap(), told.message.as_deref().unwrap()), status.stored_versions.clone().unwrap())
}

#[test]
fn a_migration_runs_notes_where_it_starts_writes_and_ends() {
    let end = converges(world(migration("m", "00:00:00", json!({})), vec![]), 4, reconcile, |world, action| apply(world, action, succeeded));
    assert_eq!(told(&end), ["Running=False MigrationCompleted: Migration completed", "Succeeded=True StorageVersionMigrationSucceeded: "]);
    assert_eq!(end.migration.status.as_ref().unwrap().resource_version.as_deref(), Some("17"));
    let said = "False MigrationSucceeded: The migration has succeeded and the stored versions have been updated";
    assert_eq!(of_definition(&end), (said.to_owned(), vec!["v2".to_owned()]));
}

#[test]
fn what_fails_leaves_the_stored_versions_as_they_were() {
    let fail = |migration: &StorageVersionMigration, now| failed(migration, "migration encountered unhandled error: no".into(), now);
    let end = converges(world(migration("m", "00:00:00", json!({})), vec![]), 4, reconcile, |world, action| apply(world, action, fail));
    let ends = "Failed=True StorageVersionMigrationFailed: migration encountered unhandled error: no";
    assert_eq!(told(&end), ["Running=False MigrationCompleted: Migration completed", ends]);
    assert_eq!(of_definition(&end), ("False MigrationFailed: The migration has failed".to_owned(), vec!["v1".to_owned(), "v2".to_owned()]));
}

#[test]
fn a_definition_that_changed_meanwhile_keeps_its_stored_versions() {
    let end = converges(world(migration("m", "00:00:00", json!({})), vec![]), 4, reconcile, |world, action| {
        if matches!(action, Action::Migrate { .. }) {
            Arc::make_mut(world.definition.as_mut().unwrap()).metadata.generation = Some(4);
        }
        apply(world, action, succeeded);
    });
    let said = "False MigrationSucceeded: The migration has succeeded but the stored versions have not been updated due to a generation mismatch";
    assert_eq!(of_definition(&end), (said.to_owned(), vec!["v1".to_owned(), "v2".to_owned()]));
}

#[test]
fn of_one_resource_the_oldest_runs_alone() {
    let own = || migration("b", "00:00:10", json!({}));
    let starts = |others: Vec<Arc<StorageVersionMigration>>| !reconcile(&world(own(), others)).actions.is_empty();
    assert!(starts(vec![]));
    assert!(!starts(vec![migration("a", "00:00:09", json!({}))]), "an older one waits");
    assert!(!starts(vec![migration("a", "00:00:10", json!({}))]), "of the same second, names decide");
    assert!(starts(vec![migration("c", "00:00:10", json!({}))]));
    assert!(starts(vec![migration("a", "00:00:09", conditions(&[(SUCCEEDED, "True")]))]), "what has ended counts no more");
    assert!(!starts(vec![migration("c", "00:00:11", conditions(&[(RUNNING, "True")]))]), "a younger one runs");
    assert!(starts(vec![migration("c", "00:00:11", conditions(&[(RUNNING, "True"), (FAILED, "True")]))]));
}

#[test]
fn built_in_kinds_have_no_definition_to_tell() {
    let built_in = World { definition: None, ..world(migration("m", "00:00:00", json!({})), vec![]) };
    let end = converges(built_in, 4, reconcile, |world, action| apply(world, action, succeeded));
    assert_eq!(told(&end).len(), 2);
}

#[test]
fn a_version_that_is_none_fails() {
    let mut status = conditions(&[(RUNNING, "True")]);
    status["resourceVersion"] = json!("x");
    let actions = reconcile(&world(migration("m", "00:00:00", status), vec![])).actions;
    let [Action::SetStatus(status)] = &actions[..] else { panic!("{actions:?}") };
    assert!(status.conditions.as_ref().unwrap().iter().any(|condition| condition.type_ == FAILED));
}
