//! The flags of `k8shost server` and `k8shost agent`, as clap sees them.
use crate::Setting;
use crate::setting::{AGENT, SERVER, SettingKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Which command's settings these are.
pub trait Table {
    const SETTINGS: &'static [Setting];
}

/// `k8shost server`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTable;
impl Table for ServerTable {
    const SETTINGS: &'static [Setting] = SERVER;
}

/// `k8shost agent`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentTable;
impl Table for AgentTable {
    const SETTINGS: &'static [Setting] = AGENT;
}

/// The flags that were given, by name. For `#[command(flatten)]` or a subcommand's `Server(ServerArgs)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given<T> {
    pub(crate) values: BTreeMap<&'static str, Vec<String>>,
    table: PhantomData<T>,
}

pub type ServerArgs = Given<ServerTable>;
pub type AgentArgs = Given<AgentTable>;

impl<T: Table> Given<T> {
    /// Sets one flag, as if it had been given. Unknown names are ignored.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Some(setting) = T::SETTINGS.iter().find(|setting| setting.name == name) {
            self.values.entry(setting.name).or_default().push(value.into());
        }
        self
    }
}

impl<T: Table> clap::Args for Given<T> {
    fn augment_args(command: Command) -> Command {
        T::SETTINGS.iter().fold(command, |command, setting| {
            let mut help = setting.help.to_owned();
            if !setting.default.is_empty() {
                help.push_str(&format!(" [default: {}]", setting.default));
            }
            help.push_str(&format!(" [env: {}]", setting.variable()));
            let arg = Arg::new(setting.name).long(setting.name).help(help);
            command.arg(match setting.kind {
                SettingKind::Text => arg.value_name(setting.value_name).action(ArgAction::Set),
                SettingKind::List | SettingKind::Arguments => arg.value_name(setting.value_name).action(ArgAction::Append),
                // `--disable-agent` and `--disable-agent=false`, as k3s takes them.
                SettingKind::Switch => arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL"),
            })
        })
    }
    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Table> clap::FromArgMatches for Given<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &'static str| Some((name, matches.get_many::<String>(name)?.cloned().collect()));
        Ok(Self { values: T::SETTINGS.iter().filter_map(|setting| given(setting.name)).collect(), table: PhantomData })
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.values.extend(Self::from_arg_matches(matches)?.values);
        Ok(())
    }
}
