//! PersistentVolumeClaim: storage that somebody asks for. Once made, only its size may grow, when it is bound.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim as Object, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
};
use k8s_openapi::api::core::v1::{TypedLocalObjectReference, TypedObjectReference};
use serde_json::Value;

use super::persistent_volume::{CLASS_ANNOTATION, OLD_CLASS, access_mode_errors, access_modes};
use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, Subresource, checks, internal, pod_spec};

/// See the module.
pub struct PersistentVolumeClaim;

impl Kind for PersistentVolumeClaim {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["pvc"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const RETURNS_DELETED: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] =
        &[MetadataCheck::Whole, MetadataCheck::Change, MetadataCheck::Whole];

    fn set_defaults(object: &mut Object) {
        let status = object.status.get_or_insert_default();
        if status.phase.as_deref().unwrap_or_default().is_empty() {
            status.phase = Some("Pending".to_owned());
        }
        object.spec.get_or_insert_default().volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(PersistentVolumeClaimStatus { phase: Some("Pending".to_owned()), ..Default::default() });
        let spec = object.spec.get_or_insert_default();
        drop_foreign_sources(spec, None);
        agree_on_sources(spec);
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
        let spec = new.spec.get_or_insert_default();
        drop_foreign_sources(spec, old.spec.as_ref());
        agree_on_sources(spec);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        validate_spec(&mut errors, &FieldPath::root("spec"), &object.spec.clone().unwrap_or_default());
        errors
    }

    /// Upstream says twice what is wrong with the claim itself.
    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        errors.extend(errors.clone());
        let (now, before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let mut base = before.clone();
        if before.volume_name.as_deref().unwrap_or_default().is_empty() {
            base.volume_name.clone_from(&now.volume_name);
        }
        let allowed = with_allowed_changes(&mut errors, new, old);
        let path = FieldPath::root("spec");
        if allowed != base {
            let difference = internal::difference("v1.PersistentVolumeClaimSpec", &base, &allowed);
            let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
            errors.push(FieldError::forbidden(&path, format!("{detail}\n{difference}")));
        }
        let capacity = old.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage"));
        let capacity = capacity.map(checks::quantity).unwrap_or_default();
        let size = |spec| requested(spec).unwrap_or_default();
        if size(&now) < size(&before) && size(&now) <= capacity {
            let path = path.child("resources").child("requests").child("storage");
            errors.push(FieldError::forbidden(&path, "field can not be less than status.capacity"));
        }
        checks::immutable(&mut errors, &FieldPath::root("volumeMode"), &now.volume_mode, &before.volume_mode);
        let class = path.child("volumeAttributesClassName");
        match (&before.volume_attributes_class_name, now.volume_attributes_class_name.as_deref()) {
            (Some(_), None) => {
                errors.push(FieldError::forbidden(&class, "update from non-nil value to nil is forbidden"));
            }
            (Some(before), Some("")) if !before.is_empty() => {
                let detail = "update from non-nil value to an empty string is forbidden";
                errors.push(FieldError::forbidden(&class, detail));
            }
            (Some(_) | None, _) => {}
        }
        errors
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        status(&mut errors, new);
        errors
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        let annotations = new.metadata.annotations.as_ref();
        let old = annotations.is_some_and(|annotations| annotations.contains_key(CLASS_ANNOTATION));
        let mut warnings: Vec<String> = old.then(|| OLD_CLASS.to_owned()).into_iter().collect();
        if let Some(spec) = &new.spec {
            warnings.extend(pod_spec::claim_warnings(&FieldPath::root("spec"), spec));
        }
        warnings
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Status", "phase represents the current phase of PersistentVolumeClaim."),
            printing::text("Volume", "volumeName is the binding reference to the PersistentVolume backing this claim."),
            printing::text("Capacity", "capacity represents the actual resources of the underlying volume."),
            printing::text(
                "Access Modes",
                "accessModes contains the actual access modes the volume backing the PVC has. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes-1",
            ),
            printing::text("StorageClass", "StorageClass of the pvc"),
            printing::text(
                "VolumeAttributesClass",
                "volumeAttributesClassName may be used to set the VolumeAttributesClass used by this claim.",
            ),
            AGE,
            printing::wide(
                "VolumeMode",
                "volumeMode defines what type of volume is required by the claim. Value of Filesystem is implied when not included in claim spec.",
            ),
        ];
        Columns {
            columns,
            cells: |object, now| {
                let (spec, status) =
                    (object.spec.clone().unwrap_or_default(), object.status.clone().unwrap_or_default());
                let volume = spec.volume_name.unwrap_or_default();
                let deleted = object.metadata.deletion_timestamp.is_some();
                let phase = if deleted { "Terminating".to_owned() } else { status.phase.unwrap_or_default() };
                let bound = !volume.is_empty();
                let size = status.capacity.as_ref().and_then(|capacity| capacity.get("storage"));
                let size = size.map_or("0", |amount| amount.0.as_str());
                let annotations = object.metadata.annotations.as_ref();
                let class = annotations.and_then(|a| a.get(CLASS_ANNOTATION)).cloned().or(spec.storage_class_name);
                vec![
                    printing::name(&object.metadata),
                    Value::from(phase),
                    Value::from(volume),
                    Value::from(if bound { size } else { "" }),
                    Value::from(if bound { access_modes(status.access_modes.as_deref()) } else { String::new() }),
                    Value::from(class.unwrap_or_default()),
                    Value::from(spec.volume_attributes_class_name.unwrap_or_else(|| "<unset>".to_owned())),
                    printing::age(&object.metadata, now),
                    Value::from(spec.volume_mode.unwrap_or_else(|| "<unset>".to_owned())),
                ]
            },
        }
    }
}

