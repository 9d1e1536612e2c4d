//! Fairness: seats for requests, given at once, after a wait in a queue, or not at all.
use crate::classify::Flow;
use crate::configuration::Configuration;
use crate::queues::{Place, Queues};
use crate::seats::{Seats, free, share_out};
use crate::work::{Cost, Work};
use api_auth::Attributes;
use clock::Clock;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Sorts requests and seats them.
pub struct Fairness {
    clock: Arc<dyn Clock>,
    /// Of all limited levels together.
    seats: u32,
    configuration: RwLock<Arc<Configuration>>,
    hall: Mutex<Hall>,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its level has no queues, and no seat is free.
    NoSeat,
    QueueFull,
    /// It has waited as long as it may.
    TimeOut,
}

impl Refusal {
    /// The `reason` of `apiserver_flowcontrol_rejected_requests_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoSeat => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

/// What is known of a level at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    pub level: String,
    /// Its share of all seats.
    pub nominal: u32,
    /// Requests that run, and the seats that they and those that have just ended take.
    pub executing: u32,
    pub seats: u32,
    pub waiting: usize,
}

#[derive(Default)]
struct Hall {
    levels: BTreeMap<String, Level>,
    waiting: BTreeMap<u64, oneshot::Sender<Grant>>,
    next_turn: u64,
}

struct Level {
    seats: Seats,
    executing: u32,
    queues: Option<Queues>,
    /// Told apart from a level of the same name and another shape.
    generation: u64,
}

/// A seat that was given.
#[derive(Clone, Copy, Debug)]
struct Grant {
    /// `None`: it did not wait in a queue.
    place: Option<Place>,
    work: Work,
    generation: u64,
    since: Instant,
}

/// A seat, given back when dropped.
pub struct Seat {
    fairness: Arc<Fairness>,
    level: String,
    grant: Grant,
}

enum Asked {
    Given(Grant),
    Waits { turn: u64, place: Place, called: oneshot::Receiver<Grant> },
}

impl Fairness {
    /// `seats`: how many requests are served at the same time, of all limited levels together.
    pub fn new(seats: u32, clock: Arc<dyn Clock>) -> Arc<Self> {
        let fairness = Self { clock, seats, configuration: RwLock::default(), hall: Mutex::default() };
        fairness.configure(Configuration::of([], []));
        Arc::new(fairness)
    }

    /// Goes by another configuration from here on. Who waits goes on waiting where its level still has the same queues, and is seated where not.
    pub fn configure(&self, configuration: Configuration) {
        let now = self.clock.instant();
        let mut hall = self.hall.lock();
        let mut old = std::mem::take(&mut hall.levels);
        for (name, seats) in share_out(&configuration, self.seats) {
            let shape = configuration.levels.get(&name).and_then(|level| level.limited.as_ref()?.queuing());
            let mut level = match old.remove(&name) {
                Some(level) if level.queues.as_ref().map(Queues::shape) == shape.as_ref() => level,
                other => {
                    let queues = shape.map(|shape| Queues::new(shape, seats.nominal, now));
                    let (used, executing) = other.as_ref().map_or((0, 0), |level| (level.seats.used, level.executing));
                    let generation = other.as_ref().map_or(0, |level| level.generation + 1);
                    let mut level = Level { seats: Seats { used, ..seats }, executing, queues, generation };
                    if let Some(mut other) = other {
                        hall.seat_all(&mut other, &mut level, now);
                    }
                    level
                }
            };
            level.seats = Seats { used: level.seats.used, ..seats };
            if let Some(queues) = &mut level.queues {
                queues.set_seats(seats.nominal, now);
            }
            hall.levels.insert(name, level);
        }
        // Those of levels that are gone wait for nobody any more.
        for mut level in old.into_values() {
            let mut gone = Level { seats: Seats::default(), executing: 0, queues: None, generation: level.generation + 1 };
            hall.seat_all(&mut level, &mut gone, now);
        }
        hall.call(now);
        *self.configuration.write() = Arc::new(configuration);
    }

    /// Which flow a request is part of.
    pub fn classify(&self, request: &Attributes) -> Option<Flow> {
        let configuration = self.configuration.read().clone();
        configuration.classify(request)
    }

