//! Conditions of a claim, as upstream's resizer merges them into those that others have set.
use k8s_openapi::api::core::v1::PersistentVolumeClaimCondition as Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `old` with those of `kinds` replaced by `new` (type and message); with `keep`, those of `kinds` that are not among them stay.
///
/// What says the same stays as it is, and an error stays as it was told first: what a driver says of it is never the same twice.
pub fn merge(old: &[Condition], kinds: &[&str], new: &[(&str, &str)], keep: bool, now: &Time) -> Vec<Condition> {
    let says_it = |condition: &Condition, (kind, message): &(&str, &str)| {
        let message = kind.ends_with("Error") || condition.message.as_deref().unwrap_or_default() == *message;
        condition.type_ == *kind && condition.status == "True" && message
    };
    let stays = |condition: &&Condition| {
        let among = new.iter().find(|new| new.0 == condition.type_);
        among.map_or(keep || !kinds.contains(&condition.type_.as_str()), |new| says_it(condition, new))
    };
    let mut merged: Vec<Condition> = old.iter().filter(stays).cloned().collect();
    for wanted in new {
        if !merged.iter().any(|condition| says_it(condition, wanted)) {
            merged.push(Condition {
                type_: wanted.0.into(),
                status: "True".into(),
                message: Some(wanted.1.into()).filter(|message: &String| !message.is_empty()),
                last_transition_time: Some(now.clone()),
                ..Default::default()
            });
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_takes_the_place_of_its_like_and_of_nothing_else() {
        let condition =
            |kind: &str, message: &str| Condition { type_: kind.into(), status: "True".into(), message: Some(message.into()), ..Default::default() };
        let old = [condition("Other", "o"), condition("Resizing", ""), condition("ResizeError", "first")];
        let told = |kinds: &[&str], new: &[(&str, &str)], keep| {
            let now = controller_kit::whole_seconds(jiff::Timestamp::UNIX_EPOCH);
            let told =
                merge(&old, kinds, new, keep, &now).into_iter().map(|condition| format!("{} {}", condition.type_, condition.message.unwrap_or_default()));
            told.collect::<Vec<_>>().join(", ")
        };
        let kinds = ["Resizing", "ResizeError", "Pending"];
        assert_eq!(told(&kinds, &[], false), "Other o");
        assert_eq!(told(&kinds, &[("Pending", "waits")], false), "Other o, Pending waits");
        assert_eq!(told(&kinds, &[("ResizeError", "second")], true), "Other o, Resizing , ResizeError first");
        assert_eq!(told(&kinds, &[("Resizing", "now")], true), "Other o, ResizeError first, Resizing now");
    }
}
