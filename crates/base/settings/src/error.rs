//! What can be wrong with settings.
use crate::Source;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("reading config file `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("config file `{}`: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("config file `{}`: unknown setting `{key}`{hint}", path.display())]
    Unknown { path: PathBuf, key: String, hint: String },
    /// The setting's value is wrong; where it was set.
    #[error("{name} ({source_of}): {why}")]
    Invalid { name: &'static str, source_of: Source, why: String },
}
