//! The config file: YAML, one key a setting, one value or a list.
use crate::{Setting, SettingsError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    One(Scalar),
    Many(Vec<Scalar>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Text(value) => value,
        }
    }
}

/// The settings in a file's text. A key that is no setting is an error: it is a slip or meant for another version.
pub(crate) fn parse(table: &'static [Setting], path: &Path, text: &str) -> Result<BTreeMap<&'static str, Vec<String>>, SettingsError> {
    let entries: Option<BTreeMap<String, Option<Entry>>> =
        serde_saphyr::from_str(text).map_err(|error| SettingsError::File { path: path.to_owned(), why: error.to_string() })?;
    let mut values = BTreeMap::new();
    for (key, entry) in entries.unwrap_or_default() {
        let setting = table.iter().find(|setting| setting.name == key && setting.name != "config");
        let Some(Setting { name, .. }) = setting else {
            return Err(SettingsError::Unknown { path: path.to_owned(), hint: hint(table, &key), key });
        };
        match entry {
            Some(Entry::One(value)) => values.insert(*name, vec![value.into_text()]),
            Some(Entry::Many(list)) => values.insert(*name, list.into_iter().map(Scalar::into_text).collect()),
            None => None,
        };
    }
    Ok(values)
}

fn hint(table: &[Setting], key: &str) -> String {
    let dashed = key.replace('_', "-").to_lowercase();
    match table.iter().find(|setting| setting.name == dashed && dashed != key) {
        Some(setting) => format!(", did you mean `{}`?", setting.name),
        None => String::new(),
    }
}
