//! Node.

use api::field::FieldErrors;
use k8s_openapi::api::core::v1::Node as Object;

use super::printing;
use super::{Columns, Kind, Subresource};

/// See the module.
pub struct Node;

impl Kind for Node {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["no"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Proxy];
    

    fn validate(_: &Object) -> FieldErrors {
        FieldErrors::new()
    }

    fn columns() -> Columns<Object> {
        printing::name_and_age()
    }
}
