//! The probes of a pod's containers: which run, and what adopted containers bring along.
use super::Worker;
use crate::pod::containers;
use crate::pod::probe_results::ProbeKind;
use crate::pod::runtime_state::RunState;
use crate::pod::status::container_id;
use crate::probe::{ActionTarget, ProbeTarget, run_probe};
use jiff::Timestamp;
use std::time::Duration;

impl Worker {
    /// Containers adopted from an earlier agent keep what was known of them.
    pub(super) fn adopt_results(&mut self) {
        for record in self.runtime.containers.iter().filter(|c| c.state == RunState::Running) {
            let id = container_id(&record.id);
            let lists = [&self.known.container_statuses, &self.known.init_container_statuses];
            let Some(before) = lists.into_iter().flatten().flatten().find(|s| s.container_id.as_ref() == Some(&id)) else { continue };
            if before.started == Some(true) && self.probes.get(&record.id, ProbeKind::Startup).is_none() {
                self.probes.set(&record.id, ProbeKind::Startup, true);
            }
            if before.ready && self.probes.get(&record.id, ProbeKind::Readiness).is_none() {
                self.probes.set(&record.id, ProbeKind::Readiness, true);
            }
        }
    }

    /// Starts the probes that are due, and ends those of containers that ended.
    pub(super) fn run_probers(&mut self, now: Timestamp) {
        let runtime = &self.runtime;
        self.probers.retain(|(id, _), prober| {
            let keep = runtime.container(id).is_some_and(|c| c.state == RunState::Running);
            if !keep {
                prober.abort();
            }
            keep
        });
        let address = self.address();
        for record in self.runtime.containers.iter().filter(|c| c.state == RunState::Running) {
            if self.busy.kills.contains(&record.id) {
                continue;
            }
            let Some((container, _)) = containers::find(&self.pod, &record.name) else { continue };
            for kind in ProbeKind::ALL {
                let Some(probe) = kind.of(&container) else { continue };
                let started = self.probes.has_started(&container, &record.id);
                let key = (record.id.clone(), kind);
                let wanted = match kind {
                    ProbeKind::Startup => !started && self.probes.get(&record.id, kind).is_none(),
                    // A pod that ends is still taken out of Services by its readiness, but not ended for its liveness.
                    ProbeKind::Liveness => started && self.ending.is_none() && self.probes.get(&record.id, kind) != Some(false),
                    ProbeKind::Readiness => started,
                };
                if !wanted || self.probers.contains_key(&key) {
                    continue;
                }
                let target = ProbeTarget {
                    action: ActionTarget {
                        runtime: self.context.runtime.clone(),
                        container_id: record.id.clone(),
                        container: container.clone().into_owned(),
                        address: address.clone(),
                    },
                    kind,
                    probe: probe.clone(),
                    running_for: record.started_at.and_then(|at| Duration::try_from(now.duration_since(at)).ok()).unwrap_or_default(),
                    known: self.probes.get(&record.id, kind),
                };
                let prober = tokio::spawn(run_probe(target, self.reports.clone())).abort_handle();
                self.probers.insert(key, prober);
            }
        }
    }
}
