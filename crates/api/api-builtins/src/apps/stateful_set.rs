//! StatefulSet: pods with stable names and storage.
use crate::apps::replica_status;
use crate::cells::{CONTAINERS, IMAGES, number};
use crate::check::{At, Report, metadata, numbers};
use crate::fields::{Fill, Read};
use crate::pod_spec::defaults;
use crate::pod_spec::template;
use crate::pod_spec::warnings;
use api_meta::{FieldErrors, LabelSelector};
use api_resource::{ALL, Column, Names, Resource, SCALE, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct StatefulSets;

impl Resource for StatefulSets {
    const NAMES: Names = Names::with("apps", "v1", "StatefulSet", "statefulsets", "statefulset", const { &[text("sts")] }, ALL);
    const COLUMNS: &'static [Column] = &[
        Column::with("Ready", |row| format!("{}/{}", number(&row.object["status"]["readyReplicas"]), number(&row.object["spec"]["replicas"])).into()),
        CONTAINERS,
        IMAGES,
    ];
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, SCALE];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        spec.zero("podManagementPolicy", "OrderedReady");
        let strategy = spec.open("updateStrategy");
        if strategy["type"].is_zero() {
            strategy.put("type", "RollingUpdate");
            strategy.open("rollingUpdate");
        }
        if strategy["type"] == "RollingUpdate"
            && let Some(update) = strategy.child("rollingUpdate")
        {
            update.absent("partition", 0);
            update.absent("maxUnavailable", 1);
        }
        let retention = spec.open("persistentVolumeClaimRetentionPolicy");
        retention.zero("whenDeleted", "Retain");
        retention.zero("whenScaled", "Retain");
        spec.absent("replicas", 1);
        spec.absent("revisionHistoryLimit", 10);
        for claim in spec.each("volumeClaimTemplates") {
            claim.put("apiVersion", "v1");
            claim.put("kind", "PersistentVolumeClaim");
            defaults::claim_spec(claim.open("spec"));
            claim.open("status").zero("phase", "Pending");
        }
        defaults::template(spec.open("template"));
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        let policy = spec.field("podManagementPolicy");
        match policy.text() {
            "" => errors.required(&policy, ""),
            "OrderedReady" | "Parallel" => {}
            _ => errors.invalid(&policy, "must be 'OrderedReady' or 'Parallel'"),
        }
        update_strategy(&mut errors, &spec.field("updateStrategy"));
        let retention = spec.field("persistentVolumeClaimRetentionPolicy");
        for moment in ["whenDeleted", "whenScaled"] {
            errors.one_of(&retention.field(moment), &["Retain", "Delete"]);
        }
        numbers::all_non_negative(&mut errors, &spec, &["replicas", "minReadySeconds", "ordinals.start", "revisionHistoryLimit"]);
        let selector = template::workload_selector(&mut errors, &spec, "statefulset");
        template_of_set(&mut errors, &spec.field("template"), selector.as_ref());
        if let Some(old) = old
            && fixed(&new["spec"]) != fixed(&old["spec"])
        {
            errors.forbidden(&spec, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
        }
        errors
    }
    fn validate_part(_subresource: &str, new: &Value, _old: &Value) -> FieldErrors {
        replica_status::stateful_set(new)
    }
    fn prepare_create(object: &mut Value, _context: &WriteContext) {
        object.put("status", json!({"replicas": 0, "availableReplicas": 0}));
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "spec.template.spec")
    }
}

/// Upstream does not look into the pods' spec, which is not whole without the claims' volumes; their own creation does.
fn template_of_set(errors: &mut FieldErrors, at: &At, selector: Option<&LabelSelector>) {
    template::matched(errors, at, selector);
    // Told of without the `metadata` they are in, as upstream does.
    metadata::labels(errors, &At::new(&at["metadata"]["labels"], "spec.template.labels"));
    metadata::annotations(errors, &At::new(&at["metadata"]["annotations"], "spec.template.annotations"));
    template::endless(errors, at, "StatefulSet");
}

const CHANGEABLE: &[&str] =
    &["replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit", "persistentVolumeClaimRetentionPolicy", "minReadySeconds"];

/// What has to stay as it was.
fn fixed(spec: &Value) -> Vec<(&String, &Value)> {
    spec.entries().filter(|(field, value)| !CHANGEABLE.contains(&field.as_str()) && !value.is_zero()).collect()
}

fn update_strategy(errors: &mut FieldErrors, strategy: &At) {
    let update = strategy.field("rollingUpdate");
    match strategy["type"].text() {
        "" => errors.required(strategy, ""),
        "OnDelete" if update.is_set() => errors.invalid(&update, "only allowed for updateStrategy 'RollingUpdate'"),
        "OnDelete" => {}
        "RollingUpdate" => {
            numbers::non_negative(errors, &update.field("partition"));
            let unavailable = update.field("maxUnavailable");
            numbers::int_or_percent(errors, &unavailable);
            if unavailable.is_set() && numbers::is_nothing(&unavailable) {
                errors.invalid(&unavailable, "cannot be 0");
            }
            numbers::at_most_all(errors, &unavailable);
        }
        _ => errors.invalid(strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}