/// The new spec with what may change set back to what it was.
fn with_allowed_changes(errors: &mut FieldErrors, new: &Object, old: &Object) -> PersistentVolumeClaimSpec {
    let (mut spec, before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
    let annotation = |object: &Object| object.metadata.annotations.as_ref()?.get(CLASS_ANNOTATION).cloned();
    let (now, earlier) = (annotation(new), annotation(old));
    let unnamed = before.storage_class_name.is_none();
    let same = spec.storage_class_name.is_some() && spec.storage_class_name == earlier;
    if earlier.is_some() && unnamed && same && (now.is_none() || now == earlier) {
        // The class moves from its oldest place, an annotation, to its field.
        spec.storage_class_name = None;
    } else {
        let (now, earlier) = (now.unwrap_or_default(), earlier.clone().unwrap_or_default());
        let path = FieldPath::root("metadata").child("annotations").child(CLASS_ANNOTATION);
        checks::immutable(errors, &path, &now, &earlier);
        if spec.storage_class_name.is_some() && unnamed && (annotation(old).is_none() || same) {
            spec.storage_class_name = None;
        }
    }
    if new.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound") {
        let kept = before.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage"));
        let requests = spec.resources.as_mut().and_then(|resources| resources.requests.as_mut());
        if let (Some(requests), Some(kept)) = (requests, kept) {
            requests.insert("storage".to_owned(), kept.clone());
        }
        if spec.volume_attributes_class_name.is_some() {
            spec.volume_attributes_class_name.clone_from(&before.volume_attributes_class_name);
        }
    }
    spec
}

fn requested(spec: &PersistentVolumeClaimSpec) -> Option<api::Quantity> {
    spec.resources.as_ref()?.requests.as_ref()?.get("storage").map(checks::quantity)
}

/// What a controller can't say of a claim.
fn status(errors: &mut FieldErrors, claim: &Object) {
    const RESIZES: &[&str] = &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    if modes.is_empty() {
        errors.push(FieldError::required(&FieldPath::root("Spec").child("accessModes"), ""));
    }
    let path = FieldPath::root("status");
    let status = claim.status.clone().unwrap_or_default();
    let basic = |errors: &mut FieldErrors, path: &FieldPath, amount: &api::Quantity| {
        if amount.value() < 0 {
            errors.push(FieldError::invalid(path, amount.value(), "must be a valid resource quantity"));
        }
    };
    for (resource, amount) in status.capacity.iter().flatten() {
        basic(errors, &path.child("capacity").key(resource), &checks::quantity(amount));
    }
    let at = path.child("allocatedResourceStatus");
    for (resource, resize) in status.allocated_resource_statuses.iter().flatten() {
        allocated_resource(errors, &at, resource);
        if !RESIZES.contains(&resize.as_str()) {
            // Upstream shows the resource in place of what is not supported.
            errors.push(checks::unsupported(&at, resource, RESIZES));
        }
    }
    let at = path.child("allocatedResources");
    for (resource, amount) in status.allocated_resources.iter().flatten() {
        let before = errors.len();
        allocated_resource(errors, &at, resource);
        if errors.len() > before {
            continue;
        }
        basic(errors, &at.key(resource), &checks::quantity(amount));
        if errors.len() == before {
            checks::resource_quantity(errors, &at.key(resource), "storage", amount);
        }
    }
}

