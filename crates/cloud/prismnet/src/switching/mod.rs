//! PrismNET alone: logical switches, ports and ACLs that are made by the gRPC API, on one machine.
//!
//! ```text
//! records.rs           what callers have made, and what is right to make next (pure)
//! match_expression.rs  what an ACL's match says, as nft writes it (pure)
//! plan.rs              the ports and rules that the records mean (pure)
//! keeper.rs            records on disk, and the kernel led to what they mean, before an answer
//! api.rs               the calls
//! ```

mod api;
mod keeper;
mod match_expression;
mod plan;
mod records;

pub use api::Switching;
pub use keeper::Keeper;
#[cfg(test)]
pub(crate) use match_expression::{Names, rule};
pub use plan::SwitchingSettings;
pub(crate) use records::INTERFACE;
