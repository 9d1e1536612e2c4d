//! Queues: fair queues of one priority level, each of some flows; in the order of virtual finish times, as if seats were shared by bits.
use crate::configuration::Queuing;
use crate::work::Work;
use std::collections::VecDeque;
use std::time::Instant;

/// How long a request is thought to take before it is known, in seconds, not counting what it keeps its seats for afterwards.
const GUESS: f64 = 0.003;

/// Those that wait, and how much each queue has had. A turn is the number of a request.
#[derive(Debug)]
pub(crate) struct Queues {
    shape: Queuing,
    queues: Vec<Queue>,
    /// Virtual time: seat-seconds that every queue with work could have had.
    virtual_time: f64,
    updated: Instant,
    seats: u32,
    /// Where the search for the next begins, so that equals take turns.
    robin: usize,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(u64, Work)>,
    /// Seats of those that run.
    executing: u32,
    /// Seats that those who wait will take.
    wanted: u32,
    /// The virtual time at which its first request begins.
    starts: f64,
}

/// Where a request waited or runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Queues {
    pub fn new(shape: Queuing, seats: u32, now: Instant) -> Self {
        let queues = (0..shape.queues.max(1)).map(|_| Queue::default()).collect();
        Self { shape, queues, virtual_time: 0.0, updated: now, seats, robin: 0, waiting: 0 }
    }

    pub fn shape(&self) -> &Queuing {
        &self.shape
    }

    pub fn set_seats(&mut self, seats: u32, now: Instant) {
        self.advance(now);
        self.seats = seats;
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.updated = now;
        let (mut active, mut wanted) = (0.0, 0.0);
        for queue in &self.queues {
            let wants = queue.executing + queue.wanted;
            if wants > 0 {
                active += 1.0;
                wanted += f64::from(wants);
            }
        }
        if active > 0.0 {
            self.virtual_time += passed * wanted.min(f64::from(self.seats)) / active;
        }
    }

    /// The queues a flow may wait in: a hand dealt from all of them without repeats.
    fn hand(&self, hash: u64) -> Vec<usize> {
        let (all, size) = (self.queues.len(), self.shape.hand_size.clamp(1, self.queues.len()));
        let (mut left, mut hand) = (hash, Vec::<usize>::with_capacity(size));
        for dealt in 0..size {
            let cards = (all - dealt) as u64;
            let mut card = (left % cards) as usize;
            left /= cards;
            // The card's number among those that are left becomes its number among all.
            let mut lower: Vec<usize> = hand.clone();
            lower.sort_unstable();
            for taken in lower {
                if card >= taken {
                    card += 1;
                }
            }
            hand.push(card);
        }
        hand
    }

    /// Puts a request into the shortest queue of its flow's hand; `None` when that is full.
    pub fn join(&mut self, hash: u64, turn: u64, work: Work, now: Instant) -> Option<Place> {
        self.advance(now);
        let shortest = self.hand(hash).into_iter().min_by_key(|index| self.queues[*index].wanted + self.queues[*index].executing)?;
        let queue = &mut self.queues[shortest];
        if queue.waiting.len() >= self.shape.queue_length_limit {
            return None;
        }
        if queue.waiting.is_empty() && queue.executing == 0 {
            // Who had nothing to do has saved nothing up.
            queue.starts = self.virtual_time;
        }
        queue.waiting.push_back((turn, work));
        queue.wanted += work.seats;
        self.waiting += 1;
        Some(Place(shortest))
    }

    /// The queue whose first request would be done first. One that has more seats already than it would leave free has to wait for
    /// its own to end, so that who comes new finds a seat however long the others' requests take.
    fn first(&self, free: u32) -> Option<usize> {
        let count = self.queues.len();
        let order = (0..count).map(|step| (self.robin + 1 + step) % count);
        let done = |index: usize| {
            let queue = &self.queues[index];
            let (_, work) = queue.waiting.front()?;
            let modest = queue.executing == 0 || queue.executing.saturating_add(work.seats) <= free;
            modest.then(|| queue.starts + work.seat_seconds(GUESS))
        };
        let order = order.filter_map(|index| Some((index, done(index)?)));
        order.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
    }

    /// The request that goes next, if so many seats are enough for it.
    pub fn next(&mut self, free: u32, now: Instant) -> Option<(u64, Work, Place)> {
        if self.waiting == 0 {
            return None;
        }
        self.advance(now);
        let index = self.first(free).filter(|index| self.queues[*index].waiting.front().is_some_and(|(_, work)| work.seats <= free))?;
        self.robin = index;
        let queue = &mut self.queues[index];
        let (turn, work) = queue.waiting.pop_front()?;
        self.waiting -= 1;
        queue.wanted -= work.seats;
        queue.executing += work.seats;
        queue.starts += work.seat_seconds(GUESS);
        Some((turn, work, Place(index)))
    }

    /// Somebody no longer waits. Whether it was still there.
    pub fn leave(&mut self, turn: u64, place: Place, now: Instant) -> bool {
        self.advance(now);
        let queue = &mut self.queues[place.0];
        let Some(at) = queue.waiting.iter().position(|(one, _)| *one == turn) else { return false };
        if let Some((_, work)) = queue.waiting.remove(at) {
            queue.wanted -= work.seats;
            self.waiting -= 1;
        }
        true
    }

    /// A request has ended after `took` seconds: what it was thought to take is put right.
    pub fn end(&mut self, place: Place, work: Work, took: f64, now: Instant) {
        self.advance(now);
        let Some(queue) = self.queues.get_mut(place.0) else { return };
        queue.executing = queue.executing.saturating_sub(work.seats);
        queue.starts += work.seat_seconds(took) - work.seat_seconds(GUESS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clock::Clock;
    use std::time::Duration;

    fn now() -> Instant {
        clock::SystemClock.instant()
    }

    const ONE: Work = Work { seats: 1, afterwards: Duration::ZERO };

    fn shape(queues: usize, hand_size: usize, queue_length_limit: usize) -> Queuing {
        Queuing { queues, hand_size, queue_length_limit }
    }

    #[test]
    fn hands_have_no_card_twice_and_use_all_cards() {
        let queues = Queues::new(shape(16, 5, 10), 4, now());
        let mut seen = std::collections::BTreeSet::new();
        for hash in (0..2000).map(|n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            let hand = queues.hand(hash);
            let distinct: std::collections::BTreeSet<usize> = hand.iter().copied().collect();
            assert!(distinct.len() == 5 && hand.iter().all(|card| *card < 16), "{hand:?}");
            seen.extend(distinct);
        }
        assert_eq!(seen.len(), 16);
    }

    #[test]
    fn a_flow_with_one_request_goes_before_the_hundredth_of_another() {
        let start = now();
        let mut queues = Queues::new(shape(2, 1, 1000), 1, start);
        let (busy, quiet) = (0, 1);
        assert_ne!(queues.hand(busy), queues.hand(quiet));
        for turn in 0..100 {
            queues.join(busy, turn, ONE, start).unwrap();
        }
        let mut at = start;
        for _ in 0..10 {
            let (_, _, place) = queues.next(u32::MAX, at).unwrap();
            at += Duration::from_millis(10);
            queues.end(place, ONE, 0.01, at);
        }
        queues.join(quiet, 1000, ONE, at).unwrap();
        let first_two = [queues.next(u32::MAX, at).unwrap().0, queues.next(u32::MAX, at).unwrap().0];
        assert!(first_two.contains(&1000), "{first_two:?}");
    }

    #[test]
    fn flows_with_slow_requests_get_fewer_of_them() {
        let start = now();
        let mut queues = Queues::new(shape(2, 1, 1000), 1, start);
        for turn in 0..300 {
            queues.join(0, turn, ONE, start).unwrap();
            queues.join(1, 1000 + turn, ONE, start).unwrap();
        }
        let (mut at, mut slow, mut quick) = (start, 0, 0);
        for _ in 0..200 {
            let (turn, _, place) = queues.next(u32::MAX, at).unwrap();
            let took = if turn < 1000 { 0.03 } else { 0.01 };
            if turn < 1000 {
                slow += 1
            } else {
                quick += 1
            }
            at += Duration::from_secs_f64(took);
            queues.end(place, ONE, took, at);
        }
        assert!((145..=155).contains(&quick) && (45..=55).contains(&slow), "{quick} quick, {slow} slow");
    }

    #[test]
    fn wide_requests_count_as_many() {
        let start = now();
        let mut queues = Queues::new(shape(2, 1, 1000), 4, start);
        let wide = Work { seats: 4, afterwards: Duration::ZERO };
        for turn in 0..100 {
            queues.join(0, turn, wide, start).unwrap();
            queues.join(1, 1000 + turn, ONE, start).unwrap();
        }
        let (mut at, mut seats) = (start, [0, 0]);
        for _ in 0..50 {
            let (turn, work, place) = queues.next(u32::MAX, at).unwrap();
            seats[usize::from(turn >= 1000)] += work.seats;
            at += Duration::from_millis(10);
            queues.end(place, work, 0.01, at);
        }
        assert!(seats[0].abs_diff(seats[1]) <= 4, "{seats:?}");
    }

    #[test]
    fn a_full_queue_takes_nobody_and_who_leaves_makes_room() {
        let start = now();
        let mut queues = Queues::new(shape(1, 1, 2), 1, start);
        let place = queues.join(7, 1, ONE, start).unwrap();
        queues.join(7, 2, ONE, start).unwrap();
        assert_eq!(queues.join(7, 3, ONE, start), None);
        assert!(queues.leave(1, place, start) && !queues.leave(1, place, start));
        assert!(queues.join(7, 3, ONE, start).is_some());
        assert_eq!([queues.next(u32::MAX, start).unwrap().0, queues.next(u32::MAX, start).unwrap().0], [2, 3]);
        assert!(queues.next(u32::MAX, start).is_none());
    }

    #[test]
    fn a_queue_leaves_as_many_seats_free_as_it_has() {
        const SEATS: u32 = 10;
        let start = now();
        let mut queues = Queues::new(shape(3, 1, 1000), SEATS, start);
        for turn in 0..100 {
            queues.join(0, turn, ONE, start).unwrap();
        }
        let mut used = 0;
        while let Some((_, work, _)) = queues.next(SEATS - used, start) {
            used += work.seats;
        }
        assert_eq!(used, 5, "half of them");
        for turn in 100..200 {
            queues.join(1, turn, ONE, start).unwrap();
        }
        while let Some((_, work, _)) = queues.next(SEATS - used, start) {
            used += work.seats;
        }
        assert_eq!(used, 8, "half of what is left, rounded up: it had none before");
        queues.join(2, 1000, ONE, start).unwrap();
        assert_eq!(queues.next(SEATS - used, start).map(|(turn, ..)| turn), Some(1000), "who comes new");
    }
}
