//! HorizontalPodAutoscaler: scales a workload by its load.
use api_resource::{ALL, Names, Resource, STATUS, Subresource, text};

pub struct HorizontalPodAutoscalers;

impl Resource for HorizontalPodAutoscalers {
    const NAMES: Names =
        Names::with("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "horizontalpodautoscaler", const { &[text("hpa")] }, ALL);
    const SUBRESOURCES: &'static [Subresource] = &[STATUS];
    const GENERATION: bool = false;
}
