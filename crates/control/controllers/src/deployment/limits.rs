//! Limits: a deployment's size, and how far a rollout may go over and under it.
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub replicas: i32,
    pub rolling: bool,
    pub max_surge: i32,
    pub max_unavailable: i32,
    /// `None`: progress is not watched.
    pub progress_deadline_seconds: Option<i32>,
}

impl Limits {
    pub fn of(deployment: &Deployment) -> Self {
        let spec = &deployment.spec;
        let strategy = spec.strategy.clone().unwrap_or_default();
        let rolling = strategy.type_.as_deref() != Some("Recreate");
        let replicas = spec.replicas.unwrap_or(1);
        let update = strategy.rolling_update.unwrap_or_default();
        let quarter = IntOrString::String("25%".into());
        let (max_surge, max_unavailable) = if rolling {
            resolve(update.max_surge.as_ref().unwrap_or(&quarter), update.max_unavailable.as_ref().unwrap_or(&quarter), replicas)
        } else {
            (0, 0)
        };
        // With no pods wanted none may be missing.
        let max_unavailable = max_unavailable.min(replicas);
        let progress_deadline_seconds = spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX);
        Self { replicas, rolling, max_surge, max_unavailable, progress_deadline_seconds }
    }
}

/// Percentages of `replicas`: surge rounds up, unavailable down; if both come to nothing, one may be missing,
/// or nothing would ever move.
fn resolve(max_surge: &IntOrString, max_unavailable: &IntOrString, replicas: i32) -> (i32, i32) {
    let surge = scaled(max_surge, replicas, true);
    let unavailable = scaled(max_unavailable, replicas, false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// A number, or a percentage of `total` rounded up or down; what is neither counts as 0.
pub fn scaled(value: &IntOrString, total: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let Some(percent) = text.strip_suffix('%').and_then(|digits| digits.parse::<i64>().ok()) else { return 0 };
            let product = percent * i64::from(total);
            i32::try_from(if up { (product + 99).div_euclid(100) } else { product.div_euclid(100) }).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        let percent = |text: &str| IntOrString::String(text.into());
        assert_eq!(resolve(&percent("25%"), &percent("25%"), 10), (3, 2));
        assert_eq!(resolve(&percent("0%"), &percent("10%"), 5), (0, 1));
        assert_eq!(resolve(&IntOrString::Int(1), &IntOrString::Int(0), 5), (1, 0));
        assert_eq!(resolve(&percent("100%"), &percent("100%"), 3), (3, 3));
    }
}
