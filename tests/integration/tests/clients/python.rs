//! The Python client `kubernetes`: its scenarios are in `kubernetes_client.py`.
use crate::support::python;
use testkit::Server;

fn scenario(name: &str) {
    let server = Server::control_plane();
    let printed = python(&server, &["kubernetes_client.py", name]);
    assert_eq!(printed.trim_end(), "done", "the whole scenario has run");
}

#[test]
fn built_in_kinds_are_made_patched_scaled_and_deleted() {
    scenario("built_in_kinds");
}

#[test]
fn errors_are_what_the_client_reads() {
    scenario("errors");
}

#[test]
fn lists_watches_and_informers_see_everything() {
    scenario("watches");
}

#[test]
fn custom_objects_follow_their_definition() {
    scenario("custom_objects");
}

#[test]
fn appliers_own_fields_of_kinds_found_by_discovery() {
    scenario("server_side_apply");
}

#[test]
fn one_candidate_leads_at_a_time() {
    scenario("leader_election");
}
