//! Resize: what size a volume is to have next, as its claim's status tells how far the last expansion came (KEP-1790).
use k8s_openapi::api::core::v1::PersistentVolumeClaimStatus;

pub const CONTROLLER_IN_PROGRESS: &str = "ControllerResizeInProgress";
pub const CONTROLLER_INFEASIBLE: &str = "ControllerResizeInfeasible";
pub const NODE_PENDING: &str = "NodeResizePending";
pub const NODE_IN_PROGRESS: &str = "NodeResizeInProgress";
pub const NODE_INFEASIBLE: &str = "NodeResizeInfeasible";

/// All in bytes.
#[derive(Clone, Debug, Default)]
pub struct Sizes<'a> {
    /// What the claim asks for.
    pub asked: i64,
    /// What the volume has.
    pub has: i64,
    /// What was asked of the driver last, if it is not done everywhere.
    pub allocated: Option<i64>,
    /// How far that came; "" where nobody has begun.
    pub state: &'a str,
    /// Whether the file system waits for its node, by a condition that an earlier version has set.
    pub pending: bool,
    /// Whether the driver has refused it for good, so that it is not under way any more.
    pub refused: bool,
}

/// How far the expansion of a claim's volume came.
pub fn state(status: &PersistentVolumeClaimStatus) -> &str {
    status.allocated_resource_statuses.as_ref().and_then(|all| all.get("storage")).map_or("", String::as_str)
}

/// The size to ask the driver for, for a claim that asks for more than it has; none while a node is at it.
///
/// What was begun is ended first, unless it was refused: then the claim may ask for less.
pub fn next(sizes: &Sizes<'_>) -> Option<i64> {
    let allocated = sizes.allocated.unwrap_or(sizes.asked);
    if sizes.has < sizes.asked {
        return match sizes.state {
            NODE_INFEASIBLE => Some(allocated),
            NODE_PENDING | NODE_IN_PROGRESS => Some(allocated).filter(|size| sizes.has < *size),
            CONTROLLER_IN_PROGRESS if !sizes.refused => Some(allocated),
            _ => Some(sizes.asked),
        };
    }
    match sizes.state {
        NODE_PENDING | NODE_IN_PROGRESS => None,
        "" if sizes.allocated.is_none() && sizes.pending => None,
        _ => Some(allocated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_is_ended_before_something_else_begins() {
        let check = |asked, has, allocated, state, expected: Option<i64>| {
            let sizes = Sizes { asked, has, allocated, state, ..Default::default() };
            assert_eq!(next(&sizes), expected, "{sizes:?}");
        };
        check(2, 1, None, "", Some(2));
        check(3, 1, Some(2), CONTROLLER_IN_PROGRESS, Some(2));
        check(3, 1, Some(9), CONTROLLER_INFEASIBLE, Some(3));
        check(3, 2, Some(2), NODE_PENDING, None);
        check(3, 1, Some(2), NODE_PENDING, Some(2));
        check(3, 2, Some(2), NODE_INFEASIBLE, Some(2));
        check(2, 2, Some(2), NODE_IN_PROGRESS, None);
        check(2, 2, Some(2), NODE_INFEASIBLE, Some(2));
        check(2, 3, Some(3), CONTROLLER_IN_PROGRESS, Some(3));
        check(2, 2, Some(2), "", Some(2));
        check(2, 2, None, "", Some(2));
    }

    #[test]
    fn a_refusal_lets_the_claim_ask_for_less() {
        let sizes = Sizes { asked: 2, has: 1, allocated: Some(9), state: CONTROLLER_IN_PROGRESS, ..Default::default() };
        assert_eq!(next(&sizes), Some(9), "it may be under way still");
        assert_eq!(next(&Sizes { refused: true, ..sizes }), Some(2));
    }

    #[test]
    fn a_node_that_was_told_by_an_earlier_version_is_left_alone() {
        assert_eq!(next(&Sizes { asked: 2, has: 2, pending: true, ..Default::default() }), None);
    }
}
