//! `iam key create|list|delete`.
use super::Listing;
use super::references::{collection, id, path, project, subject};
use anyhow::Result;
use clap::Subcommand;
use clock::{Clock, SystemClock};
use command_line::{Session, texts};
use serde_json::json;
use std::time::Duration;

#[derive(Subcommand, Clone, Debug)]
pub enum KeyCommand {
    /// Create an API key of a user or service account; prints it, this once
    Create {
        subject: String,
        #[arg(long)]
        project: Option<String>,
        #[arg(long, default_value = "")]
        description: String,
        /// How long it is good [default: until it is deleted]
        #[arg(long, value_parser = texts::duration)]
        duration: Option<Duration>,
    },
    /// List the API keys
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Delete an API key
    Delete { key: String },
}

impl KeyCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Create { subject: name, project: of, description, duration } => {
                let project = match of {
                    Some(name) => id(&project(session, &name).await?),
                    None => String::new(),
                };
                let mut request = json!({"subject": subject(session, &name).await?, "project": project, "description": description});
                if let Some(duration) = duration {
                    let end = SystemClock.now().saturating_add(jiff::SignedDuration::try_from(duration)?)?;
                    request["expires"] = clock::rfc3339_seconds(end).into();
                }
                let answer = session.create(&collection("key"), &request).await?;
                println!("{}", answer["key"].as_str().unwrap_or_default());
            }
            Self::List { listing } => listing.show(session, "apikeys", "apikey").await?,
            Self::Delete { key } => {
                session.delete(&path("apikeys", &key)).await?;
                eprintln!("API key '{key}' deleted");
            }
        }
        Ok(())
    }
}
