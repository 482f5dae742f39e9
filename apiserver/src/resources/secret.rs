//! Secret: like a ConfigMap, with keys that its type demands. `stringData` is folded into `data` on every write.

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as Object;
use serde_json::Value;

use super::config_map::MAX_DATA;
use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, checks};
use crate::http::body::json;

/// See the module.
pub struct Secret;

const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

impl Kind for Secret {
    type Object = Object;
    const FIELDS: &'static [(&'static str, &'static [&'static str])] = &[("type", &["/type"])];
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Change, MetadataCheck::Whole];

    fn set_defaults(object: &mut Object) {
        if object.type_.as_deref().unwrap_or_default().is_empty() {
            object.type_ = Some("Opaque".to_owned());
        }
        if let Some(plain) = object.string_data.take().filter(|plain| !plain.is_empty()) {
            let data = object.data.get_or_insert_default();
            data.extend(plain.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
        }
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("data");
        for key in object.data.iter().flatten().map(|(key, _)| key) {
            errors.push_invalid(&path.key(key), key, names::config_key(key));
        }
        if object.data.iter().flatten().map(|(_, value)| value.0.len()).sum::<usize>() > MAX_DATA {
            errors.push(FieldError::too_long(&path, MAX_DATA));
        }
        typed_keys(&mut errors, object, &path);
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if new.type_ != old.type_ {
            errors.push(FieldError::invalid(
                &FieldPath::root("type"),
                new.type_.as_deref().unwrap_or_default(),
                checks::IMMUTABLE,
            ));
        }
        if old.immutable == Some(true) {
            let frozen = "field is immutable when `immutable` is set";
            if new.immutable != Some(true) {
                errors.push(FieldError::forbidden(&FieldPath::root("immutable"), frozen));
            }
            if new.data.clone().unwrap_or_default() != old.data.clone().unwrap_or_default() {
                errors.push(FieldError::forbidden(&FieldPath::root("data"), frozen));
            }
        }
        errors.extend(Self::validate(new));
        errors
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        // Clients of the first releases leave the type out when they update.
        if new.type_.as_deref().unwrap_or_default().is_empty() {
            new.type_.clone_from(&old.type_);
        }
    }

    fn warnings(new: &Object, _old: Option<&Object>) -> Vec<String> {
        let is_pem = |key: &str| match new.data.as_ref().and_then(|data| data.get(key)) {
            Some(value) => String::from_utf8_lossy(&value.0).contains("-----BEGIN "),
            None => true,
        };
        if new.type_.as_deref() != Some("kubernetes.io/tls") {
            return Vec::new();
        }
        if !is_pem("tls.crt") {
            return vec!["tls: failed to find any PEM data in certificate input".to_owned()];
        }
        if !is_pem("tls.key") {
            return vec!["tls: failed to find any PEM data in key input".to_owned()];
        }
        Vec::new()
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text(
                "Type",
                "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types",
            ),
            printing::text(
                "Data",
                "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4",
            ),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let keys = object.data.as_ref().map_or(0, std::collections::BTreeMap::len);
                let meta = &object.metadata;
                vec![
                    printing::name(meta),
                    Value::from(object.type_.clone()),
                    Value::from(keys),
                    printing::age(meta, now),
                ]
            },
        }
    }
}

/// The keys and annotations that the type of the secret demands.
fn typed_keys(errors: &mut FieldErrors, object: &Object, path: &FieldPath) {
    let value = |key: &str| object.data.as_ref().and_then(|data| data.get(key));
    let mut missing = |key: &str| {
        if value(key).is_none() {
            errors.push(FieldError::required(&path.key(key), ""));
        }
    };
    match object.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            let annotations = object.metadata.annotations.as_ref();
            if annotations.and_then(|a| a.get(ACCOUNT_NAME)).is_none_or(String::is_empty) {
                let path = FieldPath::root("metadata").child("annotations").key(ACCOUNT_NAME);
                errors.push(FieldError::required(&path, ""));
            }
        }
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            missing("username");
            missing("password");
        }
        // An empty key is none.
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
            errors.push(FieldError::required(&path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            missing("tls.crt");
            missing("tls.key");
        }
        "kubernetes.io/dockercfg" => json_value(errors, path, ".dockercfg", value(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => json_value(errors, path, ".dockerconfigjson", value(".dockerconfigjson")),
        _ => {}
    }
}

fn json_value(errors: &mut FieldErrors, path: &FieldPath, key: &str, value: Option<&ByteString>) {
    let path = path.key(key);
    let Some(value) = value else {
        errors.push(FieldError::required(&path, ""));
        return;
    };
    let what = match json::parse(&value.0).map(|parsed| parsed.value) {
        Ok(Value::Object(_) | Value::Null) => return,
        Err(detail) => {
            errors.push(FieldError::invalid(&path, "<secret contents redacted>", detail));
            return;
        }
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
    };
    let detail = format!("json: cannot unmarshal {what} into Go value of type map[string]interface {{}}");
    errors.push(FieldError::invalid(&path, "<secret contents redacted>", detail));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(value: Value) -> Object {
        let mut object: Object = serde_json::from_value(value).expect("a secret");
        Secret::set_defaults(&mut object);
        object
    }

    #[test]
    fn string_data_wins_over_data() {
        let object = secret(json!({"stringData": {"k": "new"}, "data": {"k": "b2xk", "l": "eA=="}}));
        assert_eq!(serde_json::to_value(&object.data).expect("json"), json!({"k": "bmV3", "l": "eA=="}));
        assert_eq!((object.type_.as_deref(), object.string_data), (Some("Opaque"), None));
    }

    #[test]
    fn keys_that_types_demand() {
        let table = [
            (json!({"type": "kubernetes.io/tls"}), "[data[tls.crt]: Required value, data[tls.key]: Required value]"),
            (json!({"type": "kubernetes.io/basic-auth", "data": {"username": ""}}), "[]"),
            (json!({"type": "kubernetes.io/ssh-auth"}), "data[ssh-privatekey]: Required value"),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{"}}),
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input",
            ),
            (
                json!({"type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "[]"}}),
                "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of type map[string]interface {}",
            ),
            (
                json!({"type": "kubernetes.io/dockercfg", "stringData": {".dockercfg": "hello"}}),
                "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": invalid character 'h' looking for beginning of value",
            ),
            (
                json!({"type": "kubernetes.io/ssh-auth", "stringData": {"ssh-privatekey": ""}}),
                "data[ssh-privatekey]: Required value",
            ),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
        ];
        for (value, message) in table {
            assert_eq!(Secret::validate(&secret(value)).to_string(), message);
        }
    }

    #[test]
    fn types_do_not_change() {
        let (old, new) = (secret(json!({})), secret(json!({"type": "other"})));
        assert_eq!(
            Secret::validate_update(&new, &old).to_string(),
            "type: Invalid value: \"other\": field is immutable"
        );
    }
}
