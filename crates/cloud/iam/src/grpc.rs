//! IamService over gRPC: what the paths and the administration do, for those who call instead of asking.
use crate::directory::Sort;
use crate::engine::Iam;
use crate::server::Asker;
use crate::v1::iam_service_server::{IamService, IamServiceServer};
use crate::v1::{
    ApiKey, CreateApiKeyResponse, Decision, DeleteRequest, Empty, ExchangeRequest, GetRequest, Group, IssueTokenRequest, ListApiKeysResponse,
    ListDecisionsRequest, ListDecisionsResponse, ListGroupsResponse, ListMembershipsResponse, ListOrganizationsResponse, ListProjectsResponse, ListRequest,
    ListRolesResponse, ListServiceAccountsResponse, ListUsersResponse, LoginRequest, Membership, Organization, Project, ReviewTokenRequest,
    ReviewTokenResponse, RevokeTokensRequest, Role, ServiceAccount, SetPasswordRequest, Token, User,
};
use crate::{IamError, plan};
use api_client::{is_conflict, kube};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// What paths of this service start with.
pub const SERVICE: &str = "/iam.v1.IamService/";

/// The calls that prove who somebody is, and so are open to all.
pub fn is_open(path: &str) -> bool {
    matches!(path.strip_prefix(SERVICE), Some("Login" | "Exchange"))
}

/// Whom a request comes from: put there by whoever carried it here.
#[derive(Clone, Debug)]
pub struct Origin {
    pub asker: Asker,
    /// Whom rates are counted for.
    pub client: String,
}

pub fn routes(iam: Arc<Iam>) -> Routes {
    Routes::new(IamServiceServer::new(Service { iam }))
}

struct Service {
    iam: Arc<Iam>,
}

/// Fields of messages that tell what an object is, and are no part of what is asked for.
const TOLD: &[&str] = &["id", "namespace", "createdBy", "phase"];
/// Fields whose zero means something.
const OPTIONAL: &[&str] = &["maxProjects", "deletionGracePeriodSeconds"];

type Answered<T> = Result<Response<T>, Status>;

impl Service {
    fn origin<T>(request: &Request<T>) -> Result<Origin, Status> {
        request.extensions().get().cloned().ok_or_else(|| Status::unauthenticated("the call names no caller"))
    }

    async fn create<M: Serialize + DeserializeOwned>(&self, request: Request<M>, sort: Sort) -> Answered<M> {
        let Origin { asker, .. } = Self::origin(&request)?;
        let scope = self.iam.scope_of(&asker).map_err(status)?;
        let mut spec = said(&request.into_inner())?;
        let name = name_of(sort, &spec);
        strip(&mut spec, TOLD);
        if sort == Sort::Project {
            spec["createdBy"] = asker.name().into();
        }
        let made = self.iam.create_object(&scope, sort, &name, spec, asker.name()).await;
        let made = match made {
            // Giving a role twice is giving it once.
            Err(IamError::Api(error)) if sort == Sort::Membership && is_conflict(&error) => self.iam.object(&scope, sort, &name),
            made => made,
        };
        told(sort, made.map_err(status)?).map(Response::new)
    }

    fn get<M: DeserializeOwned>(&self, request: &Request<GetRequest>, sort: Sort) -> Answered<M> {
        let scope = self.iam.scope_of(&Self::origin(request)?.asker).map_err(status)?;
        told(sort, self.iam.object(&scope, sort, &stored(sort, &request.get_ref().id)).map_err(status)?).map(Response::new)
    }

    fn list<M: DeserializeOwned>(&self, request: &Request<ListRequest>, sort: Sort) -> Result<Vec<M>, Status> {
        let scope = self.iam.scope_of(&Self::origin(request)?.asker).map_err(status)?;
        let organization = &request.get_ref().organization;
        let wanted = |object: &Value| organization.is_empty() || self.iam.directory.organization_of(sort, object).is_some_and(|of| of == *organization);
        self.iam.objects(&scope, sort).into_iter().filter(wanted).map(|object| told(sort, object)).collect()
    }

    async fn update<M: Serialize + DeserializeOwned>(&self, request: Request<M>, sort: Sort) -> Answered<M> {
        let Origin { asker, .. } = Self::origin(&request)?;
        let scope = self.iam.scope_of(&asker).map_err(status)?;
        let message = serde_json::to_value(request.into_inner()).map_err(|error| Status::internal(error.to_string()))?;
        let name = stored(sort, message["id"].as_str().unwrap_or_default());
        let mut patch = message;
        strip(&mut patch, TOLD);
        // Texts that are not said stay as they are; lists and flags are as they are said.
        if let Some(fields) = patch.as_object_mut() {
            fields.retain(|_, value| *value != "" && !value.is_null());
        }
        told(sort, self.iam.update_object(&scope, sort, &name, &patch, None, asker.name()).await.map_err(status)?).map(Response::new)
    }

