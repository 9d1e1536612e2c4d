//! `cluster export` and `cluster import`.
use super::kubeconfig::kubeconfig_by_path;
use super::{MANAGER, Place, dump};
use crate::cluster::{Known, objects};
use anyhow::{Context, Result, bail};
use api_client::has_code;
use clap::Args;
use command_line::{Connection, Session, texts};
use controller_kit::Error;
use serde_json::Value;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Objects asked for at a time.
const PAGE: usize = 500;
/// Between attempts to apply an object whose kind is being introduced.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Args, Clone, Debug)]
pub struct Export {
    name: String,
    #[command(flatten)]
    place: Place,
    /// Write to this file instead of printing; it is for its owner alone, as Secrets are in it
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Args, Clone, Debug)]
pub struct Import {
    name: String,
    /// Manifests; `-` reads them from standard input
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// How long objects may wait for their kinds or namespaces, e.g. 10s, 5m, 1h
    #[arg(long, default_value = "1m", value_parser = texts::duration)]
    timeout: Duration,
}

/// A session with the cluster itself, as its administrator.
async fn inside(connection: &Connection, place: &Place, name: &str) -> Result<Session> {
    let host = Session::open(connection, MANAGER).await?;
    Session::of_text(&kubeconfig_by_path(&host, &place.of(name), name, None).await?, MANAGER).await
}

impl Export {
    pub async fn run(&self, connection: &Connection) -> Result<()> {
        let session = inside(connection, &self.place, &self.name).await?;
        let mut found = Vec::new();
        for (api_version, kind, path) in resources(&session).await? {
            let mut next = String::new();
            loop {
                let page = session.get(&format!("{path}?limit={PAGE}{next}")).await.with_context(|| format!("listing {path}"))?;
                for mut item in page["items"].as_array().cloned().unwrap_or_default() {
                    // Items of a list do not say what they are.
                    item["apiVersion"] = api_version.clone().into();
                    item["kind"] = kind.clone().into();
                    found.extend(dump::plain(item));
                }
                match page["metadata"]["continue"].as_str() {
                    Some(token) if !token.is_empty() => next = format!("&continue={token}"),
                    _ => break,
                }
            }
        }
        let documents: Result<Vec<String>, _> = dump::ordered(found).iter().map(serde_saphyr::to_string).collect();
        let text: String = documents?.iter().map(|document| format!("---\n{document}")).collect();
        match &self.file {
            Some(path) => pki::write_atomically(path, text.as_bytes(), 0o600).with_context(|| format!("writing {path:?}"))?,
            None => std::io::stdout().write_all(text.as_bytes())?,
        }
        Ok(())
    }
}

/// Version, kind and path of everything that can be listed and made, each in the version its group prefers.
async fn resources(session: &Session) -> Result<Vec<(String, String, String)>> {
    let groups = session.get("/apis").await.context("asking for the groups of kinds")?;
    let preferred = groups["groups"].as_array().into_iter().flatten().filter_map(|group| group["preferredVersion"]["groupVersion"].as_str());
    let mut all = Vec::new();
    for version in std::iter::once("v1").chain(preferred) {
        let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let list = session.get(&root).await.with_context(|| format!("asking for the kinds of {version}"))?;
        for resource in list["resources"].as_array().into_iter().flatten() {
            let (name, kind) = (resource["name"].as_str().unwrap_or_default(), resource["kind"].as_str().unwrap_or_default());
            let can = |verb: &str| resource["verbs"].as_array().is_some_and(|verbs| verbs.iter().any(|other| other == verb));
            if !name.contains('/') && can("list") && can("create") && dump::is_wanted(group, name) {
                all.push((version.to_owned(), kind.to_owned(), format!("{root}/{name}")));
            }
        }
    }
    Ok(all)
}

impl Import {
    pub async fn run(&self, connection: &Connection) -> Result<()> {
        let mut text = String::new();
        if self.file.as_os_str() == "-" {
            std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        } else {
            text = std::fs::read_to_string(&self.file).with_context(|| format!("reading {:?}", self.file))?;
        }
        // All of it is read before anything is applied.
        let objects = objects(&text).map_err(anyhow::Error::msg)?;
        let session = inside(connection, &self.place, &self.name).await?;
        let applying = async {
            let mut known = Known::new(&session.client);
            for object in &objects {
                apply(&session, &mut known, object).await?;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(self.timeout, applying).await {
            Ok(done) => done?,
            Err(_) => bail!("not all objects could be applied in time"),
        }
        eprintln!("{} objects applied in cluster '{}'", objects.len(), self.name);
        Ok(())
    }
}

/// Applies one object, as soon as its kind is served and its namespace has what it needs.
async fn apply(session: &Session, known: &mut Known<'_>, object: &Value) -> Result<()> {
    let what = || format!("{} {}", object["kind"].as_str().unwrap_or_default(), object["metadata"]["name"].as_str().unwrap_or_default());
    loop {
        match known.path(object).await {
            Ok(path) => match session.apply(&path, object).await {
                // The account of a pod in a new namespace comes in a moment.
                Err(error) if has_code(&error, 404) || is_waiting_for_account(&error) => {}
                done => return done.map(drop).with_context(what),
            },
            Err(Error::NotYet(_)) => known.forget(object),
            Err(error) => return Err(error).with_context(what),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_waiting_for_account(error: &api_client::kube::Error) -> bool {
    has_code(error, 403) && error.to_string().contains("error looking up service account")
}
