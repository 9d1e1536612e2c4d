//! Seats: how much of each level runs at a time, and what idle levels lend to busy ones.
use crate::configuration::{Configuration, Limited};

/// A limited level's seats. A request that runs takes one of them, or more if it costs more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seats {
    /// Its own, from its share of all.
    pub nominal: u32,
    /// How many of those others may have while it doesn't need them.
    pub lendable: u32,
    /// How many of others' it may have.
    pub borrowable: u32,
    pub used: u32,
}

/// Upstream's formulas: the server's seats by shares, rounded up; parts of those by percent, rounded.
pub(crate) fn share_out(configuration: &Configuration, all: u32) -> Vec<(String, Seats)> {
    let shares = |limited: &Limited| f64::from(limited.nominal_concurrency_shares);
    let sum: f64 = configuration.levels.values().map(|level| level.limited.as_ref().map_or(f64::from(level.exempt_shares), shares)).sum();
    let limited = configuration.levels.iter().filter_map(|(name, level)| Some((name, level.limited.as_ref()?)));
    let seats = limited.map(|(name, limited)| {
        let nominal = if sum > 0.0 { (f64::from(all) * shares(limited) / sum).ceil() as u32 } else { 0 };
        let part = |percent: u32| (f64::from(nominal) * f64::from(percent) / 100.0).round() as u32;
        let borrowable = limited.borrowing_limit_percent.map_or(all.saturating_sub(nominal), part);
        (name.clone(), Seats { nominal, lendable: part(limited.lendable_percent).min(nominal), borrowable, used: 0 })
    });
    seats.collect()
}

/// How many seats more one of these levels may have.
///
/// Own seats are free unless lent: then they come back as those who have them end. Others' are free as long as each level
/// keeps what it doesn't lend.
pub(crate) fn free<'s>(own: &Seats, others: impl Iterator<Item = &'s Seats> + Clone) -> u32 {
    let all: u32 = own.nominal + others.clone().map(|level| level.nominal).sum::<u32>();
    let (used, kept) = others.fold((0, 0), |(used, kept), level| (used + level.used, kept + level.used.max(level.nominal - level.lendable)));
    let of_own = own.nominal.saturating_sub(own.used).min(all.saturating_sub(own.used + used));
    let with_others = (own.nominal + own.borrowable).saturating_sub(own.used).min(all.saturating_sub(own.used + kept));
    of_own.max(with_others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seats_are_shared_out_as_upstream_does() {
        let level = |name: &str, shares: u32, lendable: u32, borrowing: Option<u32>| {
            json!({ "metadata": { "name": name }, "spec": { "type": "Limited", "limited": { "nominalConcurrencyShares": shares,
                "lendablePercent": lendable, "borrowingLimitPercent": borrowing, "limitResponse": { "type": "Reject" } } } })
        };
        let objects = [level("low", 100, 90, None), level("system", 30, 33, Some(50)), level("none", 0, 0, None)];
        let seats = share_out(&Configuration::of([], &objects), 600);
        let found = |name: &str| seats.iter().find(|(of, _)| of == name).map(|(_, seats)| (seats.nominal, seats.lendable, seats.borrowable)).unwrap();
        assert_eq!(found("low"), (445, 401, 155));
        assert_eq!(found("system"), (134, 44, 67));
        assert_eq!(found("none"), (0, 0, 600));
        assert_eq!(found("catch-all"), (23, 0, 577));
    }

    #[test]
    fn what_is_not_lent_is_always_free_and_what_is_borrowed_is_bounded() {
        let mut busy = Seats { nominal: 2, lendable: 0, borrowable: 3, used: 0 };
        let mut idle = Seats { nominal: 4, lendable: 3, borrowable: 9, used: 0 };
        while free(&busy, [idle].iter()) > 0 {
            busy.used += 1;
        }
        assert_eq!(busy.used, 5, "two of its own and three borrowed");
        assert!(free(&idle, [busy].iter()) > 0, "what it doesn't lend is there");
        idle.used = 1;
        assert!(free(&idle, [busy].iter()) == 0, "the rest is lent for now");
        busy.used = 4;
        assert!(free(&idle, [busy].iter()) > 0, "and comes back");
        assert!(free(&idle, [busy].iter()) < 3, "but no three at once");
        assert!(free(&busy, [Seats { used: 2, ..idle }].iter()) == 0, "before anybody borrows again");
    }
}
