//! PersistentVolume: storage that exists. Its source never changes.

mod source;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume as Object, PersistentVolumeSpec, PersistentVolumeStatus,
};
use serde_json::Value;

use super::pod_spec::{node_selector, old_labels_of_term};
use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, Subresource, checks, internal};

/// See the module.
pub struct PersistentVolume;

/// The annotation that `storageClassName` replaced, of volumes and claims.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// What is said of it.
pub const OLD_CLASS: &str = "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead";
const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

impl Kind for PersistentVolume {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["pv"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const RETURNS_DELETED: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Whole];

    fn set_defaults(object: &mut Object) {
        let status = object.status.get_or_insert_default();
        if status.phase.as_deref().unwrap_or_default().is_empty() {
            status.phase = Some("Pending".to_owned());
        }
        let spec = object.spec.get_or_insert_default();
        if spec.persistent_volume_reclaim_policy.as_deref().unwrap_or_default().is_empty() {
            spec.persistent_volume_reclaim_policy = Some("Retain".to_owned());
        }
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(source) = &mut spec.host_path {
            source.type_.get_or_insert_default();
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            last_phase_transition_time: object.metadata.creation_timestamp.clone(),
            ..Default::default()
        });
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let name = object.metadata.name.as_deref().unwrap_or_default();
        validate_spec(&mut errors, &FieldPath::root("spec"), &object.spec.clone().unwrap_or_default(), name);
        errors
    }

    /// Upstream says twice what is wrong with the volume itself.
    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        errors.extend(errors.clone());
        let path = FieldPath::root("spec");
        let (mut new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        // A secret for growing may be named later.
        if let (Some(new), Some(old)) = (&mut new.csi, &old.csi)
            && old.controller_expand_secret_ref.is_none()
        {
            new.controller_expand_secret_ref = None;
        }
        if source::of(&new) != source::of(&old) {
            let difference = internal::source_difference(&old, &new);
            let detail = format!("spec.persistentvolumesource is immutable after creation\n{difference}");
            errors.push(FieldError::forbidden(&path.child("persistentvolumesource"), detail));
        }
        checks::immutable(&mut errors, &FieldPath::root("volumeMode"), &new.volume_mode, &old.volume_mode);
        if old.node_affinity.is_some() && new.node_affinity != old.node_affinity {
            let detail = "field is immutable, except for updating from beta label to GA";
            let shown = "v1.VolumeNodeAffinity";
            errors.push(internal::invalid(&FieldPath::root("nodeAffinity"), shown, &new.node_affinity, detail));
        }
        if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
            let detail = "update from non-nil value to nil is forbidden";
            errors.push(FieldError::forbidden(&path.child("volumeAttributesClassName"), detail));
        }
        errors
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        let mut warnings = Vec::new();
        let path = FieldPath::root("spec");
        if new.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(CLASS_ANNOTATION)) {
            warnings.push(OLD_CLASS.to_owned());
        }
        let Some(spec) = &new.spec else { return warnings };
        if spec.persistent_volume_reclaim_policy.as_deref() == Some("Recycle") {
            warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
        }
        let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
        let terms = path.child("nodeAffinity").child("required").child("nodeSelectorTerms");
        for (i, term) in required.iter().flat_map(|selector| &selector.node_selector_terms).enumerate() {
            old_labels_of_term(&mut warnings, &terms.index(i), term);
        }
        warnings.extend(source::warnings(&path, spec));
        warnings
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text(
                "Capacity",
                "capacity is the description of the persistent volume's resources and capacity. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#capacity",
            ),
            printing::text(
                "Access Modes",
                "accessModes contains all ways the volume can be mounted. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes",
            ),
            printing::text(
                "Reclaim Policy",
                "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim. Valid options are Retain (default for manually created PersistentVolumes), Delete (default for dynamically provisioned PersistentVolumes), and Recycle (deprecated). Recycle must be supported by the volume plugin underlying this PersistentVolume. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#reclaiming",
            ),
            printing::text(
                "Status",
                "phase indicates if a volume is available, bound to a claim, or released by a claim. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#phase",
            ),
            printing::text(
                "Claim",
                "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim. Expected to be non-nil when bound. claim.VolumeName is the authoritative bind between PV and PVC. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#binding",
            ),
            printing::text("StorageClass", "StorageClass of the pv"),
            printing::text(
                "VolumeAttributesClass",
                "Name of VolumeAttributesClass to which this persistent volume belongs.",
            ),
            printing::text(
                "Reason",
                "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy display in the CLI.",
            ),
            AGE,
            printing::wide(
                "VolumeMode",
                "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state. Value of Filesystem is implied when not included in spec.",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let (spec, status) =
                    (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
                let deleted = object.metadata.deletion_timestamp.is_some();
                let phase = if deleted { "Terminating".to_owned() } else { status.phase.unwrap_or_default() };
                let claim = spec
                    .claim_ref
                    .map(|claim| format!("{}/{}", claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default()));
                let capacity = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
                let annotations = object.metadata.annotations.as_ref();
                let class = annotations.and_then(|a| a.get(CLASS_ANNOTATION)).cloned().or(spec.storage_class_name);
                vec![
                    printing::name(&object.metadata),
                    Value::from(capacity.map(|amount| amount.0.clone()).unwrap_or_else(|| "0".to_owned())),
                    Value::from(access_modes(spec.access_modes.as_deref())),
                    Value::from(spec.persistent_volume_reclaim_policy.unwrap_or_default()),
                    Value::from(phase),
                    Value::from(claim.unwrap_or_default()),
                    Value::from(class.unwrap_or_default()),
                    Value::from(spec.volume_attributes_class_name.unwrap_or_else(|| "<unset>".to_owned())),
                    Value::from(status.reason.unwrap_or_default()),
                    printing::age(&object.metadata, now),
                    Value::from(spec.volume_mode.unwrap_or_else(|| "<unset>".to_owned())),
                ]
            },
        }
    }
}

