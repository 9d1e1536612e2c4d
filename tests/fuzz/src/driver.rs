//! The driver: feeds a target with mutations of its examples, for a time or a number of cases.
use crate::targets::Target;
use crate::{Random, mutate_bytes};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// As large as those of the server's workers.
const STACK: usize = 2 << 20;
/// No input of a few kilobytes may take so long, however slow the machine.
const HANG: Duration = Duration::from_secs(20);
/// Inputs stay smaller, in bytes.
const LARGEST: usize = 64 << 10;

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    Cases(u64),
    Time(Duration),
}

/// An input that a target did not bear.
#[derive(Clone, Debug)]
pub struct Failure {
    pub target: &'static str,
    pub seed: u64,
    pub case: u64,
    pub input: Vec<u8>,
    /// The panic's message, or how long it took.
    pub why: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} case {} of seed {}: {}\n  input: \"{}\"", self.target, self.case, self.seed, self.why, self.input.escape_ascii())
    }
}

/// Runs a target's examples and then mutations of them; gives how many. `keep`: a file that holds the input that is being
/// run, for when the whole process dies of it.
///
/// Error: the first input that made it panic or hang.
pub fn run(target: &'static Target, seed: u64, limit: Limit, keep: Option<&Path>) -> Result<u64, Box<Failure>> {
    let work = || {
        let examples = (target.examples)();
        let (started, mut case) = (Instant::now(), 0);
        loop {
            let over = match limit {
                Limit::Cases(cases) => case >= cases,
                Limit::Time(time) => started.elapsed() >= time,
            };
            if over {
                return Ok(case);
            }
            let input = input(&examples, seed, case);
            if let Some(path) = keep {
                std::fs::write(path, &input).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            }
            run_one(target, &input).map_err(|why| Box::new(Failure { target: target.name, seed, case, input, why }))?;
            case += 1;
        }
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name(target.name.into()).stack_size(STACK);
        let thread = builder.spawn_scoped(scope, work).expect("a thread can be started");
        thread.join().expect("panics of targets are caught")
    })
}

/// Runs a target once.
///
/// Error: what it panicked with, or how long it took.
pub fn run_one(target: &Target, input: &[u8]) -> Result<(), String> {
    let started = Instant::now();
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without a message").to_owned()
    })?;
    let took = started.elapsed();
    if took > HANG { Err(format!("it took {took:?}")) } else { Ok(()) }
}

/// The input of a case: first each example as it is.
fn input(examples: &[Vec<u8>], seed: u64, case: u64) -> Vec<u8> {
    if let Some(example) = usize::try_from(case).ok().and_then(|case| examples.get(case)) {
        return example.clone();
    }
    let mut random = Random::of_case(seed, case);
    let mut input = random.pick(examples).clone();
    let other = random.pick(examples);
    for _ in 0..=random.below(3) {
        mutate_bytes(&mut random, &mut input, other);
    }
    input.truncate(LARGEST);
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    static PICKY: Target = Target { name: "picky", run: |bytes| assert!(bytes.is_ascii()), examples: || vec![b"abc".to_vec()] };

    #[test]
    fn failures_can_be_had_again() {
        let first = run(&PICKY, 7, Limit::Cases(10_000), None).unwrap_err();
        let again = run(&PICKY, 7, Limit::Cases(10_000), None).unwrap_err();
        assert_eq!((first.case, &first.input), (again.case, &again.input));
        assert!(run_one(&PICKY, &first.input).is_err() && run_one(&PICKY, b"abc").is_ok());
        assert_eq!(run(&PICKY, 7, Limit::Cases(first.case), None).unwrap(), first.case);
    }
}
