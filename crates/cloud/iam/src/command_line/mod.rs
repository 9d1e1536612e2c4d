//! `k8shost iam ...`: organisations, projects, users, and their tokens, from a shell.
mod account;
mod certificate;
mod group;
mod key;
mod login;
mod organization;
mod project;
mod provider;
mod references;
mod role;
mod token;

pub use account::{ServiceAccountCommand, UserCommand};
pub use certificate::{CertificateCommand, Issue};
pub use group::GroupCommand;
pub use key::KeyCommand;
pub use login::{Credential, Login, Logout};
pub use organization::OrganizationCommand;
pub use project::ProjectCommand;
pub use role::RoleCommand;
pub use token::TokenCommand;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use command_line::output::{self, Format};
use command_line::{Connection, Session};
use std::io::Read;

/// Who writes, in managed fields.
const MANAGER: &str = "k8shost-iam";

#[derive(Subcommand, Clone, Debug)]
pub enum IamCommand {
    /// Organisations
    #[command(subcommand, alias = "organization")]
    Org(OrganizationCommand),
    /// Projects
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Users
    #[command(subcommand)]
    User(UserCommand),
    /// Service accounts of projects
    #[command(subcommand, alias = "sa")]
    ServiceAccount(ServiceAccountCommand),
    /// Groups of users
    #[command(subcommand)]
    Group(GroupCommand),
    /// Roles, and who has them
    #[command(subcommand)]
    Role(RoleCommand),
    /// Tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// API keys, which are exchanged for tokens
    #[command(subcommand)]
    Key(KeyCommand),
    /// Certificates
    #[command(subcommand, alias = "certificate")]
    Cert(CertificateCommand),
    /// Issue a certificate by the authorities of a server's data directory
    IssueCert(Issue),
    /// Log in with a password or at a provider, and write a kubeconfig that stays logged in
    Login(Login),
    /// End the login of a kubeconfig
    Logout(Logout),
    /// Print a token for kubectl; kubeconfigs of `login` call this
    Credential(Credential),
}

impl IamCommand {
    /// # Errors
    /// When the server refuses or can't be asked.
    pub async fn run(self, connection: &Connection) -> Result<()> {
        match self {
            Self::IssueCert(issue) => issue.run(),
            Self::Login(login) => login.run(connection).await,
            Self::Logout(logout) => logout.run().await,
            Self::Credential(credential) => credential.run().await,
            other => {
                let session = references::placed(Session::open(connection, MANAGER).await?).await;
                match other {
                    Self::Org(command) => command.run(&session).await,
                    Self::Project(command) => command.run(&session).await,
                    Self::User(command) => command.run(&session).await,
                    Self::ServiceAccount(command) => command.run(&session).await,
                    Self::Group(command) => command.run(&session).await,
                    Self::Role(command) => command.run(&session).await,
                    Self::Token(command) => command.run(&session).await,
                    Self::Key(command) => command.run(&session).await,
                    Self::Cert(command) => command.run(&session).await,
                    Self::IssueCert(_) | Self::Login(_) | Self::Logout(_) | Self::Credential(_) => Ok(()),
                }
            }
        }
    }
}

/// How a list is shown.
#[derive(Args, Clone, Debug)]
pub struct Listing {
    #[arg(long, short = 'o')]
    output: Option<Format>,
}

impl Listing {
    async fn show(&self, session: &Session, plural: &str, singular: &str) -> Result<()> {
        output::list(session, &references::collection(plural), &format!("{singular}.iam.plasmacloud.io"), crate::definitions::columns(plural), self.output)
            .await
    }
}

/// The first line of standard input.
fn secret_from_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
