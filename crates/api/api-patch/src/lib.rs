//! The four ways to patch an object, and who owns which of its fields. Pure; no I/O.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod apply;
mod json_patch;
mod merge_patch;
mod strategic;
mod strategic_list;

pub use apply::{OtherVersions, Writer, apply, apply_among, fits, track_update, track_update_among};
pub use json_patch::{json_patch, json_patch_of_admission};
pub use merge_patch::merge_patch;
pub use strategic::strategic_merge;

use api_meta::{Status, StatusDetails};

/// Upstream's answer to a patch that is well formed but does not fit the object.
fn does_not_apply() -> Status {
    let mut status = Status::new(422, "Invalid", "the server rejected our request due to an error in our request");
    status.details = Some(Box::new(StatusDetails::default()));
    status
}
