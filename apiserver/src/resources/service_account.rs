//! ServiceAccount: an identity for pods; `/token` issues its tokens.

use api::field::FieldErrors;
use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount as Object};

use super::printing;
use super::{Columns, Kind, MetadataCheck, Subresource};

/// Says that pods of an account may use only the secrets it names.
const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";

/// See the module.
pub struct ServiceAccount;

impl Kind for ServiceAccount {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["sa"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];
    const RETURNS_DELETED: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Change, MetadataCheck::Whole];

    fn prepare_for_create(object: &mut Object) {
        keep_names(object);
    }

    fn prepare_for_update(new: &mut Object, _old: &Object) {
        keep_names(new);
    }

    fn validate(_: &Object) -> FieldErrors {
        FieldErrors::new()
    }

    fn warnings(new: &Object, old: Option<&Object>) -> Vec<String> {
        let enforces = |object: &Object| object.metadata.annotations.iter().flatten().any(|(key, _)| key == ENFORCED);
        if enforces(new) && !old.is_some_and(enforces) {
            return vec![format!(
                "metadata.annotations[{ENFORCED}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
            )];
        }
        Vec::new()
    }

    fn columns() -> Columns<Object> {
        printing::name_and_age()
    }
}

/// Of the secrets only the names are kept: they are all in the account's namespace.
fn keep_names(object: &mut Object) {
    for secret in object.secrets.iter_mut().flatten() {
        *secret = ObjectReference { name: secret.name.take(), ..ObjectReference::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_names() {
        let value = json!({"secrets": [{"name": "a", "kind": "Secret", "uid": "u"}, {"namespace": "b"}]});
        let mut object: Object = serde_json::from_value(value).expect("an account");
        ServiceAccount::prepare_for_create(&mut object);
        assert_eq!(serde_json::to_value(&object.secrets).expect("json"), json!([{"name": "a"}, {}]));
    }

    #[test]
    fn enforcing_is_warned_of_once() {
        let plain = Object::default();
        let mut enforcing = Object::default();
        enforcing.metadata.annotations = Some([(ENFORCED.to_owned(), "true".to_owned())].into());
        assert_eq!(ServiceAccount::warnings(&plain, None).len(), 0);
        assert_eq!(ServiceAccount::warnings(&enforcing, Some(&plain)).len(), 1);
        assert_eq!(ServiceAccount::warnings(&enforcing, Some(&enforcing)).len(), 0);
    }
}