    async fn delete(&self, request: Request<DeleteRequest>, sort: Sort) -> Answered<Empty> {
        let Origin { asker, .. } = Self::origin(&request)?;
        let scope = self.iam.scope_of(&asker).map_err(status)?;
        self.iam.delete_object(&scope, sort, &stored(sort, &request.get_ref().id), asker.name()).await.map_err(status)?;
        Ok(Response::new(Empty {}))
    }

    /// As asked at one of IAM's paths.
    async fn at<M: Serialize, R: DeserializeOwned>(&self, request: Request<M>, path: &str) -> Answered<R> {
        let Origin { asker, client } = Self::origin(&request)?;
        let body = said(&request.into_inner())?.to_string();
        let answer = self.iam.answered(&asker, &client, &Method::POST, path, body.as_bytes()).await.map_err(status)?;
        read(answer.body).map(Response::new)
    }
}

/// A message without what it does not say.
fn said(message: &impl Serialize) -> Result<Value, Status> {
    let mut value = serde_json::to_value(message).map_err(|error| Status::internal(error.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        // Not to say a number is one thing, to say zero another, where the message tells them apart.
        fields.retain(|name, value| OPTIONAL.contains(&name.as_str()) && !value.is_null() || !is_plain(value));
    }
    Ok(value)
}

/// Whether this is what a field holds that nobody said.
fn is_plain(value: &Value) -> bool {
    value.is_null() || *value == "" || *value == 0 || *value == false || *value == json!([])
}

fn strip(value: &mut Value, fields: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|field, _| !fields.contains(&field.as_str()));
    }
}

/// The name of the object that is to be made of a message.
fn name_of(sort: Sort, message: &Value) -> String {
    let text = |field: &str| message[field].as_str().unwrap_or_default();
    let id = stored(sort, text("id"));
    match sort {
        Sort::Membership => {
            let place = if text("project").is_empty() { text("organization") } else { text("project") };
            format!("{}.{}.{place}", text("subject"), text("role").replace('_', "-"))
        }
        Sort::ServiceAccount if !id.contains('.') => format!("sa-{}.{}", id.strip_prefix("sa-").unwrap_or(&id), text("project")),
        Sort::User if id.is_empty() => format!("user-{}", uuid::Uuid::new_v4()),
        Sort::Project if id.is_empty() => format!("proj-{}", uuid::Uuid::new_v4()),
        Sort::Organization if id.is_empty() => format!("org-{}", clock::random_suffix(10)),
        Sort::Group if id.is_empty() => format!("group-{}", clock::random_suffix(10)),
        _ => id,
    }
}

/// An id as its object is named: a service account's is written with a dot there.
fn stored(sort: Sort, id: &str) -> String {
    if sort == Sort::ServiceAccount { id.replacen('@', ".", 1) } else { id.to_owned() }
}

/// The message that an object makes.
fn told<M: DeserializeOwned>(sort: Sort, mut object: Value) -> Result<M, Status> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut message = object["spec"].take();
    if let Some(fields) = message.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    if sort == Sort::Project {
        message["namespace"] = plan::namespace_of(&name).into();
        message["phase"] = object["status"]["phase"].as_str().unwrap_or_default().into();
    }
    message["id"] = if sort == Sort::ServiceAccount { name.replacen('.', "@", 1) } else { name }.into();
    read(message)
}

fn read<M: DeserializeOwned>(value: Value) -> Result<M, Status> {
    serde_json::from_value(value).map_err(|error| Status::internal(error.to_string()))
}

