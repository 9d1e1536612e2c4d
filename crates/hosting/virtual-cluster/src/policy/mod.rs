//! The policy controllers: what a policy puts into its namespaces, and what becomes of it when it goes.
mod binding;
mod life;
mod objects;
#[cfg(test)]
mod tests;

pub use binding::runner as binding_runner;
pub use life::runner as life_runner;
