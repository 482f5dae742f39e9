//! ReplicationController.

use api::field::FieldErrors;
use k8s_openapi::api::core::v1::ReplicationController as Object;

use super::printing;
use super::{Columns, Kind, Subresource};

/// See the module.
pub struct ReplicationController;

impl Kind for ReplicationController {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["rc"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Scale];
    const GENERATION: bool = true;
    const ORPHANS_BY_DEFAULT: bool = true;

    fn validate(_: &Object) -> FieldErrors {
        FieldErrors::new()
    }

    fn columns() -> Columns<Object> {
        printing::name_and_age()
    }
}
