//! `iam role create|list|delete|grant|revoke|members`.
use super::Listing;
use super::references::{collection, find, id, organization, owned_by, path, project, text, user};
use crate::kinds::{ORG_ADMIN, PROJECT_ADMIN, PROJECT_MEMBER, PROJECT_VIEWER};
use anyhow::{Context, Result, bail};
use api_client::{is_conflict, is_not_found};
use clap::{Args, Subcommand};
use command_line::Session;
use serde_json::{Value, json};

#[derive(Subcommand, Clone, Debug)]
pub enum RoleCommand {
    /// Create a role of an organisation's own
    Create {
        name: String,
        #[arg(long)]
        org: String,
        /// What it allows: VERBS:RESOURCES or VERBS:RESOURCES:API-GROUPS, each a list with commas
        #[arg(long, required = true)]
        rule: Vec<String>,
    },
    /// List the roles of organisations' own
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Delete a role
    Delete { role: String },
    /// Give a user or group a role: org_admin, project_admin, project_member, project_viewer, or one of the organisation's
    Grant {
        role: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// Take a role away
    Revoke {
        role: String,
        #[command(flatten)]
        whom: Whom,
    },
    /// List who has which role
    Members {
        #[command(flatten)]
        listing: Listing,
    },
}

/// Whose role, and where.
#[derive(Args, Clone, Debug)]
pub struct Whom {
    /// A user, by id or email
    #[arg(long, conflicts_with = "group", required_unless_present = "group")]
    user: Option<String>,
    /// A group
    #[arg(long)]
    group: Option<String>,
    /// In this project
    #[arg(long, conflicts_with = "org", required_unless_present = "org")]
    project: Option<String>,
    /// In all of this organisation
    #[arg(long)]
    org: Option<String>,
}

impl RoleCommand {
    pub async fn run(self, session: &Session) -> Result<()> {
        match self {
            Self::Create { name, org, rule } => {
                let rules = rule.iter().map(|text| parsed(text)).collect::<Result<Vec<Value>>>()?;
                let spec = json!({"organization": organization(session, &org).await?, "rules": rules});
                let object = json!({"apiVersion": "iam.plasmacloud.io/v1", "kind": "Role", "metadata": {"name": name}, "spec": spec});
                session.create(&collection("roles"), &object).await?;
                println!("{name}");
            }
            Self::List { listing } => listing.show(session, "roles", "role").await?,
            Self::Delete { role } => {
                session.delete(&path("roles", &role)).await?;
                eprintln!("Role '{role}' deleted");
            }
            Self::Grant { role, whom } => {
                let (membership, name) = membership(session, &role, &whom).await?;
                match session.create(&collection("memberships"), &membership).await {
                    Err(error) if is_conflict(&error) => eprintln!("Role '{role}' is given already"),
                    created => {
                        created.with_context(|| format!("giving {name:?}"))?;
                        eprintln!("Role '{role}' given");
                    }
                }
            }
            Self::Revoke { role, whom } => {
                let (_, name) = membership(session, &role, &whom).await?;
                match session.delete(&path("memberships", &name)).await {
                    Err(error) if is_not_found(&error) => bail!("there is no such role to take away: {name:?}"),
                    deleted => deleted?,
                };
                eprintln!("Role '{role}' taken away");
            }
            Self::Members { listing } => listing.show(session, "memberships", "membership").await?,
        }
        Ok(())
    }
}

/// The membership, and its name: the same of the same role, so that one is not given twice.
async fn membership(session: &Session, role: &str, whom: &Whom) -> Result<(Value, String)> {
    let subject = match (&whom.user, &whom.group) {
        (Some(name), _) => user(session, name).await?,
        (None, Some(group)) => find(session, "groups", "displayName", group).await?,
        (None, None) => bail!("one of --user and --group is needed"),
    };
    let (organization, project) = match (&whom.project, &whom.org) {
        (Some(name), _) => {
            let found = project(session, name).await?;
            (text(&found, "organization").to_owned(), Some(found))
        }
        (None, Some(org)) => (organization(session, org).await?, None),
        (None, None) => bail!("one of --project and --org is needed"),
    };
    if text(&subject, "organization") != organization {
        bail!("{:?} does not belong to organization {organization:?}", id(&subject));
    }
    if role == ORG_ADMIN && project.is_some() {
        bail!("{ORG_ADMIN} is a role in an organisation: use --org");
    }
    if ![ORG_ADMIN, PROJECT_ADMIN, PROJECT_MEMBER, PROJECT_VIEWER].contains(&role) {
        let found = session.get(&path("roles", role)).await.ok().filter(|found| text(found, "organization") == organization);
        found.with_context(|| format!("organization {organization:?} has no role {role:?}"))?;
    }
    let place = project.as_ref().map_or_else(|| organization.clone(), id);
    let name = format!("{}.{}.{place}", id(&subject), role.replace('_', "-"));
    let mut owners = owned_by(&subject);
    if let (Some(owners), Some(project)) = (owners.as_array_mut(), &project) {
        // It goes with either: the collector waits for all owners, so the project alone counts where there is one.
        *owners = owned_by(project).as_array().cloned().unwrap_or_default();
    }
    let object = json!({
        "apiVersion": "iam.plasmacloud.io/v1", "kind": "Membership", "metadata": {"name": name, "ownerReferences": owners},
        "spec": {"subject": id(&subject), "role": role, "organization": organization, "project": project.as_ref().map(id).unwrap_or_default()},
    });
    Ok((object, name))
}

fn parsed(rule: &str) -> Result<Value> {
    let parts: Vec<&str> = rule.split(':').collect();
    let list = |text: &str| text.split(',').map(str::trim).map(str::to_owned).collect::<Vec<String>>();
    match parts[..] {
        [verbs, resources] => Ok(json!({"apiGroups": [""], "resources": list(resources), "verbs": list(verbs)})),
        [verbs, resources, groups] => Ok(json!({"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)})),
        _ => bail!("rule {rule:?} is not VERBS:RESOURCES or VERBS:RESOURCES:API-GROUPS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_one_word() {
        let of_core = json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]});
        assert_eq!(parsed("get,list:pods,pods/log").unwrap(), of_core);
        assert_eq!(parsed("*:deployments:apps").unwrap(), json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["*"]}));
        assert!(parsed("get").is_err() && parsed("a:b:c:d").is_err());
    }
}
