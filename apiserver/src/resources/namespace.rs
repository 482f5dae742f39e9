//! Namespace: created Active with the finalizer `kubernetes`, which only `/finalize` changes.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{Namespace as Object, NamespaceSpec, NamespaceStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, DeletedBy, Kind, MetadataCheck, Subresource, name_or_prefix};
use crate::write::metadata;

/// See the module.
pub struct Namespace;

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Kind for Namespace {
    type Object = Object;
    const DELETED_BY: DeletedBy = DeletedBy::Kind;
    const SHORT_NAMES: &'static [&'static str] = &["ns"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Finalize, Subresource::Status];
    const FIELDS: &'static [(&'static str, &'static [&'static str])] = &[("status.phase", &["/status/phase"])];
    const RETURNS_DELETED: bool = true;
    const DELETE_COLLECTION: bool = false;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Change];

    fn set_defaults(object: &mut Object) {
        let status = object.status.get_or_insert_default();
        if status.phase.as_deref().unwrap_or_default().is_empty() {
            status.phase = Some("Active".to_owned());
        }
        if let Some(name) = object.metadata.name.clone().filter(|name| !name.is_empty()) {
            object.metadata.labels.get_or_insert_default().insert(NAME_LABEL.to_owned(), name);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(NamespaceStatus { phase: Some("Active".to_owned()), conditions: None });
        let finalizers = object.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|name| name == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        Self::set_defaults(object);
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.spec = Some(NamespaceSpec { finalizers: old.spec.as_ref().and_then(|spec| spec.finalizers.clone()) });
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
    }

    fn begin_deletion(object: &mut Object, _: Timestamp) -> bool {
        object.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        true
    }

    fn holds_removal(object: &Object) -> bool {
        object.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).next().is_some()
    }

    fn validate(object: &Object) -> FieldErrors {
        finalizers(object, |path, _| path.clone())
    }

    fn validate_update(new: &Object, _old: &Object) -> FieldErrors {
        finalizers(new, FieldPath::index)
    }

    fn validate_status_update(new: &Object, _old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        // Upstream's path.
        let path = FieldPath::root("status").child("Phase");
        let phase = new.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        match (new.metadata.deletion_timestamp.is_some(), phase) {
            (true, phase) if phase != "Terminating" => {
                errors.push(FieldError::invalid(
                    &path,
                    phase,
                    "may only be 'Terminating' if `deletionTimestamp` is not empty",
                ));
            }
            (false, phase) if phase != "Active" => {
                errors.push(FieldError::invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty"));
            }
            (true | false, _) => {}
        }
        errors
    }

    fn validate_name(name: &str, prefix: bool) -> Vec<String> {
        name_or_prefix(names::is_dns1123_label, name, prefix)
    }

    fn columns() -> Columns<Object> {
        let columns = vec![NAME, printing::text("Status", "The status of the namespace"), AGE];
        Columns {
            columns,
            cells: |object, now| {
                let phase = object.status.as_ref().and_then(|status| status.phase.clone());
                vec![printing::name(&object.metadata), Value::from(phase), printing::age(&object.metadata, now)]
            },
        }
    }
}

/// Upstream says of new namespaces that some finalizer is wrong, of others which one.
fn finalizers(object: &Object, at: impl Fn(&FieldPath, usize) -> FieldPath) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let list = FieldPath::root("spec").child("finalizers");
    for (i, name) in object.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).enumerate() {
        let path = at(&list, i);
        errors.push_invalid(&path, name, names::qualified_name(name));
        if !name.contains('/') && !metadata::is_standard_finalizer(name) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path, name, detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(value: Value) -> Object {
        serde_json::from_value(value).expect("a namespace")
    }

    #[test]
    fn is_born_active() {
        let mut object = namespace(json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}}));
        Namespace::prepare_for_create(&mut object);
        let expected = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {NAME_LABEL: "a"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        assert_eq!(serde_json::to_value(&object).expect("json"), expected);
    }

    #[test]
    fn finalizers_are_qualified() {
        let wrong = namespace(json!({"spec": {"finalizers": ["kubernetes", "example.org/f", "nonsense"]}}));
        let message =
            "Invalid value: \"nonsense\": name is neither a standard finalizer name nor is it fully qualified";
        assert_eq!(Namespace::validate(&wrong).to_string(), format!("spec.finalizers: {message}"));
        assert_eq!(Namespace::validate_update(&wrong, &wrong).to_string(), format!("spec.finalizers[2]: {message}"));
    }
}
