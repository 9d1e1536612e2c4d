//! Custom kinds: found per cluster, as the CustomResourceDefinitions in the store have them.
mod finalize;
mod follow;
mod names;
mod registration;
mod registry;

pub use follow::Definitions;
pub(crate) use follow::{follow, load};
pub use registry::CustomKind;
pub(crate) use registry::CustomKinds;
