//! What bytes and objects of any kind may do to the server: generated and mutated ones, and a target for each decoder.
//!
//! A target is a function that is given bytes and must return: no panic, no overflow of the stack, no
//! endless loop; where a decoder has an encoder, it also checks that what was decoded survives the way
//! there and back. [`run`] feeds targets with mutations of valid examples.
//!
//! This is **not** coverage-guided fuzzing: nothing is instrumented, no input is kept because it reached
//! new code, inputs that fail are not made smaller. It finds what many small damages to valid examples
//! find. What it does is decided by its seed alone, so that every failure can be had again.
mod driver;
pub mod generate;
mod manifests;
mod mutate;
mod random;
pub mod targets;

pub use driver::{Failure, Limit, run, run_one};
pub use manifests::{kind_of, manifests, numbered};
pub use mutate::{mutate, mutate_bytes};
pub use random::Random;
