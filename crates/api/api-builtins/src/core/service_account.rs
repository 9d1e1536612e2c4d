//! ServiceAccount: an identity for pods.
use crate::fields::Read;
use crate::subresources::TOKEN;
use api_resource::{Column, Names, Resource, Subresource, text};

pub struct ServiceAccounts;

impl Resource for ServiceAccounts {
    const NAMES: Names = Names::with("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", const { &[text("sa")] }, &[]);
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &'static [Column] = &[Column::with("Secrets", |row| row.object["secrets"].list().len().into())];
    const SUBRESOURCES: &'static [Subresource] = &[TOKEN];
    const GENERATION: bool = false;
}