    /// A seat, or as many as it costs, for a request of this flow; it waits no longer than `patience`. `None`: its level is exempt, it needs none.
    pub async fn enter(self: &Arc<Self>, flow: &Flow, cost: Cost, patience: Duration) -> Result<Option<Seat>, Refusal> {
        let (turn, place, called) = match self.hall.lock().ask(flow, cost, self.clock.instant())? {
            None => return Ok(None),
            Some(Asked::Given(grant)) => return Ok(Some(self.seat(flow, grant))),
            Some(Asked::Waits { turn, place, called }) => (turn, place, called),
        };
        let mut waiter = Waiter { fairness: self, level: flow.level(), turn, place, called };
        match tokio::time::timeout(patience, &mut waiter.called).await {
            Ok(Ok(grant)) => Ok(Some(self.seat(flow, grant))),
            Ok(Err(_)) => Err(Refusal::TimeOut),
            Err(_) => waiter.called.try_recv().map_or(Err(Refusal::TimeOut), |grant| Ok(Some(self.seat(flow, grant)))),
        }
    }

    fn seat(self: &Arc<Self>, flow: &Flow, grant: Grant) -> Seat {
        Seat { fairness: self.clone(), level: flow.level().to_owned(), grant }
    }

    pub fn figures(&self) -> Vec<Figures> {
        let hall = self.hall.lock();
        let figures = hall.levels.iter().map(|(name, level)| Figures {
            level: name.clone(),
            nominal: level.seats.nominal,
            executing: level.executing,
            seats: level.seats.used,
            waiting: level.queues.as_ref().map_or(0, Queues::waiting),
        });
        figures.collect()
    }
}

impl Hall {
    fn free(&self, name: &str) -> u32 {
        let Some(level) = self.levels.get(name) else { return u32::MAX };
        free(&level.seats, self.levels.iter().filter(|(of, _)| *of != name).map(|(_, level)| &level.seats))
    }

    fn ask(&mut self, flow: &Flow, cost: Cost, now: Instant) -> Result<Option<Asked>, Refusal> {
        let Some(work) = self.levels.get(flow.level()).map(|level| cost.work(level.seats.nominal)) else { return Ok(None) };
        let free = self.free(flow.level());
        let Some(level) = self.levels.get_mut(flow.level()) else { return Ok(None) };
        let Some(queues) = level.queues.as_mut() else {
            return if work.seats <= free { Ok(Some(Asked::Given(level.take(None, work, now)))) } else { Err(Refusal::NoSeat) };
        };
        let turn = self.next_turn;
        let alone = queues.waiting() == 0;
        let place = queues.join(flow.hash(), turn, work, now).ok_or(Refusal::QueueFull)?;
        self.next_turn += 1;
        if alone && let Some((_, work, place)) = queues.next(free, now) {
            return Ok(Some(Asked::Given(level.take(Some(place), work, now))));
        }
        let (call, mut called) = oneshot::channel();
        self.waiting.insert(turn, call);
        // Those who wait may have had their part, and this one none.
        self.call_from(flow.level(), now);
        Ok(Some(called.try_recv().map_or(Asked::Waits { turn, place, called }, Asked::Given)))
    }

    /// Calls those for whom there are seats.
    fn call(&mut self, now: Instant) {
        if self.waiting.is_empty() {
            return;
        }
        let names: Vec<String> =
            self.levels.iter().filter(|(_, level)| level.queues.as_ref().is_some_and(|queues| queues.waiting() > 0)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.call_from(&name, now);
        }
    }

    /// Calls those of one level for whom there are seats.
    fn call_from(&mut self, name: &str, now: Instant) {
        loop {
            let free = self.free(name);
            let Some(level) = self.levels.get_mut(name) else { return };
            let Some((turn, work, place)) = level.queues.as_mut().and_then(|queues| queues.next(free, now)) else { return };
            let grant = level.take(Some(place), work, now);
            // Who went away in this moment gives its seat back.
            if self.waiting.remove(&turn).is_none_or(|call| call.send(grant).is_err()) {
                self.answered(name);
                self.end(name, grant, now);
            }
        }
    }

    /// A request has been answered. It may keep its seats for a while.
    fn answered(&mut self, name: &str) {
        if let Some(level) = self.levels.get_mut(name) {
            level.executing = level.executing.saturating_sub(1);
        }
    }

    /// The seats of a request are free again.
    fn end(&mut self, name: &str, grant: Grant, now: Instant) {
        let Some(level) = self.levels.get_mut(name) else { return };
        level.seats.used = level.seats.used.saturating_sub(grant.work.seats);
        if let (Some(queues), Some(place)) = (level.queues.as_mut().filter(|_| grant.generation == level.generation), grant.place) {
            // What came afterwards is counted by the work itself.
            let took = now.saturating_duration_since(grant.since).saturating_sub(grant.work.afterwards);
            queues.end(place, grant.work, took.as_secs_f64(), now);
        }
    }

