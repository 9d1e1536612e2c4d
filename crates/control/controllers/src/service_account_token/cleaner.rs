//! Cleaner: legacy tokens that nobody asked for and nobody uses are marked invalid after a time, and deleted after another.
//!
//! Source: KEP-2799, upstream's legacy-serviceaccount-token-cleaner-controller.
use super::tracking::{self, maps, since, today};
use super::{account_of, names, secrets};
use crate::secret_names::secrets_of;
use controller_kit::{Controller, Deletion, Error, Kit, ObjectKey, Objects, Plan, Preconditions, Runner, async_trait};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Days are looked at once a day.
const INTERVAL: Duration = Duration::from_hours(24);

pub struct LegacyTokenCleaner {
    kit: Kit,
    secrets: Objects<Secret>,
    accounts: Objects<ServiceAccount>,
    maps: Objects<ConfigMap>,
    pods: Objects<Pod>,
    period: Duration,
}

pub struct World {
    pub secret: Arc<Secret>,
    /// Whether its account names it: it was made unasked, by an old control plane.
    pub auto_generated: bool,
    /// Whether a pod needs it.
    pub mounted: bool,
    /// The day since which uses are noted.
    pub tracked_since: Option<Date>,
    pub period: Duration,
    pub now: Timestamp,
    pub today: Date,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    MarkInvalid(Date),
    Delete,
}

pub(crate) fn runner(kit: &Kit, period: Duration) -> Runner<LegacyTokenCleaner> {
    let (secrets, accounts, maps, pods) = (secrets(kit), kit.objects::<ServiceAccount>(), maps(kit), kit.objects::<Pod>());
    let controller =
        LegacyTokenCleaner { kit: kit.clone(), secrets: secrets.clone(), accounts: accounts.clone(), maps: maps.clone(), pods: pods.clone(), period };
    Runner::new(controller).workers(1).needs(&maps).needs(&pods).watch_own(&secrets).watch(&accounts, |change| {
        let named = change.new.iter().flat_map(|account| account.secrets.iter().flatten());
        named.filter_map(|reference| Some(ObjectKey::new(&change.key.cluster, &change.key.namespace, reference.name.as_deref()?))).collect()
    })
}

fn label<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    secret.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

#[async_trait]
impl Controller for LegacyTokenCleaner {
    type World = World;
    type Action = Action;

