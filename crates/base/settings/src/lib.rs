//! Every setting: default < file < environment < flag, checked before anything starts.

mod agent_settings;
mod config_file;
mod error;
mod server_args;
mod server_settings;
mod setting;

pub use agent_settings::{AgentSettings, Taint};
pub use error::SettingsError;
pub use server_args::{AgentArgs, ServerArgs};
pub use server_settings::{COMPONENTS, DEFAULT_CONFIG_FILE, NODE_PREFIX_V6, PortRange, ServerSettings};
pub use setting::{Setting, SettingKind, Source};
