//! RuntimeClass: which runtime handler runs a pod, and what that costs.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::node::v1::RuntimeClass as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, checks, pod_spec};

/// See the module.
pub struct RuntimeClass;

impl Kind for RuntimeClass {
    type Object = Object;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("handler");
        if object.handler.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            errors.push_invalid(&path, &object.handler, names::is_dns1123_label(&object.handler));
        }
        let overhead = object.overhead.as_ref().and_then(|overhead| overhead.pod_fixed.clone()).unwrap_or_default();
        for (resource, amount) in &overhead {
            let path = FieldPath::root("overhead").child("podFixed").key(resource);
            pod_spec::container_resource_name(&mut errors, &path, resource);
            checks::resource_quantity(&mut errors, &path, resource, amount);
        }
        if let Some(scheduling) = &object.scheduling {
            let path = FieldPath::root("scheduling");
            checks::labels(&mut errors, &path.child("nodeSelector"), scheduling.node_selector.as_ref());
            let tolerations = scheduling.tolerations.as_deref().unwrap_or_default();
            pod_spec::toleration_list(&mut errors, &path.child("tolerations"), tolerations);
        }
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        checks::immutable(&mut errors, &FieldPath::root("handler"), &new.handler, &old.handler);
        errors
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text(
                "Handler",
                "handler specifies the underlying runtime and configuration that the CRI implementation will use to handle pods of this class. The possible values are specific to the node & CRI configuration.  It is assumed that all handlers are available on every node, and handlers of the same name are equivalent on every node. For example, a handler called \"runc\" might specify that the runc OCI runtime (using native Linux containers) will be used to run the containers in a pod. The Handler must be lowercase, conform to the DNS Label (RFC 1123) requirements, and is immutable.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                vec![
                    printing::name(&object.metadata),
                    Value::from(object.handler.clone()),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}
