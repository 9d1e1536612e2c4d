//! The kinds of `iam.plasmacloud.io/v1`: what IAM knows, as objects of the host cluster.
use jiff::Timestamp;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub const GROUP: &str = "iam.plasmacloud.io";
pub const API_VERSION: &str = "iam.plasmacloud.io/v1";
/// How many projects an organisation may have that the platform has not told another number.
pub const MAX_PROJECTS: u32 = 10;
/// Where IAM's Secrets are.
pub const NAMESPACE: &str = "iam-system";

macro_rules! kind {
    ($(#[$doc:meta])* $name:ident, $spec:ident, $kind:literal, $plural:literal, { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Serialize, Deserialize)]
        pub struct $name {
            pub metadata: ObjectMeta,
            #[serde(default)]
            pub spec: $spec,
            /// As the kind's controller, if it has one, keeps it.
            #[serde(default, skip_serializing_if = "Value::is_null")]
            pub status: Value,
        }
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $spec { $($(#[$field_doc])* pub $field: $type,)* }
        impl k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = API_VERSION;
            const GROUP: &'static str = GROUP;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = "v1";
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = ClusterResourceScope;
        }
        impl k8s_openapi::Metadata for $name {
            type Ty = ObjectMeta;
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
        impl $name {
            pub fn id(&self) -> &str {
                self.metadata.name.as_deref().unwrap_or_default()
            }
        }
    };
}

kind!(
    /// A customer: owns projects, users, groups and roles. Its id is `org-...`.
    Organization, OrganizationSpec, "Organization", "organizations", {
        display_name: String,
        /// Of the addresses that its own administrators may give to users.
        email_domains: Vec<String>,
        /// How many projects it may have when its own administrators make another; see [`MAX_PROJECTS`].
        #[serde(skip_serializing_if = "Option::is_none")]
        max_projects: Option<u32>,
    }
);

kind!(
    /// What an organisation works on. Its id is `proj-...`.
    Project, ProjectSpec, "Project", "projects", {
        display_name: String,
        organization: String,
        /// The username of who made it.
        #[serde(skip_serializing_if = "String::is_empty")]
        created_by: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        deletion_grace_period_seconds: Option<i64>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        org_shared: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        virtual_cluster: bool,
    }
);

kind!(
    /// A person. Its id is `user-<uuid>`.
    User, UserSpec, "User", "users", {
        /// Empty: known by its id alone.
        email: String,
        display_name: String,
        organization: String,
        disabled: bool,
        /// Tokens issued before are refused.
        tokens_not_before: Option<Timestamp>,
    }
);

kind!(
    /// A program of a project: `sa-<name>.<project>`, in tokens `sa-<name>@<project>`.
    ServiceAccount, ServiceAccountSpec, "ServiceAccount", "serviceaccounts", {
        project: String,
        /// What it may do in its project.
        role: String,
        disabled: bool,
        tokens_not_before: Option<Timestamp>,
    }
);

kind!(
    /// Users of an organisation that get roles together.
    Group, GroupSpec, "Group", "groups", {
        display_name: String,
        organization: String,
        /// Ids of users.
        members: Vec<String>,
    }
);

kind!(
    /// A role of an organisation's own; in each of its projects' namespaces a Role with these rules.
    Role, RoleSpec, "Role", "roles", {
        organization: String,
        display_name: String,
        rules: Vec<Value>,
    }
);

kind!(
    /// That somebody has a role: in one project, or, without one, in all of the organisation.
    Membership, MembershipSpec, "Membership", "memberships", {
        /// The id of a user or a group.
        subject: String,
        role: String,
        organization: String,
        project: String,
    }
);

kind!(
    /// A long-lived credential that is exchanged for tokens. What proves it is in a Secret of its name.
    ApiKey, ApiKeySpec, "APIKey", "apikeys", {
        /// As in a token's `sub`.
        subject: String,
        /// What its tokens are for; empty: all of the subject's.
        project: String,
        description: String,
        expires: Option<Timestamp>,
        /// A login's: proves itself anew at each exchange.
        session: bool,
    }
);

kind!(
    /// A token, by its `jti`, that is refused from now on.
    Revocation, RevocationSpec, "Revocation", "revocations", {
        /// When the token ends anyway.
        expires: Option<Timestamp>,
    }
);

/// A Secret with its data, as the API has it (base64).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Secret {
    pub metadata: ObjectMeta,
    #[serde(default, rename = "type")]
    pub type_: String,
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}

impl k8s_openapi::Resource for Secret {
    const API_VERSION: &'static str = "v1";
    const GROUP: &'static str = "";
    const KIND: &'static str = "Secret";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "secrets";
    type Scope = NamespaceResourceScope;
}

impl k8s_openapi::Metadata for Secret {
    type Ty = ObjectMeta;
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The roles everybody knows.
pub const ORG_ADMIN: &str = "org_admin";
pub const PROJECT_ADMIN: &str = "project_admin";
pub const PROJECT_MEMBER: &str = "project_member";
pub const PROJECT_VIEWER: &str = "project_viewer";
