//! Neighbours: which of the other balancing machines can't be reached, long before their nodes are given up.
//!
//! A machine that is there answers whoever connects, if only by refusing. One whose kernel is silent doesn't answer for
//! addresses either, so that another may at once.
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// From one look at all of them to the next, and how long each has to answer.
pub const EVERY: Duration = Duration::from_secs(1);
/// So many looks in a row have to say the same before it counts.
const ENOUGH: u32 = 3;
/// The kubelet's, which is as open between nodes as any.
const PORT: u16 = 10250;

#[derive(Debug, Default)]
pub struct Neighbours {
    by_name: BTreeMap<String, Neighbour>,
}

#[derive(Debug, Default)]
struct Neighbour {
    /// One that never answered may be behind a wall: only its node's readiness tells.
    answered: bool,
    gone: bool,
    /// How many looks in a row have said otherwise.
    otherwise: u32,
}

impl Neighbours {
    /// Notes who answered, and forgets who was not looked at. Says whether others are gone now than were before.
    pub fn note(&mut self, looks: &BTreeMap<String, bool>) -> bool {
        let before = self.gone();
        self.by_name.retain(|name, _| looks.contains_key(name));
        for (name, answers) in looks {
            let neighbour = self.by_name.entry(name.clone()).or_default();
            neighbour.answered |= answers;
            neighbour.otherwise = if *answers == neighbour.gone { neighbour.otherwise + 1 } else { 0 };
            if neighbour.answered && neighbour.otherwise >= ENOUGH {
                (neighbour.gone, neighbour.otherwise) = (!neighbour.gone, 0);
            }
        }
        self.gone() != before
    }

    pub fn gone(&self) -> BTreeSet<String> {
        self.by_name.iter().filter(|(_, neighbour)| neighbour.gone).map(|(name, _)| name.clone()).collect()
    }
}

/// Whether a machine answers.
pub async fn answers(address: Ipv4Addr) -> bool {
    match tokio::time::timeout(EVERY, TcpStream::connect(SocketAddr::from((address, PORT)))).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at one machine, `+` for an answer; gives `x` for each look after which it is gone.
    fn told(looks: &str) -> String {
        let mut neighbours = Neighbours::default();
        let mut gone = false;
        let mut look = |answer: char| {
            let changed = neighbours.note(&[("n1".to_owned(), answer == '+')].into());
            let now = !neighbours.gone().is_empty();
            assert_eq!(changed, now != gone, "{looks}");
            gone = now;
            if now { 'x' } else { '.' }
        };
        looks.chars().map(&mut look).collect()
    }

    #[test]
    fn a_machine_is_gone_after_a_few_silent_looks_and_back_after_as_many_answers() {
        for (looks, expected) in [
            ("++++", "...."),
            ("+----", "...xx"),
            ("+--+--+", "......."),
            ("+---+++", "...xxx."),
            ("+---++-+++", "...xxxxxx."),
            // Nobody knows whether it can answer at all.
            ("------", "......"),
            ("---+---", "......x"),
        ] {
            assert_eq!(told(looks), expected, "{looks}");
        }
    }

    #[test]
    fn who_is_no_longer_looked_at_is_forgotten() {
        let mut neighbours = Neighbours::default();
        for answer in [true, false, false, false] {
            neighbours.note(&[("n1".to_owned(), answer), ("n2".to_owned(), true)].into());
        }
        assert_eq!(neighbours.gone(), ["n1".to_owned()].into());
        assert!(neighbours.note(&[("n2".to_owned(), true)].into()) && neighbours.gone().is_empty());
        assert!(!neighbours.note(&[("n1".to_owned(), false), ("n2".to_owned(), true)].into()), "it begins anew");
    }

    #[tokio::test]
    async fn a_machine_that_refuses_is_there() {
        assert!(answers(Ipv4Addr::LOCALHOST).await);
    }
}
