//! ServerArgs: the flags of `k8shost server`, as clap sees them.
use crate::setting::{SERVER, SettingKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;

/// The flags that were given, by name. For `#[command(flatten)]` or a subcommand's `Server(ServerArgs)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerArgs {
    pub(crate) values: BTreeMap<&'static str, Vec<String>>,
}

impl ServerArgs {
    /// Sets one flag, as if it had been given. Unknown names are ignored.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        if let Some(setting) = SERVER.iter().find(|setting| setting.name == name) {
            self.values.entry(setting.name).or_default().push(value.into());
        }
        self
    }
}

impl clap::Args for ServerArgs {
    fn augment_args(command: Command) -> Command {
        SERVER.iter().fold(command, |command, setting| {
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

impl clap::FromArgMatches for ServerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |name: &'static str| Some((name, matches.get_many::<String>(name)?.cloned().collect()));
        Ok(Self { values: SERVER.iter().filter_map(|setting| given(setting.name)).collect() })
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.values.extend(Self::from_arg_matches(matches)?.values);
        Ok(())
    }
}