/// `RWO,ROX`.
pub fn access_modes(modes: Option<&[String]>) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let modes = modes.unwrap_or_default();
    let shown = short.iter().filter(|(mode, _)| modes.iter().any(|given| given == mode)).map(|(_, short)| *short);
    shown.collect::<Vec<_>>().join(",")
}

/// All errors of access modes that are there.
pub fn access_mode_errors(errors: &mut FieldErrors, path: &FieldPath, modes: &[String]) {
    for mode in modes {
        checks::one_of(errors, path, mode, MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.push(FieldError::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

fn validate_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &PersistentVolumeSpec, name: &str) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), ""));
    }
    access_mode_errors(errors, &path.child("accessModes"), modes);
    let capacity = spec.capacity.clone().unwrap_or_default();
    if capacity.is_empty() {
        errors.push(FieldError::required(&path.child("capacity"), ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(checks::unsupported(&path.child("capacity"), &spec.capacity, &["storage"]));
    }
    for (resource, amount) in &capacity {
        let (path, amount) = (path.child("capacity").key(resource), checks::quantity(amount));
        if amount.value() < 0 {
            errors.push(FieldError::invalid(&path, amount.value(), "must be a valid resource quantity"));
        }
        if amount.is_zero() || amount.is_negative() {
            errors.push(FieldError::invalid(&path, amount.to_string(), "must be greater than zero"));
        }
    }
    let policy = spec.persistent_volume_reclaim_policy.as_deref().unwrap_or_default();
    if !policy.is_empty() {
        checks::one_of(errors, &path.child("persistentVolumeReclaimPolicy"), policy, &["Delete", "Recycle", "Retain"]);
    }
    let required = path.child("nodeAffinity").child("required");
    match spec.node_affinity.as_ref().map(|affinity| affinity.required.as_ref()) {
        Some(Some(selector)) => node_selector(errors, &required, selector),
        Some(None) => errors.push(FieldError::required(&required, "must specify required node constraints")),
        None => {}
    }
    source::validate(errors, path, spec, name);
    let root = |source: &HostPathVolumeSource| source.path.split('/').all(|part| matches!(part, "" | "."));
    if spec.host_path.as_ref().is_some_and(root) && policy == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&path.child("persistentVolumeReclaimPolicy"), detail));
    }
    if let Some(class) = spec.storage_class_name.as_ref().filter(|class| !class.is_empty()) {
        errors.push_invalid(&path.child("storageClassName"), class, names::is_dns1123_subdomain(class));
    }
    if let Some(mode) = &spec.volume_mode {
        checks::one_of(errors, &path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    if let Some(class) = &spec.volume_attributes_class_name {
        let at = path.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(FieldError::required(&at, "an empty string is disallowed"));
        } else {
            errors.push_invalid(&at, class, names::is_dns1123_subdomain(class));
        }
        if spec.csi.is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(&path.child("csi"), detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused() {
        let base =
            json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}});
        let with = |fields: Value| {
            let mut spec = base.clone();
            for (name, value) in fields.as_object().expect("fields") {
                spec[name] = value.clone();
            }
            let mut object: Object = serde_json::from_value(json!({"spec": spec})).expect("a volume");
            PersistentVolume::set_defaults(&mut object);
            PersistentVolume::validate(&object).to_string()
        };
        let table = [
            (json!({}), "[]"),
            (json!({"hostPath": null}), "spec: Required value: must specify a volume type"),
            (
                json!({"nfs": {"server": "s", "path": "/"}}),
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ),
            (
                json!({"capacity": null}),
                "[spec.capacity: Required value, spec.capacity: Unsupported value: null: supported values: \"storage\"]",
            ),
            (json!({"accessModes": []}), "spec.accessModes: Required value"),
            (
                json!({"hostPath": {"path": "/a/../b"}}),
                "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            ),
            (
                json!({"persistentVolumeReclaimPolicy": "Burn"}),
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(with(fields), message);
        }
    }
}
