//! Pod: containers that run together on one node.
use crate::check::{At, Report};
use crate::core::{pod_columns, pod_status};
use crate::fields::{Fill, Read, selectable};
use crate::pod_spec::warnings;
use crate::pod_spec::{defaults, label_keys, qos};
use crate::pod_spec::{update, validate};
use crate::subresources::{ATTACH, BINDING, EPHEMERAL_CONTAINERS, EVICTION, EXEC, LOG, POD_PROXY, PORT_FORWARD, RESIZE};
use api_meta::FieldErrors;
use api_resource::{ALL, Column, Field, Names, Resource, STATUS, Subresource, WriteContext, text};
use serde_json::{Value, json};

pub struct Pods;

impl Resource for Pods {
    const NAMES: Names = Names::with("", "v1", "Pod", "pods", "pod", const { &[text("po")] }, ALL);
    const RETURNS_DELETED: bool = true;
    const COLUMNS: &[Column] = pod_columns::COLUMNS;
    const SUBRESOURCES: &'static [Subresource] = &[STATUS, LOG, EXEC, ATTACH, PORT_FORWARD, POD_PROXY, BINDING, EVICTION, EPHEMERAL_CONTAINERS, RESIZE];
    const FIELDS: &[Field] = &[
        selectable("spec.nodeName", ""),
        selectable("spec.restartPolicy", ""),
        selectable("spec.schedulerName", ""),
        selectable("spec.serviceAccountName", ""),
        selectable("spec.hostNetwork", "false"),
        selectable("status.phase", ""),
        selectable("status.podIP", ""),
        selectable("status.nominatedNodeName", ""),
    ];
    fn default(object: &mut Value) {
        let spec = object.open("spec");
        defaults::pod_spec(spec);
        defaults::pod(spec);
    }
    fn prepare_create(object: &mut Value, context: &WriteContext) {
        // Admission may have added containers and volumes with fields left out.
        Self::default(object);
        label_keys::resolve(object);
        let mut status = json!({"phase": "Pending", "qosClass": qos::class(&object["spec"])});
        if !object["spec"]["schedulingGates"].list().is_empty() {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            }]);
        }
        object.put("status", status);
    }
    fn prepare_part(subresource: &str, new: &mut Value, old: &Value, _context: &WriteContext) {
        // The class of a running pod never changes, whatever a writer of its status forgets.
        if subresource == "status"
            && let Some(class) = old["status"].get("qosClass")
        {
            new.open("status").zero("qosClass", class.clone());
        }
        if subresource == "ephemeralcontainers" || subresource == "resize" {
            defaults::pod_spec(new.open("spec"));
        }
    }
    fn grace(object: &Value, asked: Option<i64>) -> Option<i64> {
        // Nothing runs yet, or nothing any more.
        if object["spec"]["nodeName"].text().is_empty() || matches!(object["status"]["phase"].text(), "Succeeded" | "Failed") {
            return Some(0);
        }
        let seconds = asked.or_else(|| object["spec"]["terminationGracePeriodSeconds"].int()).unwrap_or_default();
        Some(if seconds < 0 { 1 } else { seconds })
    }
    fn validate(new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        validate::pod_spec(&mut errors, &spec, Some(new["metadata"]["name"].text()));
        validate::pod_only(&mut errors, &spec);
        match old {
            Some(old) => update::pod(&mut errors, &spec, &old["spec"]),
            None => {
                if !spec["ephemeralContainers"].list().is_empty() {
                    errors.forbidden(&spec.field("ephemeralContainers"), "cannot be set on create");
                }
                if !spec["nodeName"].text().is_empty() && !spec["schedulingGates"].list().is_empty() {
                    errors.forbidden(&spec.field("nodeName"), "cannot be set until all schedulingGates have been cleared");
                }
            }
        }
        errors
    }
    fn validate_part(subresource: &str, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let root = At::root(new);
        let spec = root.field("spec");
        match subresource {
            "status" => pod_status::status(&mut errors, &root.field("status"), old),
            "ephemeralcontainers" => {
                validate::pod_spec(&mut errors, &spec, Some(new["metadata"]["name"].text()));
                update::ephemeral_containers(&mut errors, &spec, &old["spec"]);
            }
            "resize" => {
                validate::pod_spec(&mut errors, &spec, Some(new["metadata"]["name"].text()));
                update::resize(&mut errors, &spec, &old["spec"]);
            }
            _ => {}
        }
        errors
    }
    fn warnings(new: &Value, _old: Option<&Value>) -> Vec<String> {
        warnings::pod_spec(new, "spec")
    }
}
