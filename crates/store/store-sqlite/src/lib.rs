//! store-sqlite: the embedded store engine, for one server with its data in one SQLite file.
//!
//! Every version of every key is a row of one table (`schema`). One writer thread (`writer`) takes all
//! waiting transactions, decides them (`batch`) and commits them together; then the live records in memory
//! (`live`) are updated and watchers told (`hub`). Reads of the present never touch SQLite; reads of the
//! past use the recent events (`recent`) and, beyond them, the table (`history`).

mod batch;
#[cfg(feature = "bench")]
pub mod bench;
mod catch_up;
mod error;
mod history;
mod hub;
mod live;
mod options;
mod queue;
mod recent;
mod reseal;
mod schema;
mod shared;
mod span;
mod sqlite_store;
mod sweep;
mod watchers;
mod writer;

pub use error::SqliteError;
pub use options::SqliteOptions;
pub use sqlite_store::SqliteStore;
