//! MovedClock: the time of day as a server sees it, moved by a test while the server runs (Debian's libfaketime).
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIBRARY: &str = "/usr/lib/*/faketime/libfaketimeMT.so.1";

/// A clock that is as far ahead of the machine's as the test says. What a process waits for is not made shorter.
pub struct MovedClock {
    offset: PathBuf,
    library: PathBuf,
}

impl MovedClock {
    /// Right, so far. `directory` has to last as long as the processes.
    pub fn new(directory: &Path) -> Self {
        let found = glob(LIBRARY).unwrap_or_else(|| panic!("{LIBRARY} is not there: xtask/install.sh installs it"));
        let clock = Self { offset: directory.join("clock"), library: found };
        clock.set_ahead(Duration::ZERO);
        clock
    }

    /// What a process needs in its environment to go by this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_RESET", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Sets it so much ahead; processes see it within a second.
    pub fn set_ahead(&self, by: Duration) {
        let next = self.offset.with_extension("next");
        std::fs::write(&next, format!("+{}s\n", by.as_secs())).expect("the clock can be written");
        std::fs::rename(next, &self.offset).expect("the clock can be replaced");
    }
}

/// The only file of a pattern with one star for a whole name.
fn glob(pattern: &str) -> Option<PathBuf> {
    let (before, after) = pattern.split_once("/*/")?;
    std::fs::read_dir(before).ok()?.filter_map(|entry| Some(entry.ok()?.path().join(after))).find(|path| path.exists())
}
