//! Authorizer: who is asked whether a request may be carried out, in order, until somebody decides.
mod conditions;
mod configuration;
#[cfg(test)]
mod tests;
mod webhook;

use crate::metrics::Decisions;
use crate::user::MASTERS;
use crate::{Attributes, Decision, NodeAuthorizer, RbacIndex, Reviewers, User};
use api_meta::ClusterName;
use clock::Clock;
use configuration::Mode;
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::sync::Arc;
use webhook::WebhookAuthorizer;

/// `system:masters` first; then nodes and RBAC, or whom the file says (in the host cluster). Who gets no Allow is refused.
pub struct Authorizer {
    nodes: Arc<NodeAuthorizer>,
    rbac: Arc<RbacIndex>,
    /// The order of all clusters that no file speaks for.
    usual: Arc<Vec<Step>>,
    configured: Option<Configuration>,
}

/// What the file says now. A new one takes its place as a whole.
struct Configuration {
    reviewers: Box<dyn Reviewers>,
    clock: Arc<dyn Clock>,
    /// Those of the start that are no webhooks: they have to stay, and no others may come.
    fixed: BTreeSet<&'static str>,
    steps: RwLock<Arc<Vec<Step>>>,
}

struct Step {
    who: Who,
    decisions: Decisions,
}

enum Who {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(Box<WebhookAuthorizer>),
}

impl Authorizer {
    pub fn new(rbac: Arc<RbacIndex>) -> Self {
        let step = |who, kind: &str| Step { who, decisions: Decisions::of(kind, &kind.to_lowercase()) };
        let usual = Arc::new(vec![step(Who::Node, "Node"), step(Who::Rbac, "RBAC")]);
        Self { nodes: Arc::new(NodeAuthorizer::default()), rbac, usual, configured: None }
    }

    /// Asks whom an AuthorizationConfiguration names, in the host cluster.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub async fn with_configuration(mut self, text: &str, reviewers: Box<dyn Reviewers>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let mut configuration = Configuration { reviewers, clock, fixed: BTreeSet::new(), steps: RwLock::default() };
        let (steps, fixed) = configuration.steps_of(text).await?;
        configuration.fixed = fixed;
        *configuration.steps.write() = Arc::new(steps);
        self.configured = Some(configuration);
        Ok(self)
    }

    /// Puts what `text` says into the place of what was said before; all stays as it is when that is wrong.
    pub async fn replace(&self, text: &str) -> Result<(), String> {
        let Some(configuration) = &self.configured else { return Ok(()) };
        let (steps, present) = configuration.steps_of(text).await?;
        if let Some(new) = present.iter().find(|kind| !configuration.fixed.contains(*kind)) {
            return Err(format!("authorizer type {new} is not allowed if it was not enabled at initial server startup"));
        }
        *configuration.steps.write() = Arc::new(steps);
        Ok(())
    }

    pub fn rbac(&self) -> &Arc<RbacIndex> {
        &self.rbac
    }
    pub fn nodes(&self) -> &Arc<NodeAuthorizer> {
        &self.nodes
    }

    /// The decision, where nobody can wait for it but by blocking: a webhook's answer is waited for on this thread.
    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.in_group(MASTERS) {
            return Decision::Allow(String::new());
        }
        let steps = self.steps(attributes.cluster);
        if steps.iter().any(|step| matches!(step.who, Who::Webhook(_))) {
            let decided = self.decide(attributes);
            return tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(decided)).0;
        }
        let mut reasons = Reasons::default();
        for step in steps.iter() {
            match self.decided_here(&step.who, attributes) {
                Decision::NoOpinion(reason) => reasons.add(reason),
                decision => return step.last_word(decision),
            }
        }
        Decision::NoOpinion(reasons.joined())
    }

    /// The decision, and what went wrong on the way to it.
    pub async fn decide(&self, attributes: &Attributes<'_>) -> (Decision, Option<String>) {
        if attributes.user.in_group(MASTERS) {
            return (Decision::Allow(String::new()), None);
        }
        let (mut reasons, mut errors) = (Reasons::default(), Reasons::default());
        for step in self.steps(attributes.cluster).iter() {
            let (decision, error) = match &step.who {
                // On the heap, as few have any.
                Who::Webhook(webhook) => Box::pin(webhook.authorize(attributes)).await,
                here => (self.decided_here(here, attributes), None),
            };
            if let Some(error) = error {
                errors.add(error);
            }
            match decision {
                Decision::NoOpinion(reason) => reasons.add(reason),
                // Who lets in is right, whatever failed before.
                Decision::Allow(reason) => return (step.last_word(Decision::Allow(reason)), None),
                decision => return (step.last_word(decision), errors.into_error()),
            }
        }
        (Decision::NoOpinion(reasons.joined()), errors.into_error())
    }

    /// Why nobody can say all that a user may do; empty when somebody can.
    pub fn unresolvable(&self, cluster: &ClusterName, user: &User) -> Vec<&'static str> {
        let of_step = |step: &Step| match step.who {
            Who::Node if user.node().is_some() => Some("node authorizer does not support user rule resolution"),
            Who::Webhook(_) => Some("webhook authorizer does not support user rule resolution"),
            _ => None,
        };
        self.steps(cluster).iter().filter_map(of_step).collect()
    }

    fn steps(&self, cluster: &ClusterName) -> Arc<Vec<Step>> {
        match &self.configured {
            // Other clusters keep their own rules.
            Some(configuration) if cluster.is_root() => configuration.steps.read().clone(),
            _ => self.usual.clone(),
        }
    }

    fn decided_here(&self, who: &Who, attributes: &Attributes) -> Decision {
        match who {
            Who::AlwaysAllow => Decision::Allow(String::new()),
            Who::AlwaysDeny => Decision::NoOpinion("Everything is forbidden.".into()),
            Who::Node => self.nodes.authorize(attributes),
            Who::Rbac => self.rbac.authorize(attributes),
            Who::Webhook(_) => Decision::NoOpinion(String::new()),
        }
    }
}

