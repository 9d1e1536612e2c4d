//! `iam group create|list|add|remove|delete`.
use super::Listing;
use super::references::{collection, find, id, organization, path, user};
use anyhow::Result;
use clap::Subcommand;
use command_line::Session;
use serde_json::{Value, json};

#[derive(Subcommand, Clone, Debug)]
pub enum GroupCommand {
    /// Create a group; prints its id
    Create {
        name: String,
        #[arg(long)]
        org: String,
        /// The id [default: group- and random letters]
        #[arg(long)]
        id: Option<String>,
        /// Its first members
        #[arg(long, value_delimiter = ',')]
        member: Vec<String>,
    },
    /// List the groups
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Add users to a group
    Add { group: String, users: Vec<String> },
    /// Take users out of a group
    Remove { group: String, users: Vec<String> },
    /// Delete a group
    Delete { group: String },
}

impl GroupCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Create { name, org, id, member } => {
                let id = id.unwrap_or_else(|| format!("group-{}", clock::random_suffix(10)));
                let spec = json!({"displayName": name, "organization": organization(session, &org).await?, "members": ids(session, &member).await?});
                let object = json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": "Group", "metadata": {"name": id}, "spec": spec});
                session.create(&collection("groups"), &object).await?;
                println!("{id}");
            }
            Self::List { listing } => listing.show(session, "groups", "group").await?,
            Self::Add { group, users } => change(session, &group, &users, true).await?,
            Self::Remove { group, users } => change(session, &group, &users, false).await?,
            Self::Delete { group } => {
                let id = id(&find(session, "groups", "displayName", &group).await?);
                session.delete(&path("groups", &id)).await?;
                eprintln!("Group '{id}' deleted");
            }
        }
        Ok(())
    }
}

async fn ids(session: &Session, users: &[String]) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for name in users {
        ids.push(id(&user(session, name).await?));
    }
    Ok(ids)
}

async fn change(session: &Session, group: &str, users: &[String], add: bool) -> Result<()> {
    let group = find(session, "groups", "displayName", group).await?;
    let changed = ids(session, users).await?;
    let mut members: Vec<String> = group["spec"]["members"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    members.retain(|member| !changed.contains(member));
    if add {
        members.extend(changed);
    }
    // Somebody else may change it too.
    let patch = json!({"metadata": {"resourceVersion": group["metadata"]["resourceVersion"]}, "spec": {"members": members}});
    session.patch(&path("groups", &id(&group)), &patch).await?;
    eprintln!("Group '{}' changed", id(&group));
    Ok(())
}
