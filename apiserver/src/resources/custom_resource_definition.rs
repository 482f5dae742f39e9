//! CustomResourceDefinition: a kind that users define. What becomes of one is the work of [`crate::definitions`].
//!
//! Reference: <https://kubernetes.io/docs/reference/kubernetes-api/extend-resources/custom-resource-definition-v1/>.

mod conversion;
mod default_values;
pub(super) mod field_path;
mod internal;
mod open_api;
pub(super) mod rules;
mod structural;
mod validate;

use api::field::FieldErrors;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition as Object, CustomResourceDefinitionCondition,
    CustomResourceDefinitionStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::{Columns, DeletedBy, Kind, Subresource, printing};

/// Keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// See the module.
pub struct CustomResourceDefinition;

impl Kind for CustomResourceDefinition {
    type Object = Object;
    const DELETED_BY: DeletedBy = DeletedBy::KindAlone;
    const SHORT_NAMES: &'static [&'static str] = &["crd", "crds"];
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    /// Upstream's discovery names the hash of the oldest version.
    const STORED_VERSION: &'static str = "v1beta1";
    const UNCONDITIONAL_UPDATE: bool = false;
    const GENERATION: bool = true;

    fn set_defaults(object: &mut Object) {
        let names = &mut object.spec.names;
        if names.singular.as_deref().unwrap_or_default().is_empty() {
            names.singular = Some(names.kind.to_lowercase());
        }
        if names.list_kind.as_deref().unwrap_or_default().is_empty() && !names.kind.is_empty() {
            names.list_kind = Some(format!("{}List", names.kind));
        }
        let none = || CustomResourceConversion { strategy: "None".to_owned(), webhook: None };
        let conversion = object.spec.conversion.get_or_insert_with(none);
        let client = conversion.webhook.as_mut().and_then(|webhook| webhook.client_config.as_mut());
        if let Some(service) = client.and_then(|client| client.service.as_mut()) {
            service.port.get_or_insert(443);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = Some(CustomResourceDefinitionStatus::default());
        note_stored_version(object);
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
        note_stored_version(new);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec = old.spec.clone();
    }

    fn validate(object: &Object) -> FieldErrors {
        validate::check(object)
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        validate::check_update(new, old)
    }

    fn validate_status_update(new: &Object, _: &Object) -> FieldErrors {
        validate::status(new)
    }

    /// The first delete only marks the definition; its objects go first.
    fn begin_deletion(object: &mut Object, now: Timestamp) -> bool {
        let finalizers = object.metadata.finalizers.get_or_insert_default();
        if !finalizers.iter().any(|name| name == CLEANUP) {
            finalizers.push(CLEANUP.to_owned());
        }
        set_condition(
            object,
            "Terminating",
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        );
        let conditions = object.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
        for condition in conditions.filter(|condition| condition.type_ == "Terminating") {
            condition.last_transition_time.get_or_insert(Time(now));
        }
        true
    }

    fn reset_fields(subresource: Option<Subresource>) -> &'static [&'static str] {
        match subresource {
            Some(_) => &["metadata", "spec"],
            None => &["status"],
        }
    }

    fn columns() -> Columns<Object> {
        printing::name_and_created()
    }
}

/// The storage version is one in which objects may be stored from now on.
fn note_stored_version(object: &mut Object) {
    let Some(storage) = object.spec.versions.iter().find(|version| version.storage) else { return };
    let stored = object.status.get_or_insert_default().stored_versions.get_or_insert_default();
    if !stored.contains(&storage.name) {
        stored.push(storage.name.clone());
    }
}

/// The condition of a type.
pub fn condition<'a>(object: &'a Object, name: &str) -> Option<&'a CustomResourceDefinitionCondition> {
    object.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == name)
}

/// Whether a condition is true.
pub fn is_true(object: &Object, name: &str) -> bool {
    condition(object, name).is_some_and(|condition| condition.status == "True")
}

/// Sets a condition. When it changed is for the controllers to say, which know the time; here it stays what it was, or unknown.
pub fn set_condition(object: &mut Object, name: &str, status: &str, reason: &str, message: &str) {
    let conditions = object.status.get_or_insert_default().conditions.get_or_insert_default();
    let changed = CustomResourceDefinitionCondition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..CustomResourceDefinitionCondition::default()
    };
    match conditions.iter_mut().find(|condition| condition.type_ == name) {
        Some(known) => {
            let since = known.last_transition_time.clone().filter(|_| known.status == status);
            *known = CustomResourceDefinitionCondition { last_transition_time: since, ..changed };
        }
        None => conditions.push(changed),
    }
}
