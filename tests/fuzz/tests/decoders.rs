//! A run of every target that is short enough for every day; `make fuzz` goes on for minutes.
use fuzz::targets::TARGETS;
use fuzz::{Limit, run};

const CASES: u64 = 4000;
const SEED: u64 = 37;

#[test]
fn decoders_bear_whatever_they_are_given() {
    let failures: Vec<String> =
        TARGETS.iter().filter_map(|target| run(target, SEED, Limit::Cases(CASES), None).err()).map(|failure| failure.to_string()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