/// Of Kubernetes' own resources a claim has only storage.
fn allocated_resource(errors: &mut FieldErrors, path: &FieldPath, resource: &str) {
    let wrong = names::qualified_name(resource);
    if wrong.is_empty() && checks::is_native_resource(resource) && resource != "storage" {
        errors.push(checks::unsupported(path, resource, &["storage"]));
    }
    errors.push_invalid(path, resource, wrong);
}

/// Of the oldest field only claims and snapshots count, and sources in other namespaces are off by default; what a claim
/// already has stays.
fn drop_foreign_sources(spec: &mut PersistentVolumeClaimSpec, old: Option<&PersistentVolumeClaimSpec>) {
    let had_reference = old.is_some_and(|old| old.data_source_ref.is_some());
    let foreign = |reference: &TypedObjectReference| reference.namespace.as_ref().is_some_and(|name| !name.is_empty());
    if spec.data_source_ref.as_ref().is_some_and(foreign) && !had_reference {
        spec.data_source_ref = None;
    }
    if spec.data_source_ref.is_some() || had_reference || old.is_some_and(|old| old.data_source.is_some()) {
        return;
    }
    let known = |source: &TypedLocalObjectReference| {
        let group = source.api_group.as_deref().unwrap_or_default();
        matches!(
            (group, source.kind.as_str()),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    };
    if !spec.data_source.as_ref().is_some_and(known) {
        spec.data_source = None;
    }
}

/// `dataSource` and `dataSourceRef` say the same, unless the reference names a namespace.
fn agree_on_sources(spec: &mut PersistentVolumeClaimSpec) {
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            let TypedLocalObjectReference { api_group, kind, name } = source.clone();
            spec.data_source_ref = Some(TypedObjectReference { api_group, kind, name, namespace: None });
        }
        (None, Some(reference)) if reference.namespace.as_deref().unwrap_or_default().is_empty() => {
            let TypedObjectReference { api_group, kind, name, .. } = reference.clone();
            spec.data_source = Some(TypedLocalObjectReference { api_group, kind, name });
        }
        (Some(_) | None, _) => {}
    }
}

