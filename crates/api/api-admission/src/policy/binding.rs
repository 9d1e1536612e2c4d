//! Binding: puts a policy in force, with parameters, for some requests.
use crate::matching::Criteria;
use crate::request::items;
use crate::selector;
use api_meta::LabelSelector;
use serde_json::Value;

/// Which parameters a policy gets.
#[derive(Debug)]
pub(crate) struct ParamReference {
    pub name: String,
    pub namespace: String,
    pub selector: Option<Result<LabelSelector, String>>,
    /// Whether finding none refuses the request.
    pub denies_when_missing: bool,
}

#[derive(Debug)]
pub(crate) struct Binding {
    pub name: String,
    pub policy: String,
    /// Or why the resources can't be read; without any, all that the policy is about.
    pub criteria: Option<Result<Criteria, String>>,
    pub params: Option<ParamReference>,
    /// Deny, Warn, Audit.
    pub actions: Vec<String>,
}

impl Binding {
    pub fn read(binding: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &binding["spec"];
        let resources = &spec["matchResources"];
        let criteria = resources.is_object().then(|| {
            let read = Criteria::read(resources, "resourceRules");
            read.map(|criteria| Criteria { all_without_rules: true, ..criteria })
        });
        let reference = &spec["paramRef"];
        let params = reference.is_object().then(|| ParamReference {
            name: text(&reference["name"]),
            namespace: text(&reference["namespace"]),
            selector: reference["selector"].is_object().then(|| selector::read(&reference["selector"])),
            denies_when_missing: reference["parameterNotFoundAction"] == "Deny",
        });
        Self {
            name: text(&binding["metadata"]["name"]),
            policy: text(&spec["policyName"]),
            criteria,
            params,
            actions: items(&spec["validationActions"]).iter().map(text).collect(),
        }
    }
}
