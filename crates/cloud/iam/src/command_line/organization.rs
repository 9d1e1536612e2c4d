//! `iam org create|list|rename|delete`.
use super::Listing;
use super::references::{collection, find, id, organization, path};
use anyhow::{Result, bail};
use clap::Subcommand;
use command_line::Session;
use serde_json::json;

#[derive(Subcommand, Clone, Debug)]
pub enum OrganizationCommand {
    /// Create an organisation; prints its id
    Create {
        name: String,
        /// The id [default: org- and random letters]
        #[arg(long)]
        id: Option<String>,
        /// A domain of the addresses that its own administrators may give to users
        #[arg(long, value_name = "DOMAIN")]
        email_domain: Vec<String>,
        /// How many projects it may have when its own administrators make another [default: 10]
        #[arg(long, value_name = "NUMBER")]
        max_projects: Option<u32>,
    },
    /// Say anew of which domains its own administrators may give addresses to users
    SetEmailDomains { organization: String, domains: Vec<String> },
    /// Say anew how many projects it may have when its own administrators make another
    SetMaxProjects { organization: String, number: u32 },
    /// List the organisations
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Call an organisation something else
    Rename { organization: String, name: String },
    /// Delete an organisation that has no projects and no users
    Delete { organization: String },
}

impl OrganizationCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Create { name, id, email_domain, max_projects } => {
                let id = id.unwrap_or_else(|| format!("org-{}", clock::random_suffix(10)));
                let mut object = json!({
                    "apiVersion": "iam.plasmacloud.io/v1", "kind": "Organization", "metadata": {"name": id}, "spec": {"displayName": name, "emailDomains": email_domain},
                });
                if let Some(number) = max_projects {
                    object["spec"]["maxProjects"] = number.into();
                }
                session.create(&collection("organizations"), &object).await?;
                println!("{id}");
            }
            Self::SetEmailDomains { organization: name, domains } => {
                let id = organization(session, &name).await?;
                session.patch(&path("organizations", &id), &json!({"spec": {"emailDomains": domains}})).await?;
                eprintln!("Organization '{id}' changed");
            }
            Self::SetMaxProjects { organization: name, number } => {
                let id = organization(session, &name).await?;
                session.patch(&path("organizations", &id), &json!({"spec": {"maxProjects": number}})).await?;
                eprintln!("Organization '{id}' changed");
            }
            Self::List { listing } => listing.show(session, "organizations", "organization").await?,
            Self::Rename { organization, name } => {
                let id = id(&find(session, "organizations", "displayName", &organization).await?);
                session.patch(&path("organizations", &id), &json!({"spec": {"displayName": name}})).await?;
                eprintln!("Organization '{id}' renamed");
            }
            Self::Delete { organization: name } => {
                let id = organization(session, &name).await?;
                for plural in ["projects", "users"] {
                    let all = session.get(&collection(plural)).await?;
                    let of = all["items"].as_array().into_iter().flatten().filter(|item| item["spec"]["organization"] == *id).count();
                    if of > 0 {
                        bail!("organization {id:?} has {of} {plural}");
                    }
                }
                session.delete(&path("organizations", &id)).await?;
                eprintln!("Organization '{id}' deleted");
            }
        }
        Ok(())
    }
}
