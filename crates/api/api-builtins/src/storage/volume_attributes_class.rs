//! VolumeAttributesClass: changeable properties of volumes.
use api_resource::{Column, Names, Resource, ResourceScope, text};

pub struct VolumeAttributesClasses;

impl Resource for VolumeAttributesClasses {
    const NAMES: Names =
        Names::with("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", "volumeattributesclass", const { &[text("vac")] }, &[]);
    const SCOPE: ResourceScope = ResourceScope::Cluster;
    const COLUMNS: &'static [Column] = &[Column::path("DriverName", ".driverName")];
    const GENERATION: bool = false;
}
