//! EvictionThresholds: how little memory and disk may be left before the node is under pressure, as `--eviction-hard` says it.
use crate::machine::FileSystem;
use api_meta::Quantity;

/// Upstream's defaults on Linux.
const DEFAULTS: &str = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%";

/// An amount, or a part of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Least {
    Amount(u64),
    Percent(f64),
}

impl Least {
    fn of(self, total: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            Self::Percent(percent) => (total as f64 * percent / 100.0) as u64,
        }
    }
}

/// A signal that is not named has no threshold.
///
/// Images lie on the file system of the node here, so that the stricter of `nodefs` and `imagefs` holds for it.
#[derive(Clone, Debug, PartialEq)]
pub struct EvictionThresholds(Vec<(String, Least)>);

impl Default for EvictionThresholds {
    fn default() -> Self {
        Self::parse(DEFAULTS).expect("the defaults are written as thresholds are")
    }
}

impl EvictionThresholds {
    /// Reads `signal<least,...`, where least is a quantity or a percentage.
    ///
    /// # Errors
    /// What is wrong with the text: an unknown signal, an operator other than `<`, a signal named twice, no quantity.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut all: Vec<(String, Least)> = Vec::new();
        for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
            let (signal, least) = term.split_once('<').ok_or_else(|| format!("threshold {term:?} is not written as signal<quantity"))?;
            if !matches!(signal, "memory.available" | "nodefs.available" | "nodefs.inodesFree" | "imagefs.available" | "imagefs.inodesFree") {
                return Err(format!("unsupported eviction signal {signal:?}"));
            }
            if all.iter().any(|(known, _)| known == signal) {
                return Err(format!("eviction signal {signal:?} is named twice"));
            }
            let least = match least.strip_suffix('%') {
                Some(percent) => match percent.parse() {
                    Ok(percent) if (0.0..=100.0).contains(&percent) => Least::Percent(percent),
                    _ => return Err(format!("eviction percentage threshold {signal:?} must be between 0% and 100%, not {least:?}")),
                },
                None => match Quantity::parse(least).map(|quantity| quantity.units()) {
                    Ok(amount) => Least::Amount(u64::try_from(amount).map_err(|_| format!("eviction threshold {signal:?} must be positive, not {least:?}"))?),
                    Err(why) => return Err(format!("eviction threshold {signal:?}: {why}")),
                },
            };
            all.push((signal.to_owned(), least));
        }
        Ok(Self(all))
    }

    /// Memory that pods are not given.
    pub fn memory(&self, total: u64) -> u64 {
        self.least("memory.available", total)
    }

    /// Disk that pods are not given.
    pub fn disk(&self, total: u64) -> u64 {
        self.least("nodefs.available", total)
    }

    pub fn little_memory(&self, available: u64, total: u64) -> bool {
        available < self.memory(total)
    }

    pub fn little_disk(&self, fs: &FileSystem) -> bool {
        let bytes = ["nodefs.available", "imagefs.available"].map(|signal| self.least(signal, fs.capacity));
        let inodes = ["nodefs.inodesFree", "imagefs.inodesFree"].map(|signal| self.least(signal, fs.inodes));
        // Some file systems have no fixed number of inodes.
        bytes.iter().any(|least| fs.available < *least) || (fs.inodes > 0 && inodes.iter().any(|least| fs.inodes_free < *least))
    }

    fn least(&self, signal: &str, total: u64) -> u64 {
        self.0.iter().find(|(known, _)| known == signal).map_or(0, |(_, least)| least.of(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_upstream_writes_them() {
        let own = EvictionThresholds::parse("memory.available<1Gi, nodefs.available<2.5%").unwrap();
        assert_eq!((own.memory(8 << 30), own.disk(1000)), (1 << 30, 25));
        let full = FileSystem { capacity: 1000, available: 20, inodes: 100, inodes_free: 0 };
        assert!(own.little_disk(&full));
        assert!(!own.little_disk(&FileSystem { available: 30, ..full }), "inodes have no threshold now");
        for (text, why) in [
            ("memory.available>1Gi", "threshold \"memory.available>1Gi\" is not written as signal<quantity"),
            ("cpu<1", "unsupported eviction signal \"cpu\""),
            ("nodefs.available<101%", "eviction percentage threshold \"nodefs.available\" must be between 0% and 100%, not \"101%\""),
            ("nodefs.available<1%,nodefs.available<2%", "eviction signal \"nodefs.available\" is named twice"),
        ] {
            assert_eq!(EvictionThresholds::parse(text).unwrap_err(), why);
        }
    }

    #[test]
    fn images_need_more_room_than_the_rest_by_default() {
        let of = |available| EvictionThresholds::default().little_disk(&FileSystem { capacity: 100, available, inodes: 0, inodes_free: 0 });
        assert_eq!((of(14), of(15)), (true, false));
    }
}
