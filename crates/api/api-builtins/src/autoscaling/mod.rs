//! autoscaling/v2: its kinds, a file each.
mod horizontal_pod_autoscaler;

pub use horizontal_pod_autoscaler::HorizontalPodAutoscalers;
