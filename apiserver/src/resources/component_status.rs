//! ComponentStatus: whether the parts of the control plane are healthy, found out when somebody asks. Deprecated upstream.

use api::field::FieldErrors;
use k8s_openapi::api::core::v1::ComponentStatus as Object;
use serde_json::Value;

use super::printing::{self, NAME};
use super::{Columns, Kind};

/// See the module.
pub struct ComponentStatus;

impl Kind for ComponentStatus {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["cs"];
    const STORED: bool = false;
    const COMPUTED: bool = true;
    const DEPRECATION: Option<&'static str> = Some("v1 ComponentStatus is deprecated in v1.19+");

    fn validate(_: &Object) -> FieldErrors {
        FieldErrors::new()
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Status", "Status of the component conditions"),
            printing::text("Message", "Message of the component conditions"),
            printing::text("Error", "Error of the component conditions"),
        ];
        Columns {
            columns,
            cells: |object, _| {
                let healthy = object.conditions.iter().flatten().find(|condition| condition.type_ == "Healthy");
                let status = match healthy.map(|condition| condition.status.as_str()) {
                    Some("True") => "Healthy",
                    Some("False") => "Unhealthy",
                    _ => "Unknown",
                };
                let text = |text: Option<&String>| Value::from(text.cloned().unwrap_or_default());
                vec![
                    printing::name(&object.metadata),
                    Value::from(status),
                    text(healthy.and_then(|condition| condition.message.as_ref())),
                    text(healthy.and_then(|condition| condition.error.as_ref())),
                ]
            },
        }
    }
}
