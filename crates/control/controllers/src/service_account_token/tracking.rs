//! Tracking: since when the use of legacy tokens is noted, in a ConfigMap of each cluster that has any, and of the host.
//!
//! Source: KEP-2799; upstream's API server keeps the same ConfigMap.
use super::secrets;
use api_meta::ClusterName;
use controller_kit::{Controller, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::sync::Arc;

pub const NAMESPACE: &str = "kube-system";
pub const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
const SINCE: &str = "since";

pub struct TokenTracking {
    kit: Kit,
    maps: Objects<ConfigMap>,
    secrets: Objects<Secret>,
}

pub struct World {
    pub map: Option<Arc<ConfigMap>>,
    pub wanted: bool,
    pub today: Date,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Date),
    /// What it says can't be so.
    PutRight(Date),
}

pub fn maps(kit: &Kit) -> Objects<ConfigMap> {
    kit.selected::<ConfigMap>(&format!("metadata.name={NAME}"))
}

/// The day, in UTC as all marks are.
pub fn today(kit: &Kit) -> Date {
    kit.now().to_zoned(TimeZone::UTC).date()
}

/// The day since which uses are noted.
pub fn since(map: &ConfigMap) -> Option<Date> {
    map.data.as_ref()?.get(SINCE)?.parse().ok()
}

pub fn key(cluster: &ClusterName) -> ObjectKey {
    ObjectKey::new(cluster, NAMESPACE, NAME)
}

pub fn runner(kit: &Kit) -> Runner<TokenTracking> {
    let (maps, secrets) = (maps(kit), secrets(kit));
    let runner = Runner::new(TokenTracking { kit: kit.clone(), maps: maps.clone(), secrets: secrets.clone() })
        .workers(1)
        .watch(&maps, |change| if change.key == key(&change.key.cluster) { vec![change.key.clone()] } else { Vec::new() })
        .watch(&secrets, |change| vec![key(&change.key.cluster)]);
    runner.queue().add(key(&ClusterName::root()));
    runner
}

#[async_trait]
impl Controller for TokenTracking {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "legacy-service-account-token-tracking-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        // A cluster without such tokens has nothing to track, and should cost nothing.
        let wanted = key.cluster.is_root() || !self.secrets.list(&key.cluster, None).is_empty();
        Some(World { map: self.maps.get(key), wanted, today: today(&self.kit) })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        match &world.map {
            None if world.wanted => vec![Action::Create(world.today)].into(),
            // A day to come would keep tokens for longer than anybody asked for.
            Some(map) if since(map).is_none_or(|since| since > world.today) => vec![Action::PutRight(world.today)].into(),
            _ => Plan::nothing(),
        }
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let done = match action {
            Action::Create(day) => {
                let metadata = ObjectMeta { name: Some(NAME.into()), namespace: Some(NAMESPACE.into()), ..Default::default() };
                let map = ConfigMap { metadata, data: Some([(SINCE.to_owned(), day.to_string())].into()), ..Default::default() };
                self.maps.create(&key.cluster, &map).await
            }
            Action::PutRight(day) => {
                let Some(map) = self.maps.get(key) else { return Ok(()) };
                self.maps.patch(key, "", &json!({"data": {SINCE: day.to_string()}}), &Preconditions::exactly(&map.metadata)).await
            }
        };
        match done {
            Err(error) if !error.is_already_exists() && !error.is_namespace_terminating() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    #[test]
    fn a_day_is_set_once_and_put_right_if_it_can_not_be() {
        let decided = |since: Option<&str>, wanted| {
            let map = since.map(|since| Arc::new(serde_json::from_value(json!({"data": {SINCE: since}})).unwrap()));
            TokenTracking::reconcile(&World { map, wanted, today: "2026-03-04".parse().unwrap() }).actions
        };
        let day = || "2026-03-04".parse().unwrap();
        assert_eq!(decided(None, false), []);
        assert_eq!(decided(None, true), [Action::Create(day())]);
        assert_eq!(decided(Some("2026-03-04"), true), []);
        assert_eq!(decided(Some("2020-01-01"), false), []);
        assert_eq!(decided(Some("2026-03-05"), true), [Action::PutRight(day())]);
        assert_eq!(decided(Some("lately"), true), [Action::PutRight(day())]);
    }

    #[test]
    fn a_day_is_written_once() {
        for since in [None, Some("lately")] {
            let map = since.map(|since| Arc::new(serde_json::from_value(json!({"data": {SINCE: since}})).unwrap()));
            let world = World { map, wanted: true, today: "2026-03-04".parse().unwrap() };
            let end = converges(world, 1, TokenTracking::reconcile, |world, action| {
                let (Action::Create(day) | Action::PutRight(day)) = action;
                world.map = Some(Arc::new(serde_json::from_value(json!({"data": {SINCE: day.to_string()}})).unwrap()));
            });
            assert_eq!(self::since(&end.map.unwrap()), Some("2026-03-04".parse().unwrap()));
        }
    }
}
