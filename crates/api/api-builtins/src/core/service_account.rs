//! ServiceAccount: an identity for pods.
use crate::subresources::TOKEN;
use api_resource::{Names, Resource, Subresource, text};

pub struct ServiceAccounts;

impl Resource for ServiceAccounts {
    const NAMES: Names = Names::with("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", const { &[text("sa")] }, &[]);
    const SUBRESOURCES: &'static [Subresource] = &[TOKEN];
    const GENERATION: bool = false;
}