    /// Everybody who waits at `old` gets a seat at `new`.
    fn seat_all(&mut self, old: &mut Level, new: &mut Level, now: Instant) {
        let Some(queues) = old.queues.as_mut() else { return };
        while let Some((turn, work, _)) = queues.next(u32::MAX, now) {
            let grant = Grant { place: None, work, generation: new.generation, since: now };
            if self.waiting.remove(&turn).is_some_and(|call| call.send(grant).is_ok()) {
                new.seats.used += work.seats;
                new.executing += 1;
            }
        }
    }
}

impl Level {
    /// Takes the seats of a request that begins.
    fn take(&mut self, place: Option<Place>, work: Work, now: Instant) -> Grant {
        self.seats.used += work.seats;
        self.executing += 1;
        Grant { place, work, generation: self.generation, since: now }
    }
}

impl Fairness {
    /// Gives the seats of an answered request back, and calls whom there are seats for now.
    fn give_back(&self, level: &str, grant: Grant) {
        let now = self.clock.instant();
        let mut hall = self.hall.lock();
        hall.end(level, grant, now);
        hall.call(now);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.fairness.hall.lock().answered(&self.level);
        let afterwards = self.grant.work.afterwards;
        let runtime = (!afterwards.is_zero()).then(tokio::runtime::Handle::try_current).and_then(Result::ok);
        let Some(runtime) = runtime else { return self.fairness.give_back(&self.level, self.grant) };
        // Its watchers are still being told.
        let (fairness, level, grant) = (self.fairness.clone(), std::mem::take(&mut self.level), self.grant);
        runtime.spawn(async move {
            tokio::time::sleep(afterwards).await;
            fairness.give_back(&level, grant);
        });
    }
}

