//! Lease: a claim that is held as long as it is renewed.
use crate::fields::Read;
use api_resource::{Column, Names, Resource};

pub struct Leases;

impl Resource for Leases {
    const NAMES: Names = Names::new("coordination.k8s.io", "v1", "Lease", "leases", "lease");
    const COLUMNS: &'static [Column] = &[Column::with("Holder", |row| row.object["spec"]["holderIdentity"].text().into())];
    const GENERATION: bool = false;
    const CREATE_ON_UPDATE: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
}
