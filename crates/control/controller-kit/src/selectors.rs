//! From the LabelSelector of objects to the one matcher.
use crate::Error;
use api_meta::LabelSelector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1;

/// The matcher of an object's selector. The empty selector matches everything.
pub fn selector(of: &v1::LabelSelector) -> Result<LabelSelector, Error> {
    let expressions = of.match_expressions.iter().flatten();
    LabelSelector::from_parts(
        of.match_labels.iter().flatten(),
        expressions.map(|e| (e.key.as_str(), e.operator.as_str(), e.values.as_deref().unwrap_or_default())),
    )
    .map_err(Error::Invalid)
}
