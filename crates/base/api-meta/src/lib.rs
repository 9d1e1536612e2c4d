//! The vocabulary every layer shares: names, kinds, objects, selectors, quantities, Status errors.

mod cluster_name;
mod cluster_settings;
mod field_error;
mod field_selector;
mod ip_family;
mod kind;
pub mod label_selector;
mod label_selector_parser;
mod managed_fields;
pub mod names;
mod node_config;
pub mod object;
pub mod projects;
mod quantity;
mod status;

pub use cluster_name::ClusterName;
pub use cluster_settings::{ClusterAccess, ClusterSettings, JoinSecret, KeyPair, PodSecurityLevel, Restore, SnapshotFacts};
pub use field_error::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
pub use field_selector::{FieldRequirement, FieldSelector};
pub use ip_family::IpFamily;
pub use kind::{GroupResource, GroupVersionKind, join_api_version, split_api_version};
pub use label_selector::{LabelSelector, Labels};
pub use managed_fields::without_managed_fields;
pub use node_config::{CA_PATH, DRIVER_PATH, NODE_CONFIG_PATH, NodeConfig, TUNNEL_PATH, TUNNEL_PROTOCOL};
pub use object::{LabelMap, Meta, Object, Owner};
pub use quantity::{Format as QuantityFormat, Quantity};
pub use status::{Status, StatusCause, StatusDetails};