/// All errors of a claim's spec.
pub fn validate_spec(errors: &mut FieldErrors, path: &FieldPath, spec: &PersistentVolumeClaimSpec) {
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    checks::label_selector(errors, &path.child("selector"), spec.selector.as_ref());
    access_mode_errors(errors, &path.child("accessModes"), modes);
    let storage = path.child("resources").key("storage");
    match spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage")) {
        None => errors.push(FieldError::required(&storage, "")),
        Some(amount) => {
            let amount = checks::quantity(amount);
            if amount.is_zero() || amount.is_negative() {
                errors.push(FieldError::invalid(&storage, amount.to_string(), "must be greater than zero"));
            }
        }
    }
    if let Some(class) = spec.storage_class_name.as_ref().filter(|class| !class.is_empty()) {
        errors.push_invalid(&path.child("storageClassName"), class, names::is_dns1123_subdomain(class));
    }
    if let Some(mode) = &spec.volume_mode {
        checks::one_of(errors, &path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    sources(errors, path, spec);
    if let Some(class) = spec.volume_attributes_class_name.as_ref().filter(|class| !class.is_empty()) {
        let path = path.child("volumeAttributesClassName");
        errors.push_invalid(&path, class, names::is_dns1123_subdomain(class));
    }
}

/// What a volume begins with.
fn sources(errors: &mut FieldErrors, path: &FieldPath, spec: &PersistentVolumeClaimSpec) {
    let mut check = |path: &FieldPath, group: Option<&String>, kind: &str, name: &str| {
        checks::required(errors, &path.child("name"), name);
        checks::required(errors, &path.child("kind"), kind);
        match group.map(String::as_str).unwrap_or_default() {
            "" if kind != "PersistentVolumeClaim" => {
                let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
                errors.push(FieldError::invalid(path, kind, detail));
            }
            "" => {}
            group => errors.push_invalid(&path.child("apiGroup"), group, names::is_dns1123_subdomain(group)),
        }
    };
    if let Some(source) = &spec.data_source {
        check(&path.child("dataSource"), source.api_group.as_ref(), &source.kind, &source.name);
    }
    if let Some(source) = &spec.data_source_ref {
        check(&path.child("dataSourceRef"), source.api_group.as_ref(), &source.kind, &source.name);
        let namespace = source.namespace.as_deref().unwrap_or_default();
        if !namespace.is_empty() {
            let path = path.child("dataSourceRef").child("namespace");
            errors.push_invalid(&path, namespace, names::is_dns1123_label(namespace));
        }
    }
    if let (Some(source), Some(reference)) = (&spec.data_source, &spec.data_source_ref) {
        // Upstream prints a path here, which has nothing to print.
        let shown = serde_json::json!({});
        let same =
            (&source.api_group, &source.kind, &source.name) == (&reference.api_group, &reference.kind, &reference.name);
        if reference.namespace.as_ref().is_some_and(|namespace| !namespace.is_empty()) {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(FieldError::invalid(path, &shown, detail));
        } else if !same {
            errors.push(FieldError::invalid(path, &shown, "must match dataSourceRef"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(spec: Value) -> Object {
        let mut object = serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": spec})).expect("a claim");
        PersistentVolumeClaim::set_defaults(&mut object);
        PersistentVolumeClaim::prepare_for_create(&mut object);
        object
    }

    #[test]
    fn what_is_refused() {
        let size = |amount: &str| json!({"requests": {"storage": amount}});
        let table = [
            (json!({"accessModes": ["ReadWriteOnce"]}), "spec.resources[storage]: Required value"),
            (
                json!({"accessModes": ["ReadWriteOnce"], "resources": size("0")}),
                "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            (
                json!({"accessModes": ["Once"], "resources": size("1Gi")}),
                "spec.accessModes: Unsupported value: \"Once\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            ),
        ];
        for (spec, message) in table {
            assert_eq!(PersistentVolumeClaim::validate(&claim(spec)).to_string(), message);
        }
        let spec = |amount: &str| json!({"accessModes": ["ReadWriteOnce"], "resources": size(amount)});
        let (mut old, mut new) = (claim(spec("1Gi")), claim(spec("2Gi")));
        assert!(
            PersistentVolumeClaim::validate_update(&new, &old)
                .to_string()
                .starts_with("spec: Forbidden: spec is immutable after creation")
        );
        old.status.as_mut().expect("a status").phase = Some("Bound".to_owned());
        new.status.clone_from(&old.status);
        assert_eq!(PersistentVolumeClaim::validate_update(&new, &old).to_string(), "[]");
    }

    #[test]
    fn sources_are_mirrored() {
        let spec = claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "b"}})).spec.expect("a spec");
        assert_eq!(spec.data_source_ref.map(|reference| reference.name), Some("b".to_owned()));
        let spec =
            claim(json!({"dataSource": {"apiGroup": "x.org", "kind": "Thing", "name": "b"}})).spec.expect("a spec");
        assert_eq!((spec.data_source, spec.data_source_ref), (None, None), "the old field knows no other kinds");
        let reference = json!({"apiGroup": "x.org", "kind": "Thing", "name": "b"});
        let spec = claim(json!({"dataSourceRef": reference})).spec.expect("a spec");
        assert_eq!(spec.data_source.map(|source| source.kind), Some("Thing".to_owned()));
    }

    #[test]
    fn cells() {
        let row = (PersistentVolumeClaim::columns().cells)(
            &claim(json!({"storageClassName": "none"})),
            k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(row, ["c", "Pending", "", "", "", "none", "<unset>", "<unknown>", "Filesystem"]);
    }
}
