//! ConfigMap: configuration data.
use crate::fields::Read;
use api_resource::{Column, Names, Resource, text};

pub struct ConfigMaps;

impl Resource for ConfigMaps {
    const NAMES: Names = Names::with("", "v1", "ConfigMap", "configmaps", "configmap", const { &[text("cm")] }, &[]);
    const COLUMNS: &'static [Column] =
        &[Column::with("Data", |row| (row.object["data"].entries().count() + row.object["binaryData"].entries().count()).into())];
    const GENERATION: bool = false;
}
