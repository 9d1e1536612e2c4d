//! The definitions of `snapshot.storage.k8s.io/v1`, spelled out as the server would default them.
use controller_kit::volume_snapshot::{API_VERSION, GROUP};
use serde_json::{Value, json};

/// Where upstream agreed on this group.
const APPROVED: &str = "https://github.com/kubernetes-csi/external-snapshotter/pull/814";

/// All CustomResourceDefinitions of the group: VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotClass.
pub fn definitions() -> Vec<Value> {
    vec![snapshots(), contents(), classes()]
}

/// The class that a cluster with the driver starts with.
pub fn class(name: &str, driver: &str) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "VolumeSnapshotClass",
        "metadata": {"name": name, "annotations": {"snapshot.storage.kubernetes.io/is-default-class": "true"}},
        "driver": driver, "deletionPolicy": "Delete",
    })
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn rule(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// A text that, once said, stays.
fn fixed(field: &str, description: &str) -> Value {
    let mut schema = text(description);
    schema["x-kubernetes-validations"] = json!([rule("self == oldSelf", &format!("{field} is immutable"))]);
    schema
}

/// An object with exactly one of two fields, which stays the one.
fn one_of(one: (&str, &str), other: (&str, &str), description: &str) -> Value {
    let kept = |name: &str| rule(&format!("!has(oldSelf.{name}) || has(self.{name})"), &format!("{name} is required once set"));
    let (a, b) = (one.0, other.0);
    json!({
        "type": "object", "description": description,
        "properties": {a: fixed(a, one.1), b: fixed(b, other.1)},
        "x-kubernetes-validations": [
            kept(a), kept(b),
            rule(&format!("(has(self.{a}) && !has(self.{b})) || (!has(self.{a}) && has(self.{b}))"), &format!("exactly one of {a} and {b} must be set")),
        ],
    })
}

fn class_name(description: &str) -> Value {
    let mut schema = text(description);
    schema["x-kubernetes-validations"] = json!([rule("size(self) > 0", "volumeSnapshotClassName must not be the empty string when set")]);
    schema
}

fn error() -> Value {
    json!({"type": "object", "description": "The last error while the snapshot was made, if any.", "properties": {
        "message": text("What went wrong."),
        "time": {"type": "string", "format": "date-time", "description": "When it did."},
    }})
}

fn snapshots() -> Value {
    let content = "volumeSnapshotContentName";
    let source = one_of(
        (content, "The VolumeSnapshotContent of a snapshot that exists already."),
        ("persistentVolumeClaimName", "The claim, in the same namespace, whose volume a snapshot is made of."),
        "What the snapshot is made from.",
    );
    let properties = json!({
        "spec": {"type": "object", "description": "What is wanted.", "required": ["source"], "properties": {
            "source": source,
            "volumeSnapshotClassName": class_name("The VolumeSnapshotClass; the default one of the volume's driver where it is not said."),
        }},
        "status": {"type": "object", "description": "What has become of it.", "properties": {
            "boundVolumeSnapshotContentName": text("The VolumeSnapshotContent that this snapshot is bound to."),
            "creationTime": {"type": "string", "format": "date-time", "description": "The moment the snapshot shows."},
            "error": error(),
            "readyToUse": {"type": "boolean", "description": "Whether volumes can be made from it."},
            "restoreSize": {
                "anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true, "description": "The least size of a volume made from it.",
                "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            },
            "volumeGroupSnapshotName": text("The group snapshot that this one is part of."),
        }},
    });
    let columns = json!([
        column("ReadyToUse", "boolean", ".status.readyToUse", "Indicates if the snapshot is ready to be used to restore a volume."),
        column("SourcePVC", "string", ".spec.source.persistentVolumeClaimName", "The claim the snapshot is made of."),
        column("SourceSnapshotContent", "string", &format!(".spec.source.{content}"), "The content of a snapshot that existed already."),
        column("RestoreSize", "string", ".status.restoreSize", "The least size of a volume made from this snapshot."),
        column("SnapshotClass", "string", ".spec.volumeSnapshotClassName", "The VolumeSnapshotClass asked for."),
        column("SnapshotContent", "string", ".status.boundVolumeSnapshotContentName", "The VolumeSnapshotContent bound to it."),
        column("CreationTime", "date", ".status.creationTime", "When the snapshot was taken."),
        column("Age", "date", ".metadata.creationTimestamp", ""),
    ]);
    let names =
        json!({"kind": "VolumeSnapshot", "listKind": "VolumeSnapshotList", "plural": "volumesnapshots", "singular": "volumesnapshot", "shortNames": ["vs"]});
    definition(names, "Namespaced", properties, &["spec"], columns, true, "A user's request for a snapshot of a volume, or for one that exists.")
}

fn contents() -> Value {
    let source = one_of(
        ("volumeHandle", "The driver's handle of the volume that a snapshot is made of."),
        ("snapshotHandle", "The driver's handle of a snapshot that exists already."),
        "What the snapshot is made from.",
    );
    let reference = json!({
        "type": "object", "description": "The VolumeSnapshot that this is the content of.", "x-kubernetes-map-type": "atomic",
        "properties": {
            "apiVersion": text("API version of the referent."), "fieldPath": text("A part of the referent."), "kind": text("Kind of the referent."),
            "name": text("Name of the referent."), "namespace": text("Namespace of the referent."),
            "resourceVersion": text("The version this reference was made at."), "uid": text("UID of the referent."),
        },
        "x-kubernetes-validations": [
            rule("has(self.name) && has(self.__namespace__)", "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set"),
        ],
    });
    let size = |description: &str| json!({"type": "integer", "format": "int64", "minimum": 0, "description": description});
    let properties = json!({
        "spec": {
            "type": "object", "description": "What it is.", "required": ["deletionPolicy", "driver", "source", "volumeSnapshotRef"],
            "properties": {
                "deletionPolicy": {"type": "string", "enum": ["Delete", "Retain"], "description": "Whether the snapshot goes with this object."},
                "driver": text("The CSI driver that keeps the snapshot."),
                "source": source,
                "sourceVolumeMode": fixed("sourceVolumeMode", "The mode of the volume that the snapshot was made of."),
                "volumeSnapshotClassName": text("The class it was made of."),
                "volumeSnapshotRef": reference,
            },
            "x-kubernetes-validations": [rule("!has(oldSelf.sourceVolumeMode) || has(self.sourceVolumeMode)", "sourceVolumeMode is required once set")],
        },
        "status": {"type": "object", "description": "What the driver says of it.", "properties": {
            "creationTime": {"type": "integer", "format": "int64", "description": "The moment the snapshot shows, in nanoseconds since 1970."},
            "error": error(),
            "readyToUse": {"type": "boolean", "description": "Whether volumes can be made from it."},
            "restoreSize": size("The least size of a volume made from it, in bytes."),
            "snapshotHandle": text("The driver's handle of the snapshot."),
            "volumeGroupSnapshotHandle": text("The driver's handle of the group snapshot that this one is part of."),
        }},
    });
    let columns = json!([
        column("ReadyToUse", "boolean", ".status.readyToUse", "Indicates if the snapshot is ready to be used to restore a volume."),
        column("RestoreSize", "integer", ".status.restoreSize", "The least size of a volume made from it, in bytes."),
        column("DeletionPolicy", "string", ".spec.deletionPolicy", "Whether the snapshot goes with this object."),
        column("Driver", "string", ".spec.driver", "The CSI driver that keeps the snapshot."),
        column("VolumeSnapshotClass", "string", ".spec.volumeSnapshotClassName", "The class it was made of."),
        column("VolumeSnapshot", "string", ".spec.volumeSnapshotRef.name", "The VolumeSnapshot that this is the content of."),
        column("VolumeSnapshotNamespace", "string", ".spec.volumeSnapshotRef.namespace", "That one's namespace."),
        column("Age", "date", ".metadata.creationTimestamp", ""),
    ]);
    let names = json!({
        "kind": "VolumeSnapshotContent", "listKind": "VolumeSnapshotContentList", "plural": "volumesnapshotcontents", "singular": "volumesnapshotcontent",
        "shortNames": ["vsc", "vscs"],
    });
    definition(names, "Cluster", properties, &["spec"], columns, true, "A snapshot that a driver keeps.")
}

fn classes() -> Value {
    let properties = json!({
        "deletionPolicy": {"type": "string", "enum": ["Delete", "Retain"], "description": "What becomes of a snapshot when its VolumeSnapshot is deleted."},
        "driver": text("The CSI driver that makes the snapshots."),
        "parameters": {"type": "object", "additionalProperties": {"type": "string"}, "description": "What the driver is told."},
    });
    let columns = json!([
        column("Driver", "string", ".driver", ""),
        column("DeletionPolicy", "string", ".deletionPolicy", "What becomes of a snapshot when its VolumeSnapshot is deleted."),
        column("Age", "date", ".metadata.creationTimestamp", ""),
    ]);
    let names = json!({
        "kind": "VolumeSnapshotClass", "listKind": "VolumeSnapshotClassList", "plural": "volumesnapshotclasses", "singular": "volumesnapshotclass",
        "shortNames": ["vsclass", "vsclasses"],
    });
    definition(names, "Cluster", properties, &["deletionPolicy", "driver"], columns, false, "How a driver makes snapshots.")
}

fn column(name: &str, kind: &str, path: &str, description: &str) -> Value {
    let mut column = json!({"name": name, "type": kind, "jsonPath": path});
    if !description.is_empty() {
        column["description"] = json!(description);
    }
    column
}

fn definition(names: Value, scope: &str, mut properties: Value, required: &[&str], columns: Value, has_status: bool, description: &str) -> Value {
    for field in ["apiVersion", "kind"] {
        properties[field] = json!({"type": "string"});
    }
    properties["metadata"] = json!({"type": "object"});
    let mut version = json!({
        "name": "v1", "served": true, "storage": true, "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": {"type": "object", "description": description, "properties": properties, "required": required}},
    });
    if has_status {
        version["subresources"] = json!({"status": {}});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", names["plural"].as_str().unwrap_or_default()),
            "annotations": {"api-approved.kubernetes.io": APPROVED},
        },
        "spec": {"group": GROUP, "names": names, "scope": scope, "versions": [version], "conversion": {"strategy": "None"}},
    })
}
