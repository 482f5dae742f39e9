//! StorageClass: who makes volumes, and how.

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::core::v1::TopologySelectorTerm;
use k8s_openapi::api::storage::v1::StorageClass as Object;
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, checks, pod_spec};

/// See the module.
pub struct StorageClass;

const DEFAULT_ANNOTATIONS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// The name of who makes volumes.
pub fn provisioner(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        let name = name.to_lowercase();
        errors.push_invalid(path, &name, names::qualified_name(&name));
    }
}

/// Settings for who makes volumes.
pub fn parameters(errors: &mut FieldErrors, path: &FieldPath, all: Option<&BTreeMap<String, String>>, may_lack: bool) {
    const MAX_COUNT: usize = 512;
    const MAX_SIZE: usize = 256 * 1024;
    let count = all.map_or(0, BTreeMap::len);
    if count > MAX_COUNT {
        errors.push(FieldError::too_long(path, MAX_COUNT));
        return;
    }
    if all.is_some_and(|all| all.contains_key("")) {
        errors.push(FieldError::invalid(path, "", "field can not be empty."));
    }
    if count == 0 && !may_lack {
        errors.push(FieldError::required(path, "must contain at least one key/value pair"));
    }
    if all.into_iter().flatten().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_SIZE {
        errors.push(FieldError::too_long(path, MAX_SIZE));
    }
}

impl Kind for StorageClass {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["sc"];
    const RETURNS_DELETED: bool = true;

    fn set_defaults(object: &mut Object) {
        object.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        object.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        provisioner(&mut errors, &FieldPath::root("provisioner"), &object.provisioner);
        parameters(&mut errors, &FieldPath::root("parameters"), object.parameters.as_ref(), true);
        if let Some(policy) = object.reclaim_policy.as_deref().filter(|policy| !policy.is_empty()) {
            checks::one_of(&mut errors, &FieldPath::root("reclaimPolicy"), policy, &["Delete", "Retain"]);
        }
        let modes = ["Immediate", "WaitForFirstConsumer"];
        match &object.volume_binding_mode {
            None => errors.push(FieldError::required(&FieldPath::root("volumeBindingMode"), "")),
            Some(mode) => checks::one_of(&mut errors, &FieldPath::root("volumeBindingMode"), mode, &modes),
        }
        topologies(&mut errors, object.allowed_topologies.as_deref().unwrap_or_default());
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        checks::immutable(&mut errors, &FieldPath::root("parameters"), &new.parameters, &old.parameters);
        checks::immutable(&mut errors, &FieldPath::root("provisioner"), &new.provisioner, &old.provisioner);
        checks::immutable(&mut errors, &FieldPath::root("reclaimPolicy"), &new.reclaim_policy, &old.reclaim_policy);
        let path = FieldPath::root("volumeBindingMode");
        checks::immutable(&mut errors, &path, &new.volume_binding_mode, &old.volume_binding_mode);
        errors
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (i, term) in new.allowed_topologies.iter().flatten().enumerate() {
            let path = FieldPath::root("allowedTopologies").index(i).child("matchLabelExpressions");
            for (i, expression) in term.match_label_expressions.iter().flatten().enumerate() {
                let message = pod_spec::old_label(&expression.key);
                warnings.extend(message.map(|message| format!("{}: {message}", path.index(i).child("key"))));
            }
        }
        warnings
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Provisioner", "provisioner indicates the type of the provisioner."),
            printing::text(
                "ReclaimPolicy",
                "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage class. Defaults to Delete.",
            ),
            printing::text(
                "VolumeBindingMode",
                "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound. When unset, VolumeBindingImmediate is used. This field is only honored by servers that enable the VolumeScheduling feature.",
            ),
            printing::text(
                "AllowVolumeExpansion",
                "allowVolumeExpansion shows whether the storage class allow volume expand.",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let annotations = object.metadata.annotations.as_ref();
                let is = |key: &&str| {
                    annotations.and_then(|annotations| annotations.get(*key)).is_some_and(|value| value == "true")
                };
                let name = object.metadata.name.clone().unwrap_or_default();
                let name = if DEFAULT_ANNOTATIONS.iter().any(is) { format!("{name} (default)") } else { name };
                vec![
                    Value::from(name),
                    Value::from(object.provisioner.clone()),
                    Value::from(object.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned())),
                    Value::from(object.volume_binding_mode.clone().unwrap_or_else(|| "Immediate".to_owned())),
                    Value::from(object.allow_volume_expansion.unwrap_or_default()),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

/// Terms that say where volumes may be; no two may say the same.
fn topologies(errors: &mut FieldErrors, terms: &[TopologySelectorTerm]) {
    let mut seen = vec![BTreeMap::new(); terms.len()];
    for (i, term) in terms.iter().enumerate() {
        let path = FieldPath::root("allowedTopologies").index(i).child("matchLabelExpressions");
        let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (i, expression) in term.match_label_expressions.iter().flatten().enumerate() {
            let (path, values_path) = (path.index(i), path.index(i).child("values"));
            let mut values = BTreeSet::new();
            if expression.values.is_empty() {
                errors.push(FieldError::required(&values_path, ""));
            }
            for (i, value) in expression.values.iter().enumerate().filter(|(_, value)| !values.insert(value.as_str())) {
                errors.push(FieldError::duplicate(&values_path.index(i), value));
            }
            checks::label_key(errors, &path.child("key"), &expression.key);
            if found.insert(&expression.key, values).is_some() {
                errors.push(FieldError::duplicate(&path.child("key"), &expression.key));
            }
        }
        // An empty term is like each of those that are still to come.
        for _ in seen.iter().filter(|before| **before == found) {
            errors.push(FieldError::duplicate(&path, ""));
        }
        seen.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_refused() {
        let class = |value: Value| {
            let mut object: Object = serde_json::from_value(value).expect("a class");
            StorageClass::set_defaults(&mut object);
            object
        };
        assert_eq!(StorageClass::validate(&class(json!({}))).to_string(), "provisioner: Required value");
        let late = class(json!({"provisioner": "p", "volumeBindingMode": "Late"}));
        let message =
            "volumeBindingMode: Unsupported value: \"Late\": supported values: \"Immediate\", \"WaitForFirstConsumer\"";
        assert_eq!(StorageClass::validate(&late).to_string(), message);
        let expression = |values: Value| json!({"matchLabelExpressions": [{"key": "zone", "values": values}]});
        let terms =
            json!([expression(json!(["a", "b"])), expression(json!(["b", "a"])), expression(json!(["c", "c"]))]);
        assert_eq!(
            StorageClass::validate(&class(json!({"provisioner": "p", "allowedTopologies": terms}))).to_string(),
            "[allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\", allowedTopologies[2].matchLabelExpressions[0].values[1]: Duplicate value: \"c\"]"
        );
        let key = "failure-domain.beta.kubernetes.io/zone";
        let terms = json!([{"matchLabelExpressions": [{"key": key, "values": ["a"]}]}]);
        let zoned = class(json!({"provisioner": "p", "allowedTopologies": terms}));
        let warning = "allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead";
        assert_eq!(StorageClass::warnings(&zoned, None), [warning]);
        let (old, new) = (
            class(json!({"provisioner": "p", "parameters": {"a": "b"}})),
            class(json!({"provisioner": "p", "parameters": {"a": "c"}})),
        );
        assert_eq!(
            StorageClass::validate_update(&new, &old).to_string(),
            "parameters: Invalid value: {\"a\":\"c\"}: field is immutable"
        );
    }
}
