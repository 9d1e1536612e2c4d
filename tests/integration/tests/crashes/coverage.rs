//! Coverage: every controller there is has a story.
use crate::STORIES;
use api_client::{Clients, kube};
use api_meta::ClusterName;
use clock::SystemClock;
use controller_kit::{Kit, Selection, Source, SourceEvent};
use controllers::ControllersSettings;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::collections::BTreeSet;
use std::sync::Arc;

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
    let mut settings = ControllersSettings::new("PEM");
    // What only some servers run, some story has.
    settings.signer = stories.iter().find_map(|story| story.settings.signer.clone());
    settings.token_signer = stories.iter().find_map(|story| story.settings.token_signer.clone());
    settings.node_ranges = stories.iter().find_map(|story| story.settings.node_ranges.clone());
    settings.dns_port = stories.iter().find_map(|story| story.settings.dns_port);
    assert!(settings.signer.is_some() && settings.token_signer.is_some() && settings.node_ranges.is_some() && settings.dns_port.is_some());
    let kit = Kit::new(Arc::new(Silent), Arc::new(Silent), Arc::new(SystemClock));
    let there: BTreeSet<&str> = controllers::names(&settings, &kit).into_iter().collect();
    assert_eq!(told.symmetric_difference(&there).collect::<Vec<_>>(), Vec::<&&str>::new(), "controllers without a story, or stories without their controller");
}