/// Takes its place out of the queue when it goes away, and gives a seat back that came too late.
struct Waiter<'f> {
    fairness: &'f Arc<Fairness>,
    level: &'f str,
    turn: u64,
    place: Place,
    called: oneshot::Receiver<Grant>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let now = self.fairness.clock.instant();
        let mut hall = self.fairness.hall.lock();
        if hall.waiting.remove(&self.turn).is_some() {
            if let Some(queues) = hall.levels.get_mut(self.level).and_then(|level| level.queues.as_mut()) {
                queues.leave(self.turn, self.place, now);
            }
            // It may have been what others waited behind.
            hall.call(now);
        } else if let Ok(grant) = self.called.try_recv() {
            hall.answered(self.level);
            hall.end(self.level, grant, now);
            hall.call(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_auth::User;
    use api_meta::ClusterName;
    use clock::SystemClock;
    use serde_json::{Value, json};

    fn level(name: &str, queues: Option<(usize, usize)>) -> Value {
        let response = match queues {
            None => json!({ "type": "Reject" }),
            Some((queues, length)) => json!({ "type": "Queue", "queuing": { "queues": queues, "handSize": 1, "queueLengthLimit": length } }),
        };
        json!({ "metadata": { "name": name }, "spec": { "type": "Limited", "limited": { "nominalConcurrencyShares": 10,
            "borrowingLimitPercent": 0, "limitResponse": response } } })
    }

    fn schema(name: &str, level: &str) -> Value {
        json!({ "metadata": { "name": name }, "spec": { "priorityLevelConfiguration": { "name": level }, "distinguisherMethod": { "type": "ByUser" },
            "rules": [{ "subjects": [{ "kind": "Group", "group": { "name": name } }], "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }] }] } })
    }

    fn fairness(seats: u32) -> Arc<Fairness> {
        let fairness = Fairness::new(seats, Arc::new(SystemClock));
        let levels = [level("queued", Some((8, 2))), level("refused", None), level("catch-all", None)];
        fairness.configure(Configuration::of(&[schema("queued", "queued"), schema("refused", "refused")], &levels));
        fairness
    }

    fn flow(fairness: &Fairness, user: &str, group: &str) -> Flow {
        let (root, user) = (ClusterName::root(), User::authenticated(user, [group.to_owned()]));
        let request = Attributes {
            cluster: &root,
            user: &user,
            verb: "get",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "/version",
        };
        fairness.classify(&request).unwrap()
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_level_without_queues_refuses_what_it_has_no_seat_for() {
        let fairness = fairness(6);
        let flow = flow(&fairness, "a", "refused");
        let held = [fairness.enter(&flow, Cost::Usual, LONG).await.unwrap(), fairness.enter(&flow, Cost::Usual, LONG).await.unwrap()];
        assert_eq!(fairness.enter(&flow, Cost::Usual, LONG).await.err(), Some(Refusal::NoSeat));
        drop(held);
        assert!(fairness.enter(&flow, Cost::Usual, LONG).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_called_or_told_that_it_has_waited_long_enough() {
        let fairness = fairness(3);
        let (a, masters) = (flow(&fairness, "a", "queued"), flow(&fairness, "a", api_auth::MASTERS));
        let held = fairness.enter(&a, Cost::Usual, LONG).await.unwrap();
        assert!(held.is_some());
        assert!(fairness.enter(&masters, Cost::Usual, LONG).await.unwrap().is_none(), "the exempt wait for nobody");
        assert_eq!(fairness.enter(&a, Cost::Usual, Duration::from_secs(1)).await.err(), Some(Refusal::TimeOut));
        let (waiting, of) = (fairness.clone(), a.clone());
        let second = tokio::spawn(async move { waiting.enter(&of, Cost::Usual, LONG).await.map(|seat| seat.is_some()) });
        let (waiting, of) = (fairness.clone(), a.clone());
        let third = tokio::spawn(async move { waiting.enter(&of, Cost::Usual, LONG).await.map(|seat| seat.is_some()) });
        while fairness.figures().iter().map(|level| level.waiting).sum::<usize>() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fairness.enter(&a, Cost::Usual, LONG).await.err(), Some(Refusal::QueueFull));
        third.abort();
        assert!(third.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(fairness.figures().iter().map(|level| level.waiting).sum::<usize>(), 1, "who goes away leaves its queue");
        drop(held);
        assert_eq!(second.await.unwrap(), Ok(true));
        assert!(fairness.figures().iter().all(|level| level.executing == 0 && level.waiting == 0));
    }

    #[tokio::test]
    async fn who_waits_outlives_a_change_of_the_configuration() {
        let fairness = fairness(3);
        let a = flow(&fairness, "a", "queued");
        let held = fairness.enter(&a, Cost::Usual, LONG).await.unwrap();
        let (waiting, of) = (fairness.clone(), a.clone());
        let second = tokio::spawn(async move { waiting.enter(&of, Cost::Usual, LONG).await.map(|seat| seat.is_some()) });
        while fairness.figures().iter().map(|level| level.waiting).sum::<usize>() < 1 {
            tokio::task::yield_now().await;
        }
        fairness.configure(Configuration::of([], []));
        assert_eq!(second.await.unwrap(), Ok(true), "its level is gone: nobody is left to wait for");
        drop(held);
        assert!(fairness.figures().iter().all(|level| level.executing == 0 && level.waiting == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_costs_more_takes_more_seats_and_keeps_them_while_watchers_are_told() {
        let fairness = fairness(100);
        let a = flow(&fairness, "a", "queued");
        let figures = || fairness.figures().into_iter().find(|level| level.level == "queued").unwrap();
        let nominal = figures().nominal;
        let most = (f64::from(nominal) * 0.15).ceil() as u32;
        assert!(most > 1, "{nominal}");
        let list = fairness.enter(&a, Cost::List { bytes: 1 << 30 }, LONG).await.unwrap();
        assert_eq!((figures().executing, figures().seats), (1, most));
        drop(list);
        assert_eq!((figures().executing, figures().seats), (0, 0));
        let write = fairness.enter(&a, Cost::Write { watchers: 10 * u64::from(most) }, LONG).await.unwrap();
        assert_eq!((figures().executing, figures().seats), (1, most));
        drop(write);
        assert_eq!((figures().executing, figures().seats), (0, most), "its watchers are being told");
        tokio::time::sleep(Duration::from_millis(6)).await;
        assert_eq!(figures().seats, 0);
        // A wide one waits for all its seats, and what its flow asks for later does not go before it.
        let mut held = Vec::new();
        for number in 0.. {
            if nominal - figures().seats < most {
                break;
            }
            let other = flow(&fairness, &format!("other-{number}"), "queued");
            held.extend(fairness.enter(&other, Cost::Usual, Duration::from_millis(1)).await.ok());
        }
        let taken = figures().seats;
        let (waiting, of) = (fairness.clone(), a.clone());
        let wide = tokio::spawn(async move { waiting.enter(&of, Cost::List { bytes: 1 << 30 }, LONG).await });
        while figures().waiting < 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!((figures().waiting, figures().seats), (1, taken));
        assert_eq!(fairness.enter(&a, Cost::Usual, Duration::from_secs(1)).await.err(), Some(Refusal::TimeOut));
        held.clear();
        assert!(wide.await.unwrap().unwrap().is_some());
        assert_eq!((figures().waiting, figures().seats, figures().executing), (0, 0, 0));
    }
}