    fn name(&self) -> &'static str {
        "legacy-serviceaccount-token-cleaner-controller"
    }

    fn observe(&self, key: &ObjectKey) -> Option<World> {
        let secret = self.secrets.get(key)?;
        let auto_generated = account_of(&self.accounts, key, &secret).is_some_and(|account| names(&account, &key.name));
        let needs_it = |pod: &Arc<Pod>| secrets_of(pod).any(|name| *name == *key.name);
        let mounted = auto_generated && self.pods.list(&key.cluster, Some(&key.namespace)).iter().any(needs_it);
        let tracked_since = self.maps.get(&tracking::key(&key.cluster)).and_then(|map| since(&map));
        Some(World { secret, auto_generated, mounted, tracked_since, period: self.period, now: self.kit.now(), today: today(&self.kit) })
    }

    fn reconcile(world: &World) -> Plan<Action> {
        let mut plan = Plan::nothing();
        let World { secret, period, now, today, .. } = world;
        if !world.auto_generated || secret.metadata.deletion_timestamp.is_some() {
            return plan;
        }
        plan.look_again(INTERVAL);
        let Ok(past) = SignedDuration::try_from(*period).map(|period| now.saturating_sub(period).unwrap_or(Timestamp::MIN)) else { return plan };
        // Tracking begins with the day after the one it was begun on, at the latest.
        let tracked = world.tracked_since.and_then(|since| since.tomorrow().ok()?.to_zoned(TimeZone::UTC).ok());
        let tracked_long = tracked.is_some_and(|tracked| tracked.timestamp() <= past);
        let is_old = secret.metadata.creation_timestamp.as_ref().is_some_and(|created| created.0 < past);
        if !tracked_long || !is_old || world.mounted {
            return plan;
        }
        let first_kept = past.to_zoned(TimeZone::UTC).date();
        // A day that can't be read tells nothing of the last use.
        if label(secret, LAST_USED).is_some_and(|used| used.parse::<Date>().map_or(true, |used| used >= first_kept)) {
            return plan;
        }
        match label(secret, INVALID_SINCE).and_then(|since| since.parse::<Date>().ok()) {
            None => plan.push(Action::MarkInvalid(*today)),
            Some(since) if since < first_kept => plan.push(Action::Delete),
            Some(_) => {}
        }
        plan
    }

    async fn act(&self, key: &ObjectKey, action: Action) -> Result<(), Error> {
        let Some(secret) = self.secrets.get(key) else { return Ok(()) };
        let done = match action {
            Action::MarkInvalid(day) => {
                let patch = json!({"metadata": {"labels": {INVALID_SINCE: day.to_string()}}});
                self.secrets.patch(key, "", &patch, &Preconditions::uid_of(&secret.metadata)).await.map(drop)
            }
            // Whatever is used or changed meanwhile stays.
            Action::Delete => self.secrets.delete(key, &Deletion { preconditions: Preconditions::exactly(&secret.metadata), ..Default::default() }).await,
        };
        match done {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller_kit::converges;

    fn world(labels: serde_json::Value) -> World {
        let secret = json!({"metadata": {"name": "s", "creationTimestamp": "2024-01-01T00:00:00Z", "labels": labels}});
        World {
            secret: Arc::new(serde_json::from_value(secret).unwrap()),
            auto_generated: true,
            mounted: false,
            tracked_since: Some("2024-01-01".parse().unwrap()),
            period: Duration::from_hours(24 * 365),
            now: "2026-03-04T05:06:07Z".parse().unwrap(),
            today: "2026-03-04".parse().unwrap(),
        }
    }

    fn decided(world: World) -> Vec<Action> {
        LegacyTokenCleaner::reconcile(&world).actions
    }

    #[test]
    fn a_token_nobody_uses_is_marked_and_a_period_later_deleted() {
        let mark = || vec![Action::MarkInvalid("2026-03-04".parse().unwrap())];
        assert_eq!(decided(world(json!({}))), mark());
        assert_eq!(decided(world(json!({LAST_USED: "2025-03-03"}))), mark());
        assert_eq!(decided(world(json!({INVALID_SINCE: "soon"}))), mark());
        assert_eq!(decided(world(json!({INVALID_SINCE: "2025-03-04"}))), []);
        assert_eq!(decided(world(json!({INVALID_SINCE: "2025-03-03"}))), [Action::Delete]);
    }

    #[test]
    fn what_is_used_asked_for_or_not_known_for_long_stays() {
        for used in ["2025-03-04", "2026-03-04", "lately"] {
            assert_eq!(decided(world(json!({LAST_USED: used, INVALID_SINCE: "2020-01-01"}))), [], "{used}");
        }
        assert_eq!(decided(World { mounted: true, ..world(json!({})) }), []);
        assert_eq!(decided(World { tracked_since: None, ..world(json!({})) }), []);
        assert_eq!(decided(World { tracked_since: Some("2025-03-04".parse().unwrap()), ..world(json!({})) }), []);
        let young = World { now: "2024-06-01T00:00:00Z".parse().unwrap(), ..world(json!({})) };
        assert_eq!(decided(young), []);
        let by_hand = LegacyTokenCleaner::reconcile(&World { auto_generated: false, ..world(json!({})) });
        assert_eq!(by_hand, Plan::nothing(), "nothing to look at again either");
        assert_eq!(LegacyTokenCleaner::reconcile(&world(json!({}))).again_after, Some(INTERVAL));
    }

    #[test]
    fn a_token_is_marked_once_and_deleted_once() {
        let apply = |world: &mut Option<World>, action| match action {
            Action::MarkInvalid(day) => {
                let secret = Arc::make_mut(&mut world.as_mut().unwrap().secret);
                secret.metadata.labels.get_or_insert_default().insert(INVALID_SINCE.into(), day.to_string());
            }
            Action::Delete => *world = None,
        };
        let decide = |world: &Option<World>| world.as_ref().map_or(Plan::nothing(), LegacyTokenCleaner::reconcile);
        let marked = converges(Some(world(json!({}))), 1, decide, apply).unwrap();
        let later = World { now: "2027-03-06T00:00:00Z".parse().unwrap(), today: "2027-03-06".parse().unwrap(), ..marked };
        assert!(converges(Some(later), 1, decide, apply).is_none());
    }
}
