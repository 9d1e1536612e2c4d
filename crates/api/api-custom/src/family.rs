//! Family: what all versions of one definition share: their schemas, where objects are stored, who converts.
use crate::definition::Spec;
use api_meta::{FieldPath, join_api_version};
use api_resource::WebhookConversion;
use api_schema::cel::CompiledRules;
use api_schema::{Schema, SchemaRef};
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

pub(crate) struct Family {
    /// The apiVersion writes are stored in.
    pub storage: String,
    pub webhook: Option<WebhookConversion>,
    pub members: Vec<Member>,
    /// The revision from which on these are the schemas.
    pub since: u64,
}

/// One version, served or not.
pub(crate) struct Member {
    pub api_version: String,
    text: Option<Box<str>>,
    /// Of the schema's text.
    pub hash: u64,
    document: OnceLock<Arc<Value>>,
    schema: OnceLock<SchemaRef>,
    rules: OnceLock<CompiledRules>,
}

impl Family {
    pub fn new(definition: &str, spec: &Spec, since: u64) -> Self {
        let members = spec.versions.iter().map(|version| {
            let text: Option<Box<str>> = version.schema.as_ref().and_then(|s| s.schema.as_ref()).map(|raw| raw.get().into());
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            Member {
                api_version: join_api_version(&spec.group, &version.name),
                text,
                hash: hasher.finish(),
                document: OnceLock::new(),
                schema: OnceLock::new(),
                rules: OnceLock::new(),
            }
        });
        let storage = spec.versions.iter().find(|version| version.storage).or(spec.versions.first());
        let webhook = spec.conversion.as_ref().filter(|c| c.strategy == "Webhook").and_then(|c| c.webhook.as_ref());
        Self {
            storage: storage.map(|version| join_api_version(&spec.group, &version.name)).unwrap_or_default(),
            webhook: webhook.map(|webhook| WebhookConversion {
                client_config: webhook.client_config.clone(),
                review_versions: webhook.conversion_review_versions.clone(),
                definition: definition.to_owned(),
            }),
            members: members.collect(),
            since,
        }
    }

    pub fn member(&self, api_version: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.api_version == api_version)
    }
}

/// Whether objects are kept and converted alike; since when does not matter.
impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        let member = |m: &Member| (m.api_version.clone(), m.hash);
        self.storage == other.storage && self.webhook == other.webhook && self.members.iter().map(member).eq(other.members.iter().map(member))
    }
}

impl Member {
    /// The OpenAPI v3 schema as its author wrote it.
    pub fn document(&self) -> &Arc<Value> {
        self.document.get_or_init(|| {
            let any = || serde_json::json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
            Arc::new(self.text.as_deref().map_or_else(any, |text| serde_json::from_str(text).unwrap_or_else(|_| any())))
        })
    }

    /// The same, as the schema engine has it. What is no schema counts as one that keeps everything.
    pub fn schema(&self) -> &SchemaRef {
        self.schema.get_or_init(|| SchemaRef::new(Schema::of_custom_resource(self.document()).unwrap_or_else(|_| Schema::anything().clone())))
    }

    /// The schema's rules. One that does not compile was let in before it was looked at: it refuses every object.
    pub fn rules(&self) -> &CompiledRules {
        self.rules.get_or_init(|| CompiledRules::compile(self.document(), self.schema(), &FieldPath::root()))
    }
}
