//! Plugins: upstream's names of filters, and sets of them.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Plugin {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    NodeVolumeLimits,
    VolumeBinding,
    PodTopologySpread,
    InterPodAffinity,
    DynamicResources,
}

/// A set of plugins: those that refused a pod, or those a change may have made yield.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Plugins(u16);

impl Plugins {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u16::MAX);

    pub const fn of(plugins: &[Plugin]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < plugins.len() {
            bits |= 1 << plugins[at] as u8;
            at += 1;
        }
        Self(bits)
    }
    pub fn insert(&mut self, plugin: Plugin) {
        self.0 |= 1 << plugin as u8;
    }
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Whether they have one in common. A pod that no plugin refused yields to any change.
    pub fn meets(self, change: Self) -> bool {
        self.0 & change.0 != 0 || (self.is_empty() && !change.is_empty())
    }
}
