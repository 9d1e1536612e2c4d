//! Seal: how values are kept from whoever gets to see an engine's files.
use crate::Key;
use std::borrow::Cow;

/// Turns values into what an engine writes to disk and back. Memory holds values as they are.
///
/// A sealed value is bound to its key: what was sealed for one key does not open for another.
pub trait Seal: Send + Sync + 'static {
    /// Whether values of this key are sealed.
    fn covers(&self, key: &Key) -> bool;
    /// What to write for a value of a key that is covered.
    fn seal(&self, key: &Key, value: &[u8]) -> Result<Vec<u8>, SealError>;
    /// The value of what was written: sealed with any key that is still known, or never sealed.
    fn open<'a>(&self, key: &Key, written: &'a [u8]) -> Result<Cow<'a, [u8]>, SealError>;
    /// Whether this was sealed at all, with whatever key.
    fn is_sealed(&self, written: &[u8]) -> bool;
    /// Whether [`seal`](Self::seal) would seal with the same secret again; a plain value is not current.
    fn is_current(&self, written: &[u8]) -> bool;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("it is sealed with the key {0:?}, which is not known")]
    UnknownKey(String),
    #[error("it was damaged, or sealed as the value of something else")]
    NotAuthentic,
    #[error("its seal can't be read")]
    Malformed,
    #[error("sealing failed")]
    Failed,
}
