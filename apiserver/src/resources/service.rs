//! Service.

use api::field::FieldErrors;
use k8s_openapi::api::core::v1::Service as Object;

use super::printing;
use super::{Columns, Kind, Subresource};

/// See the module.
pub struct Service;

impl Kind for Service {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["svc"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Proxy];
    const RETURNS_DELETED: bool = true;

    fn validate(_: &Object) -> FieldErrors {
        FieldErrors::new()
    }

    fn columns() -> Columns<Object> {
        printing::name_and_age()
    }
}
