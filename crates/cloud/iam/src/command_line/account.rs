//! `iam user ...` and `iam service-account ...`.
use super::references::{collection, find, id, organization, owned_by, path, project, text, user};
use super::{Listing, secret_from_stdin};
use anyhow::{Result, bail};
use clap::Subcommand;
use command_line::Session;
use serde_json::json;

#[derive(Subcommand, Clone, Debug)]
pub enum UserCommand {
    /// Create a user; prints the id
    Create {
        email: String,
        #[arg(long)]
        org: String,
        /// What people call them
        #[arg(long)]
        name: Option<String>,
        /// The id [default: user- and a UUID]
        #[arg(long)]
        id: Option<String>,
        /// Read a password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the users
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Set a user's password, read from standard input
    SetPassword { user: String },
    /// Refuse all of a user's tokens from now on
    Disable { user: String },
    /// Accept a disabled user again
    Enable { user: String },
    /// Delete a user
    Delete { user: String },
}

impl UserCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Create { email, org, name, id, password_stdin } => {
                let id = id.unwrap_or_else(|| format!("user-{}", uuid::Uuid::new_v4()));
                let all = session.get(&collection("users")).await?;
                let taken = |item: &serde_json::Value| text(item, "email").eq_ignore_ascii_case(&email);
                if all["items"].as_array().into_iter().flatten().any(taken) {
                    bail!("there is a user with email {email:?} already");
                }
                let password = if password_stdin { Some(secret_from_stdin()?) } else { None };
                let mut spec = json!({"email": email, "organization": organization(session, &org).await?});
                if let Some(name) = name {
                    spec["displayName"] = name.into();
                }
                let object = json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": "User", "metadata": {"name": id}, "spec": spec});
                session.create(&collection("users"), &object).await?;
                if let Some(password) = password {
                    session.create(&collection("password"), &json!({"user": id, "password": password})).await?;
                }
                println!("{id}");
            }
            Self::List { listing } => listing.show(session, "users", "user").await?,
            Self::SetPassword { user: name } => {
                let id = id(&user(session, &name).await?);
                session.create(&collection("password"), &json!({"user": id, "password": secret_from_stdin()?})).await?;
                eprintln!("Password of '{id}' set");
            }
            Self::Disable { user: name } => disable(session, "users", &id(&user(session, &name).await?), true).await?,
            Self::Enable { user: name } => disable(session, "users", &id(&user(session, &name).await?), false).await?,
            Self::Delete { user: name } => {
                let id = id(&user(session, &name).await?);
                session.delete(&path("users", &id)).await?;
                // Should somebody get this id again, then without these.
                let all = session.get(&collection("memberships")).await?;
                for membership in all["items"].as_array().into_iter().flatten().filter(|item| text(item, "subject") == id) {
                    session.delete(&path("memberships", &super::references::id(membership))).await?;
                }
                eprintln!("User '{id}' deleted");
            }
        }
        Ok(())
    }
}

#[derive(Subcommand, Clone, Debug)]
pub enum ServiceAccountCommand {
    /// Create a service account; prints what it is called in tokens
    Create {
        name: String,
        #[arg(long)]
        project: String,
        /// What it may do in its project
        #[arg(long, default_value = "project_member")]
        role: String,
    },
    /// List the service accounts
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Refuse all of a service account's tokens from now on
    Disable { account: String },
    /// Accept a disabled service account again
    Enable { account: String },
    /// Delete a service account
    Delete { account: String },
}

impl ServiceAccountCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Create { name, project: of, role } => {
                let project = project(session, &of).await?;
                let (name, of) = (name.strip_prefix("sa-").unwrap_or(&name).to_owned(), id(&project));
                let object = json!({
                    "apiVersion": "iam.plasmacloud.io/v1", "kind": "ServiceAccount",
                    "metadata": {"name": format!("sa-{name}.{of}"), "ownerReferences": owned_by(&project)},
                    "spec": {"project": of, "role": role},
                });
                session.create(&collection("serviceaccounts"), &object).await?;
                println!("sa-{name}@{of}");
            }
            Self::List { listing } => listing.show(session, "serviceaccounts", "serviceaccount").await?,
            Self::Disable { account } => disable(session, "serviceaccounts", &found(session, &account).await?, true).await?,
            Self::Enable { account } => disable(session, "serviceaccounts", &found(session, &account).await?, false).await?,
            Self::Delete { account } => {
                let id = found(session, &account).await?;
                session.delete(&path("serviceaccounts", &id)).await?;
                eprintln!("Service account '{id}' deleted");
            }
        }
        Ok(())
    }
}

async fn found(session: &Session, name: &str) -> Result<String> {
    find(session, "serviceaccounts", "none", &name.replace('@', ".")).await.map(|found| id(&found))
}

async fn disable(session: &Session, plural: &str, id: &str, disabled: bool) -> Result<()> {
    session.patch(&path(plural, id), &json!({"spec": {"disabled": disabled}})).await?;
    eprintln!("'{id}' {}", if disabled { "disabled" } else { "enabled" });
    Ok(())
}
