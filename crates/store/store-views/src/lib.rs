//! Views: what a virtual cluster sees besides its own keys, without a copy of it.
//!
//! Two things: the *base*, objects that every cluster starts with (roles, priority classes), read from
//! one shared cluster until a cluster changes them; and *mirrors*, objects of the host cluster that it
//! may only look at (nodes). Everything else passes through, and so does everything of the host cluster.

mod base;
mod hidden;
mod mirror;
mod view_store;
mod watching;

pub use hidden::is_hidden;
pub use mirror::Mirrors;
pub use view_store::ViewStore;
