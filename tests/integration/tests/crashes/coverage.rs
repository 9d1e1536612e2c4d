//! Coverage: every controller there is has a story.
use crate::STORIES;
use api_client::{Clients, kube};
use api_meta::ClusterName;
use clock::SystemClock;
use controller_kit::{CancellationToken, Kit, Selection, Source, SourceEvent};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeSet;
use std::sync::Arc;

/// They write nothing to the API.
const WITHOUT_WRITES: [&str; 1] = ["csi-orphans"];

/// Nothing is asked and nothing told.
struct Silent;

impl Source for Silent {
    fn follow(&self, _: Selection) -> BoxStream<'static, SourceEvent> {
        futures::stream::pending().boxed()
    }
}

impl Clients for Silent {
    fn cluster(&self, _: &ClusterName) -> kube::Client {
        unreachable!("no controller is begun")
    }
}

#[tokio::test]
async fn every_controller_has_a_story() {
    let stories: Vec<_> = STORIES.iter().map(|story| story()).collect();
    let told: BTreeSet<&str> = stories.iter().flat_map(|story| story.of.iter().copied()).collect();
    let mut there = BTreeSet::new();
    for story in &stories {
        let kit = Kit::new(Arc::new(Silent), Arc::new(Silent), Arc::new(SystemClock));
        let rosters = story.rosters(&kit, &CancellationToken::new()).await;
        there.extend(rosters.iter().flat_map(|roster| roster.names()).filter(|name| !WITHOUT_WRITES.contains(name)));
    }
    assert_eq!(told.symmetric_difference(&there).collect::<Vec<_>>(), Vec::<&&str>::new(), "controllers without a story, or stories without their controller");
    // What a server runs only where it is set to, and controllers of crates beside, some story has.
    let only_some: [fn(&crate::story::Story) -> bool; 5] = [
        |story| story.settings.signer.is_some(),
        |story| story.settings.token_signer.is_some(),
        |story| !story.settings.node_ranges.is_empty(),
        |story| story.settings.dns_port.is_some(),
        |story| story.others.is_some(),
    ];
    assert!(only_some.iter().all(|has| stories.iter().any(has)));
}