impl Configuration {
    /// The steps that a text says, and the types among them that are no webhooks.
    async fn steps_of(&self, text: &str) -> Result<(Vec<Step>, BTreeSet<&'static str>), String> {
        let (mut steps, mut fixed) = (Vec::new(), BTreeSet::new());
        for configured in configuration::configured(text, &self.fixed)? {
            let decisions = Decisions::of(configured.mode.name(), &configured.name);
            if !matches!(configured.mode, Mode::Webhook(_)) {
                fixed.insert(configured.mode.name());
            }
            let who = match configured.mode {
                Mode::AlwaysAllow => Who::AlwaysAllow,
                Mode::AlwaysDeny => Who::AlwaysDeny,
                Mode::Node => Who::Node,
                Mode::Rbac => Who::Rbac,
                Mode::Webhook(settings) => {
                    let reviewer = self.reviewers.of_kubeconfig(&settings.kubeconfig, settings.timeout).await?;
                    Who::Webhook(Box::new(WebhookAuthorizer::new(configured.name, *settings, reviewer, self.clock.clone())))
                }
            };
            steps.push(Step { who, decisions });
        }
        Ok((steps, fixed))
    }
}

impl Step {
    fn last_word(&self, decision: Decision) -> Decision {
        match decision {
            Decision::Allow(_) => self.decisions.allowed.inc(),
            _ => self.decisions.denied.inc(),
        };
        decision
    }
}

/// What several authorizers had to say, without what is empty.
#[derive(Default)]
struct Reasons(Vec<String>);

impl Reasons {
    fn add(&mut self, reason: String) {
        if !reason.is_empty() {
            self.0.push(reason);
        }
    }
    fn joined(self) -> String {
        self.0.join(", ")
    }
    fn into_error(self) -> Option<String> {
        crate::configuration_file::aggregated(self.0).err()
    }
}
