//! Probe results: what each container's probes last said.
use k8s_openapi::api::core::v1::{Container, Probe};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    /// A container's probe of this kind.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
    /// As events begin: "Liveness".
    pub fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// Results past their thresholds, by container id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeResults(BTreeMap<(String, ProbeKind), bool>);

impl ProbeResults {
    /// Success, failure, or `None` while it is not known yet.
    pub fn get(&self, container: &str, kind: ProbeKind) -> Option<bool> {
        self.0.get(&(container.to_owned(), kind)).copied()
    }
    pub fn set(&mut self, container: &str, kind: ProbeKind, success: bool) {
        self.0.insert((container.to_owned(), kind), success);
    }
    /// Forgets containers for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(container, _), _| keep(container));
    }

    /// Whether a running container has started: at once, or when its startup probe says so.
    pub fn has_started(&self, spec: &Container, id: &str) -> bool {
        spec.startup_probe.is_none() || self.get(id, ProbeKind::Startup) == Some(true)
    }
    /// Whether a running container is ready.
    pub fn is_ready(&self, spec: &Container, id: &str) -> bool {
        self.has_started(spec, id) && (spec.readiness_probe.is_none() || self.get(id, ProbeKind::Readiness) == Some(true))
    }
}
