//! autoscaling: its kinds, a file each.
mod horizontal_pod_autoscaler;
mod horizontal_pod_autoscaler_v1;

pub use horizontal_pod_autoscaler::HorizontalPodAutoscalers;
pub use horizontal_pod_autoscaler_v1::HorizontalPodAutoscalersV1;
