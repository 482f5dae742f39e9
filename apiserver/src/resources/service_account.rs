//! ServiceAccount: an identity for pods; `/token` issues its tokens.

use api::field::FieldErrors;
use k8s_openapi::api::core::v1::ServiceAccount as Object;

use super::printing;
use super::{Columns, Kind, MetadataCheck, Subresource};

/// See the module.
pub struct ServiceAccount;

impl Kind for ServiceAccount {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["sa"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Token];
    const RETURNS_DELETED: bool = true;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Change, MetadataCheck::Whole];

    fn prepare_for_create(object: &mut Object) {
        drop_unnamed_secrets(object);
    }

    fn prepare_for_update(new: &mut Object, _old: &Object) {
        drop_unnamed_secrets(new);
    }

    fn validate(_: &Object) -> FieldErrors {
        FieldErrors::new()
    }

    fn columns() -> Columns<Object> {
        printing::name_and_age()
    }
}

fn drop_unnamed_secrets(object: &mut Object) {
    if let Some(secrets) = &mut object.secrets {
        secrets.retain(|secret| secret.name.as_deref().is_some_and(|name| !name.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_need_a_name() {
        let value = json!({"secrets": [{"name": "a"}, {"namespace": "b"}]});
        let mut object: Object = serde_json::from_value(value).expect("an account");
        ServiceAccount::prepare_for_create(&mut object);
        assert_eq!(object.secrets.map(|secrets| secrets.len()), Some(1));
    }
}
