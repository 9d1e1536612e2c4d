//! containerd as the agent's own runtime: configuration, process, images, events.

mod archive;
mod config;
mod events;
mod import;
mod pause;
mod process;

pub use config::ContainerdSettings;
pub use events::{RuntimeEvent, RuntimeEvents};
pub use import::{ImportError, import, import_archive};
pub use pause::{SANDBOX_IMAGE, import_sandbox_image};
pub use process::ContainerdProcess;
