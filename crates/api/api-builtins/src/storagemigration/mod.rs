//! storagemigration.k8s.io/v1: its kinds, a file each.
mod storage_version_migration;

pub use storage_version_migration::StorageVersionMigrations;
