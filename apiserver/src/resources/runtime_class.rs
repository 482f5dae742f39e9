//! RuntimeClass: which runtime handler runs a pod, and what that costs.

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrorKind, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::api::node::v1::RuntimeClass as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, checks, internal, pod_spec};

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
        if let Some(overhead) = &object.overhead {
            let limits = ResourceRequirements { limits: overhead.pod_fixed.clone(), ..ResourceRequirements::default() };
            let rule = pod_spec::container_resource_name;
            pod_spec::requirements(&mut errors, &FieldPath::root("overhead"), &limits, rule, &BTreeSet::new());
        }
        if let Some(scheduling) = &object.scheduling {
            let path = FieldPath::root("scheduling");
            checks::labels(&mut errors, &path.child("nodeSelector"), scheduling.node_selector.as_ref());
            let tolerations = scheduling.tolerations.as_deref().unwrap_or_default();
            pod_spec::toleration_list(&mut errors, &path.child("tolerations"), tolerations);
            twice(&mut errors, &path.child("tolerations"), tolerations);
        }
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        checks::immutable(&mut errors, &FieldPath::root("handler"), &new.handler, &old.handler);
        errors
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        let selector = new.scheduling.iter().filter_map(|scheduling| scheduling.node_selector.as_ref()).flatten();
        let messages = selector.filter_map(|(label, _)| pod_spec::old_label(label));
        messages.map(|message| format!("scheduling.nodeSelector: {message}")).collect()
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

/// No toleration is given twice, whatever time it has.
fn twice(errors: &mut FieldErrors, path: &FieldPath, tolerations: &[Toleration]) {
    let plain = |toleration: &Toleration| Toleration { toleration_seconds: None, ..toleration.clone() };
    for (i, toleration) in tolerations.iter().enumerate() {
        if tolerations[..i].iter().any(|other| plain(other) == plain(toleration)) {
            let detail = internal::one_line("v1.Toleration", toleration);
            let path = path.index(i);
            errors.push(FieldError { kind: FieldErrorKind::Duplicate, path, value: None, detail });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused() {
        let class = |fields: Value| {
            let mut value = json!({"metadata": {"name": "c"}, "handler": "h"});
            value.as_object_mut().expect("an object").extend(fields.as_object().expect("fields").clone());
            serde_json::from_value::<Object>(value).expect("a class")
        };
        let toleration = |seconds: i64| json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let table = [
            (json!({"overhead": {"podFixed": {"cpu": "1"}}}), "[]"),
            (json!({"handler": ""}), "handler: Required value"),
            (
                json!({"overhead": {"podFixed": {"cpu": "-1"}}}),
                "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"scheduling": {"tolerations": [toleration(1), toleration(2)]}}),
                "scheduling.tolerations[1]: Duplicate value: {\"Key\":\"a\",\"Operator\":\"Exists\",\"Value\":\"\",\"Effect\":\"NoExecute\",\"TolerationSeconds\":2}",
            ),
        ];
        for (fields, message) in table {
            assert_eq!(RuntimeClass::validate(&class(fields)).to_string(), message);
        }
        let old = class(json!({"scheduling": {"nodeSelector": {"beta.kubernetes.io/os": "linux", "a": "b"}}}));
        let warning = "scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/os\" instead";
        assert_eq!(RuntimeClass::warnings(&old, None), [warning]);
    }
}
