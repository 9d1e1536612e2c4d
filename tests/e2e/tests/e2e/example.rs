//! The example, by the commands of its own README: visits kept in PostgreSQL, rolled to version 2 and back while visitors come.
use crate::SOON;
use nix::sys::signal::Signal;
use testkit::images::{POSTGRES, VISITS, VISITS_2};
use testkit::{Cluster, Tool};

const README: &str = include_str!("../../../../examples/visits/README.md");
const MANIFEST: &str = include_str!("../../../../examples/visits/visits.yaml");

/// Visits again and again; writes what went wrong to stderr, where the test sees it.
const VISITORS: &str =
    r#"visit() { while true; do curl -fsS --max-time 10 http://ADDRESS/ || echo FAILED; sleep 0.02; done; }; visit & visit & visit & visit & wait"#;

/// The shell blocks of a Markdown text.
fn blocks(text: &str) -> Vec<&str> {
    text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn number(tool: &Tool, address: &str) -> u64 {
    let answer = tool.until(&format!("curl -fsS --max-time 10 http://{address}/"), SOON, |answer| answer.starts_with("visit "));
    answer.trim_start_matches("visit ").split(',').next().and_then(|number| number.parse().ok()).expect("a visit has a number")
}

#[test]
fn visits_are_counted_through_a_rollout_and_a_restart() {
    let mut cluster = Cluster::with_images(&[POSTGRES, VISITS, VISITS_2]);
    let kubectl = cluster.tool();
    let folder = kubectl.home.join("examples/visits");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("visits.yaml"), MANIFEST).unwrap();
    let [deploy, roll] = blocks(README)[..] else { panic!("the README has other blocks than this test expects") };
    let deployed = kubectl.sh(deploy).ok();
    assert!(deployed.contains("visit 1, served by web-") && deployed.trim_end().ends_with("version 1"), "{deployed}");
    let address = format!("{}:30080", cluster.host.address);
    let first = number(&kubectl, &address);
    assert_eq!(number(&kubectl, &address), first + 1);

    let visitors = cluster.outside().background(&VISITORS.replace("ADDRESS", &address));
    visitors.until_printed("version 1", SOON);
    kubectl.sh(roll).ok();
    visitors.until_printed("version 2", SOON);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let printed = visitors.printed();
    drop(visitors);
    let failed = printed.lines().filter(|line| !line.starts_with("visit ")).collect::<Vec<_>>();
    assert!(failed.is_empty(), "requests failed: {failed:?}");
    let counted = printed.lines().count() as u64;
    assert!(counted > 100, "only {counted} visits");
    // Every acknowledged visit was counted once. A visitor who was on the way when the test ended may have been, too.
    let last = number(&kubectl, &address);
    assert!((first + 2 + counted..=first + 2 + counted + 8).contains(&last), "{counted} visits after {first}, but the last is {last}");

    cluster.server.end(Signal::SIGINT);
    cluster.server.launch();
    cluster.wait_for_node();
    kubectl.sh("kubectl -n visits rollout status deployment/postgres --timeout=180s && kubectl -n visits rollout status deployment/web --timeout=180s").ok();
    let last = number(&kubectl, &address);

    // The server and all of PostgreSQL killed at once: what was acknowledged was on the claim's volume by then.
    cluster.server.end(Signal::SIGKILL);
    let processes = cluster.remains().processes;
    let of_database = processes.iter().filter(|process| process.command.contains("postgres"));
    for process in of_database {
        // A child may have ended with its parent.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    cluster.server.launch();
    cluster.wait_for_node();
    testkit::wait_until("visits are counted on", 2 * SOON, || {
        let answer = kubectl.sh(&format!("curl -fsS --max-time 10 http://{address}/"));
        answer.success && answer.stdout.starts_with("visit ")
    });
    assert!(number(&kubectl, &address) > last);
}