fn status(error: IamError) -> Status {
    let message = match &error {
        IamError::Api(kube::Error::Api(status)) => status.message.clone(),
        other => other.to_string(),
    };
    match &error {
        IamError::Api(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Status::already_exists(message),
        _ => match error.code() {
            401 => Status::unauthenticated(message),
            403 => Status::permission_denied(message),
            404 => Status::not_found(message),
            409 => Status::aborted(message),
            400 | 422 => Status::invalid_argument(message),
            429 => Status::resource_exhausted(message),
            503 => Status::unavailable(message),
            _ => {
                tracing::error!(error = &error as &dyn std::error::Error, "a call failed");
                Status::internal("IAM's data can't be read or written now")
            }
        },
    }
}

#[tonic::async_trait]
impl IamService for Service {
    async fn create_organization(&self, request: Request<Organization>) -> Answered<Organization> {
        self.create(request, Sort::Organization).await
    }
    async fn get_organization(&self, request: Request<GetRequest>) -> Answered<Organization> {
        self.get(&request, Sort::Organization)
    }
    async fn list_organizations(&self, request: Request<ListRequest>) -> Answered<ListOrganizationsResponse> {
        Ok(Response::new(ListOrganizationsResponse { organizations: self.list(&request, Sort::Organization)? }))
    }
    async fn update_organization(&self, request: Request<Organization>) -> Answered<Organization> {
        self.update(request, Sort::Organization).await
    }
    async fn delete_organization(&self, request: Request<DeleteRequest>) -> Answered<Empty> {
        self.delete(request, Sort::Organization).await
    }

    async fn create_project(&self, request: Request<Project>) -> Answered<Project> {
        self.create(request, Sort::Project).await
    }
    async fn get_project(&self, request: Request<GetRequest>) -> Answered<Project> {
        self.get(&request, Sort::Project)
    }
    async fn list_projects(&self, request: Request<ListRequest>) -> Answered<ListProjectsResponse> {
        Ok(Response::new(ListProjectsResponse { projects: self.list(&request, Sort::Project)? }))
    }
    async fn update_project(&self, request: Request<Project>) -> Answered<Project> {
        self.update(request, Sort::Project).await
    }
    async fn delete_project(&self, request: Request<DeleteRequest>) -> Answered<Empty> {
        self.delete(request, Sort::Project).await
    }

    async fn create_user(&self, request: Request<User>) -> Answered<User> {
        self.create(request, Sort::User).await
    }
    async fn get_user(&self, request: Request<GetRequest>) -> Answered<User> {
        self.get(&request, Sort::User)
    }
    async fn list_users(&self, request: Request<ListRequest>) -> Answered<ListUsersResponse> {
        Ok(Response::new(ListUsersResponse { users: self.list(&request, Sort::User)? }))
    }
    async fn update_user(&self, request: Request<User>) -> Answered<User> {
        self.update(request, Sort::User).await
    }
    async fn delete_user(&self, request: Request<DeleteRequest>) -> Answered<Empty> {
        self.delete(request, Sort::User).await
    }

    async fn create_group(&self, request: Request<Group>) -> Answered<Group> {
        self.create(request, Sort::Group).await
    }
    async fn get_group(&self, request: Request<GetRequest>) -> Answered<Group> {
        self.get(&request, Sort::Group)
    }
    async fn list_groups(&self, request: Request<ListRequest>) -> Answered<ListGroupsResponse> {
        Ok(Response::new(ListGroupsResponse { groups: self.list(&request, Sort::Group)? }))
    }
    async fn update_group(&self, request: Request<Group>) -> Answered<Group> {
        self.update(request, Sort::Group).await
    }
    async fn delete_group(&self, request: Request<DeleteRequest>) -> Answered<Empty> {
        self.delete(request, Sort::Group).await
    }

    async fn create_role(&self, request: Request<Role>) -> Answered<Role> {
        self.create(request, Sort::Role).await
    }
    async fn get_role(&self, request: Request<GetRequest>) -> Answered<Role> {
        self.get(&request, Sort::Role)
    }
    async fn list_roles(&self, request: Request<ListRequest>) -> Answered<ListRolesResponse> {
        Ok(Response::new(ListRolesResponse { roles: self.list(&request, Sort::Role)? }))
    }
    async fn update_role(&self, request: Request<Role>) -> Answered<Role> {
        self.update(request, Sort::Role).await
    }
    async fn delete_role(&self, request: Request<DeleteRequest>) -> Answered<Empty> {
        self.delete(request, Sort::Role).await
    }

    async fn create_service_account(&self, request: Request<ServiceAccount>) -> Answered<ServiceAccount> {
        self.create(request, Sort::ServiceAccount).await
    }
    async fn get_service_account(&self, request: Request<GetRequest>) -> Answered<ServiceAccount> {
        self.get(&request, Sort::ServiceAccount)
    }
    async fn list_service_accounts(&self, request: Request<ListRequest>) -> Answered<ListServiceAccountsResponse> {
        Ok(Response::new(ListServiceAccountsResponse { service_accounts: self.list(&request, Sort::ServiceAccount)? }))
    }
    async fn update_service_account(&self, request: Request<ServiceAccount>) -> Answered<ServiceAccount> {
        self.update(request, Sort::ServiceAccount).await
    }
    async fn delete_service_account(&self, request: Request<DeleteRequest>) -> Answered<Empty> {
        self.delete(request, Sort::ServiceAccount).await
    }

    async fn list_api_keys(&self, request: Request<ListRequest>) -> Answered<ListApiKeysResponse> {
        Ok(Response::new(ListApiKeysResponse { api_keys: self.list(&request, Sort::ApiKey)? }))
    }
    async fn delete_api_key(&self, request: Request<DeleteRequest>) -> Answered<Empty> {
        self.delete(request, Sort::ApiKey).await
    }
    async fn list_memberships(&self, request: Request<ListRequest>) -> Answered<ListMembershipsResponse> {
        Ok(Response::new(ListMembershipsResponse { memberships: self.list(&request, Sort::Membership)? }))
    }

    async fn grant(&self, request: Request<Membership>) -> Answered<Membership> {
        let Origin { asker, .. } = Self::origin(&request)?;
        let mut request = request;
        // An organisation that is not named is one's own.
        if request.get_ref().organization.is_empty()
            && let Ok(crate::Scope::Organization(own)) = self.iam.scope_of(&asker)
        {
            request.get_mut().organization = own;
        }
        self.create(request, Sort::Membership).await
    }
    async fn revoke(&self, request: Request<DeleteRequest>) -> Answered<Empty> {
        self.delete(request, Sort::Membership).await
    }

    async fn create_api_key(&self, request: Request<ApiKey>) -> Answered<CreateApiKeyResponse> {
        self.at(request, "key").await
    }
    async fn set_password(&self, request: Request<SetPasswordRequest>) -> Answered<Empty> {
        self.at(request, "password").await
    }
    async fn login(&self, request: Request<LoginRequest>) -> Answered<Token> {
        self.at(request, "login").await
    }
    async fn exchange(&self, request: Request<ExchangeRequest>) -> Answered<Token> {
        self.at(request, "exchange").await
    }
    async fn issue_token(&self, request: Request<IssueTokenRequest>) -> Answered<Token> {
        self.at(request, "token").await
    }
    async fn revoke_tokens(&self, request: Request<RevokeTokensRequest>) -> Answered<Empty> {
        self.at(request, "revoke").await
    }

    async fn review_token(&self, request: Request<ReviewTokenRequest>) -> Answered<ReviewTokenResponse> {
        let Origin { asker, client } = Self::origin(&request)?;
        if !matches!(asker, Asker::Platform(_) | Asker::Part(_)) {
            return Err(Status::permission_denied("only parts of the platform may have tokens reviewed"));
        }
        if !self.iam.may_review(&client) {
            return Err(status(IamError::TooMany));
        }
        let ReviewTokenRequest { token, audiences } = request.into_inner();
        let review = self.iam.review(&json!({"spec": {"token": token, "audiences": audiences}}));
        let found = &review["status"];
        let texts = |value: &Value| value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let (user, text) = (&found["user"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
        Ok(Response::new(ReviewTokenResponse {
            authenticated: found["authenticated"] == true,
            username: text(&user["username"]),
            uid: text(&user["uid"]),
            groups: texts(&user["groups"]),
            org_id: text(&user["extra"]["org_id"][0]),
            project_id: text(&user["extra"]["project_id"][0]),
            roles: texts(&user["extra"]["roles"]),
            error: text(&found["error"]),
        }))
    }

    async fn list_decisions(&self, request: Request<ListDecisionsRequest>) -> Answered<ListDecisionsResponse> {
        let scope = self.iam.scope_of(&Self::origin(&request)?.asker).map_err(status)?;
        let limit = usize::try_from(request.get_ref().limit).unwrap_or(usize::MAX);
        let decisions = self.iam.decisions(&scope, if limit == 0 { usize::MAX } else { limit }).into_iter().map(|mut entry| {
            let mut take = |field: &str| entry[field].take().as_str().unwrap_or_default().to_owned();
            let (time, decision, subject, outcome) = (take("time"), take("decision"), take("subject"), take("outcome"));
            strip(&mut entry, &["time", "decision", "subject", "outcome"]);
            Decision { time, decision, subject, outcome, more: entry.to_string() }
        });
        Ok(Response::new(ListDecisionsResponse { decisions: decisions.collect() }))
    }
}
