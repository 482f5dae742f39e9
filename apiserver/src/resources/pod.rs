//! Pod.

use api::field::FieldErrors;
use k8s_openapi::api::core::v1::Pod as Object;

use super::printing;
use super::{Columns, Kind, Subresource};

/// See the module.
pub struct Pod;

impl Kind for Pod {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["po"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status, Subresource::Binding, Subresource::Eviction, Subresource::Log, Subresource::Exec, Subresource::Attach, Subresource::PortForward, Subresource::Proxy, Subresource::EphemeralContainers];
    const GENERATION: bool = true;
    const RETURNS_DELETED: bool = true;
    const FIELDS: &'static [(&'static str, &'static [&'static str])] = &[("spec.nodeName", &["/spec/nodeName"]), ("status.phase", &["/status/phase"])];

    fn validate(_: &Object) -> FieldErrors {
        FieldErrors::new()
    }

    fn columns() -> Columns<Object> {
        printing::name_and_age()
    }
}
