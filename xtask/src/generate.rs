//! `cargo xtask gen`: the pages and definitions that are made from the code.
use anyhow::{Context, Result, bail};
use clap::{Args, Command};
use settings::{AgentArgs, ServerArgs};
use std::fmt::Write;
use std::path::Path;

const SETTINGS: &str = "docs/settings.md";

/// What is generated: path and text.
fn pages(root: &Path) -> Result<Vec<(String, String)>> {
    let mut pages = vec![(SETTINGS.to_owned(), settings_page()), (crate::kinds::PAGE.to_owned(), crate::kinds::page())];
    pages.extend(crate::definitions::pages(root)?);
    Ok(pages)
}

/// Pages whose committed text is not what the code makes now.
pub fn stale(root: &Path) -> Result<Vec<String>> {
    let stale = pages(root)?.into_iter().filter(|(path, text)| std::fs::read_to_string(root.join(path)).ok().as_ref() != Some(text));
    Ok(stale.map(|(path, _)| format!("{path} is out of date; run `cargo xtask gen`")).collect())
}

pub fn main(check: bool) -> Result<()> {
    let root = crate::root();
    if check {
        let stale = stale(root)?;
        if !stale.is_empty() {
            bail!("{}", stale.join("\n"));
        }
        return Ok(());
    }
    for (path, text) in pages(root)? {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().context("a page lies in a folder")?)?;
        std::fs::write(&path, text).with_context(|| format!("writing {path:?}"))?;
    }
    Ok(())
}

fn settings_page() -> String {
    let mut page = String::from(
        "# Settings of `k8shost server`\n\n\
        Each can be given as a flag, as an environment variable, or by the flag's name in the YAML file that `--config` names.\n\
        A flag wins over the environment, which wins over the file. An unknown name or a bad value stops the server before anything starts.\n\n",
    );
    settings_table(&mut page, &ServerArgs::augment_args(Command::new("server")));
    page.push_str("\n# Settings of `k8shost agent`\n\nThey are given in the same ways.\n\n");
    settings_table(&mut page, &AgentArgs::augment_args(Command::new("agent")));
    page
}

fn settings_table(page: &mut String, command: &Command) {
    page.push_str("| flag | meaning | default | environment |\n|---|---|---|---|\n");
    for argument in command.get_arguments() {
        let flag = argument.get_long().expect("every setting is a flag");
        let value = match argument.get_value_names() {
            // A switch's value may be left out, so the flag alone says it.
            Some([name]) if name.as_str() != "BOOL" => format!(" {name}"),
            _ => String::new(),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let (help, environment) = bracketed(&help, "env");
        let (help, default) = bracketed(&help, "default");
        writeln!(page, "| `--{flag}{value}` | {help} | {default} | `{environment}` |").expect("a string takes everything");
    }
}

/// Takes ` [name: value]` off a help text.
fn bracketed(help: &str, name: &str) -> (String, String) {
    let opening = format!(" [{name}: ");
    let found = help.split_once(&opening).and_then(|(before, rest)| Some((before, rest.split_once(']')?)));
    match found {
        Some((before, (value, after))) => (format!("{before}{after}"), value.to_owned()),
        None => (help.to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_variables_are_taken_out_of_the_help() {
        assert_eq!(bracketed("Port [default: 6443] [env: PORT]", "default"), ("Port [env: PORT]".into(), "6443".into()));
        assert_eq!(bracketed("Port", "env"), ("Port".into(), String::new()));
    }
}
