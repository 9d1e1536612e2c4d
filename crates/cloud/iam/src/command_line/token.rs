//! `iam token create|revoke|rotate-keys|jwks`.
use super::references::{collection, id, project, subject};
use anyhow::{Result, bail};
use clap::Subcommand;
use command_line::{Session, texts};
use serde_json::json;
use std::time::Duration;

#[derive(Subcommand, Clone, Debug)]
pub enum TokenCommand {
    /// Print a token of a user (by id or email) or a service account (sa-NAME@PROJECT)
    Create {
        subject: String,
        /// For this project alone [default: all of the subject's]
        #[arg(long)]
        project: Option<String>,
        /// For others than the API
        #[arg(long)]
        audience: Vec<String>,
        #[arg(long, default_value = "1h", value_parser = texts::duration)]
        duration: Duration,
        /// Print JSON with the token's id and end
        #[arg(long)]
        json: bool,
    },
    /// Refuse a token by its id, or all that a subject has
    Revoke {
        /// The token's id (`jti`)
        id: Option<String>,
        /// All tokens of this user or service account made until now
        #[arg(long, conflicts_with = "id")]
        subject: Option<String>,
    },
    /// Sign with a new key from now on
    RotateKeys {
        /// Refuse what the old keys have signed at once
        #[arg(long)]
        at_once: bool,
    },
    /// Print the public keys
    Jwks,
}

impl TokenCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Create { subject: name, project: of, audience, duration, json } => {
                let project = match of {
                    Some(name) => id(&project(session, &name).await?),
                    None => String::new(),
                };
                let subject = subject(session, &name).await?;
                let request = json!({"subject": subject, "project": project, "audiences": audience, "expirationSeconds": duration.as_secs()});
                let answer = session.create(&collection("token"), &request).await?;
                if json { println!("{answer:#}") } else { println!("{}", answer["token"].as_str().unwrap_or_default()) }
            }
            Self::Revoke { id, subject: name } => {
                let request = match (id, name) {
                    (Some(id), _) => json!({ "id": id }),
                    (None, Some(name)) => json!({"subject": subject(session, &name).await?}),
                    (None, None) => bail!("a token's id or --subject is needed"),
                };
                session.create(&collection("revoke"), &request).await?;
                eprintln!("Revoked");
            }
            Self::RotateKeys { at_once } => {
                session.create(&collection("rotate"), &json!({"atOnce": at_once})).await?;
                eprintln!("Tokens are signed with a new key");
            }
            Self::Jwks => println!("{:#}", session.get(&collection("jwks")).await?),
        }
        Ok(())
    }
}
