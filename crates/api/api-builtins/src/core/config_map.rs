//! ConfigMap: configuration data.
use api_resource::{Names, Resource, text};

pub struct ConfigMaps;

impl Resource for ConfigMaps {
    const NAMES: Names = Names::with("", "v1", "ConfigMap", "configmaps", "configmap", const { &[text("cm")] }, &[]);
    const GENERATION: bool = false;
}
