//! The JavaScript client `@kubernetes/client-node`: its scenarios are in `client_node.mjs`.
use crate::support::{output, programs};
use testkit::Server;

fn scenario(name: &str) {
    let server = Server::control_plane();
    let modules = testkit::tools().join("node/node_modules");
    assert!(modules.exists(), "{modules:?} is not there: make clients");
    // Node looks for modules beside the program that imports them.
    let directory = server.tool().home;
    let program = directory.join("client_node.mjs");
    std::fs::copy(programs().join("client_node.mjs"), &program).unwrap();
    std::os::unix::fs::symlink(modules, directory.join("node_modules")).unwrap();
    let printed = output(server.tool().command("node").arg(program).arg(name));
    assert_eq!(printed.trim_end(), "done", "the whole scenario has run");
}

#[test]
fn patches_do_what_their_content_types_say() {
    scenario("patches");
}

#[test]
fn errors_are_what_the_client_reads() {
    scenario("errors");
}

#[test]
fn informers_and_watches_see_everything() {
    scenario("informer");
}

#[test]
fn custom_resources_follow_their_definition() {
    scenario("customResources");
}
