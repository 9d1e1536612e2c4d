//! Output: lists as tables, JSON, YAML or names.
use crate::Session;
use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Json,
    Yaml,
    Name,
    Wide,
}

/// Prints a collection; `singular` is what names are prefixed with, and `columns` (their names and paths) what a table
/// has where the server makes none.
pub async fn list(session: &Session, path: &str, singular: &str, columns: &[(&str, &str)], format: Option<Format>) -> Result<()> {
    match format {
        None | Some(Format::Wide) if session.is_placed() => print!("{}", table(&own_table(&session.get(path).await?, columns), format.is_some())),
        None | Some(Format::Wide) => print!("{}", table(&session.table(path).await?, format.is_some())),
        Some(Format::Json) => println!("{:#}", session.get(path).await?),
        Some(Format::Yaml) => print!("{}", serde_saphyr::to_string(&session.get(path).await?)?),
        Some(Format::Name) => {
            for item in session.get(path).await?["items"].as_array().into_iter().flatten() {
                println!("{singular}/{}", item["metadata"]["name"].as_str().unwrap_or_default());
            }
        }
    }
    Ok(())
}

/// A list as a Table, as a server would make it.
fn own_table(list: &Value, columns: &[(&str, &str)]) -> Value {
    let names = ["Name"].into_iter().chain(columns.iter().map(|(name, _)| *name));
    let rows = list["items"].as_array().into_iter().flatten().map(|item| {
        let cell = |path: &str| path.split('.').filter(|part| !part.is_empty()).fold(item, |value, part| &value[part]).clone();
        let cells: Vec<Value> = ["metadata.name"].into_iter().chain(columns.iter().map(|(_, path)| *path)).map(cell).collect();
        json!({ "cells": cells, "object": {} })
    });
    json!({"columnDefinitions": names.map(|name| json!({ "name": name })).collect::<Vec<_>>(), "rows": rows.collect::<Vec<_>>()})
}

/// A server's Table as text, with the namespace in front when there is one. Columns of lower rank only when all are asked for.
fn table(table: &Value, all: bool) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let columns = list(&table["columnDefinitions"]);
    let shown: Vec<usize> = (0..columns.len()).filter(|at| all || columns[*at]["priority"].as_i64().unwrap_or_default() == 0).collect();
    let rows = list(&table["rows"]);
    let namespaced = rows.iter().any(|row| row["object"]["metadata"]["namespace"].is_string());
    let cell = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    };
    let mut lines = vec![shown.iter().map(|at| cell(&columns[*at]["name"]).to_uppercase()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| shown.iter().map(|at| cell(&row["cells"][*at])).collect()));
    if namespaced {
        lines[0].insert(0, "NAMESPACE".to_owned());
        for (line, row) in lines[1..].iter_mut().zip(&rows) {
            line.insert(0, cell(&row["object"]["metadata"]["namespace"]));
        }
    }
    if rows.is_empty() {
        return "No resources found\n".to_owned();
    }
    let widths: Vec<usize> = (0..lines[0].len()).map(|at| lines.iter().map(|line| line[at].len()).max().unwrap_or_default()).collect();
    let render = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(render).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_wide_shows_all() {
        let answer = json!({
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Mode"}, {"name": "More", "priority": 1}],
            "rows": [
                {"cells": ["a", "shared", 1], "object": {"metadata": {"namespace": "team"}}},
                {"cells": ["longer", null, 2], "object": {"metadata": {"namespace": "other"}}},
            ],
        });
        assert_eq!(table(&answer, false), "NAMESPACE   NAME     MODE\nteam        a        shared\nother       longer   <none>\n");
        assert!(table(&answer, true).lines().all(|line| line.split_whitespace().count() == 4));
        assert_eq!(table(&json!({"rows": []}), false), "No resources found\n");
    }
}
