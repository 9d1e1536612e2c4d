//! Settings of the engine: sizes of its buffers and how values are stamped.
use store::Stamp;

#[derive(Clone, Copy, Debug)]
pub struct SqliteOptions {
    /// Writes a revision into a value for readers; the file holds values without it.
    pub stamp: Stamp,
    /// Events a watcher may fall behind before it is dropped as too slow; at least 2.
    pub watch_buffer: usize,
    /// Events kept in memory for watches and ranges that start in the recent past.
    pub recent_events: usize,
    /// Bytes of values those events may hold on to.
    pub recent_bytes: usize,
    /// Most transactions committed together.
    pub batch: usize,
    /// Size the database may grow to; beyond it writes fail as they do on a full disk. `None`: the disk decides.
    pub max_bytes: Option<u64>,
}

impl SqliteOptions {
    pub fn new(stamp: Stamp) -> Self {
        Self { stamp, watch_buffer: 4096, recent_events: 16_384, recent_bytes: 8 << 20, batch: 1024, max_bytes: None }
    }
}
