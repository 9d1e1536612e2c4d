//! What can go wrong with the database; above the store it is the cause inside `StoreError::Engine`.
use std::path::PathBuf;
use std::sync::Arc;
use store::{Key, SealError, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    #[error("store `{}` is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("cannot open store `{}`", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error("`{}` is not a k8shost store", path.display())]
    Foreign { path: PathBuf },
    #[error("store `{}` has format {found}, written by a newer version; this version knows {known}", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("store `{}` is damaged: {source}", path.display())]
    Damaged { path: PathBuf, source: rusqlite::Error },
    #[error("store is damaged: {0}")]
    BadRow(String),
    /// Shared by all transactions that were to be committed together.
    #[error("cannot commit: {0}")]
    Commit(#[source] Arc<SqliteError>),
    #[error("key `{0}` is not of the form /cluster/group/resource/namespace/name")]
    MalformedKey(Key),
    #[error("key `{0}` is written twice in one transaction")]
    WrittenTwice(Key),
    #[error("{0} operations are too many for one transaction; the limit is {limit}", limit = crate::schema::MAX_OPS)]
    TooManyOps(usize),
    #[error("cannot read or write the value of `{key}` in row {row}: {source}")]
    Seal { key: Key, row: i64, source: SealError },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl From<SqliteError> for StoreError {
    fn from(error: SqliteError) -> Self {
        Self::Engine(Box::new(error))
    }
}
