//! IPAddress: that an address is taken, and by whom. The allocator of Service addresses makes and removes them; what is here is
//! what everybody else may do with them.

use api::field::{FieldError, FieldErrors, FieldPath, go_quote};
use api::names;
use k8s_openapi::api::networking::v1::{IPAddress as Object, ParentReference};
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, MetadataCheck, internal};

/// See the module.
pub struct IpAddress;

impl Kind for IpAddress {
    type Object = Object;
    const SHORT_NAMES: &'static [&'static str] = &["ip"];
    const RETURNS_DELETED: bool = false;
    const METADATA_ON_UPDATE: &'static [MetadataCheck] = &[MetadataCheck::Whole, MetadataCheck::Change];

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        parent(&mut errors, &FieldPath::root("spec").child("parentRef"), object);
        errors
    }

    fn validate_update(new: &Object, old: &Object) -> FieldErrors {
        let mut errors = Self::validate(new);
        let (now, before) = (parent_of(new), parent_of(old));
        if now == before {
            return errors;
        }
        let path = FieldPath::root("spec").child("parentRef");
        let detail = super::checks::IMMUTABLE;
        errors.push(internal::invalid(&path, "networking.k8s.io/v1.ParentReference", now, detail));
        errors
    }

    fn validate_name(name: &str, _prefix: bool) -> Vec<String> {
        match (names::ip_address(name), name.parse::<std::net::IpAddr>()) {
            (wrong, Ok(address)) if wrong.is_empty() && address.to_string() != name => {
                vec![format!("must be in canonical form ({})", go_quote(&address.to_string()))]
            }
            (wrong, _) => wrong,
        }
    }

    fn columns() -> Columns<Object> {
        let parent = printing::text(
            "ParentRef",
            "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
        );
        Columns {
            columns: vec![NAME, parent, AGE],
            cells: |object, now| {
                let parent = parent_of(object);
                let group = parent.group.filter(|group| !group.is_empty()).map(|group| format!(".{group}"));
                let namespace = parent.namespace.filter(|namespace| !namespace.is_empty()).map(|ns| format!("{ns}/"));
                let shown = format!(
                    "{}{}/{}{}",
                    parent.resource,
                    group.unwrap_or_default(),
                    namespace.unwrap_or_default(),
                    parent.name
                );
                let shown = if parent.name.is_empty() { "<none>".to_owned() } else { shown };
                vec![printing::name(&object.metadata), Value::from(shown), printing::age(&object.metadata, now)]
            },
        }
    }
}

fn parent_of(object: &Object) -> ParentReference {
    object.spec.parent_ref.clone()
}

fn parent(errors: &mut FieldErrors, path: &FieldPath, object: &Object) {
    let parent = parent_of(object);
    if parent == ParentReference::default() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if let Some(group) = parent.group.as_deref().filter(|group| !group.is_empty()) {
        errors.push_invalid(&path.child("group"), group, names::is_dns1123_subdomain(group));
    }
    for (field, value) in [("resource", &parent.resource), ("name", &parent.name)] {
        if value.is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
        } else {
            errors.push_invalid(&path.child(field), value, names::path_segment(value));
        }
    }
    if let Some(namespace) = parent.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        errors.push_invalid(&path.child("namespace"), namespace, names::path_segment(namespace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn address(parent: Value) -> Object {
        serde_json::from_value(json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": parent}})).expect("one")
    }

    #[test]
    fn what_is_refused() {
        let good = address(json!({"resource": "services", "namespace": "a", "name": "b"}));
        assert_eq!(IpAddress::validate(&good).to_string(), "[]");
        let found = IpAddress::validate(&address(json!({"resource": "", "name": "a/b"}))).to_string();
        assert_eq!(
            found,
            "[spec.parentRef.resource: Required value, spec.parentRef.name: Invalid value: \"a/b\": may not contain '/']"
        );
        let other = address(json!({"resource": "services", "namespace": "a", "name": "c"}));
        assert_eq!(
            IpAddress::validate_update(&other, &good).to_string(),
            "spec.parentRef: Invalid value: {\"Group\":\"\",\"Resource\":\"services\",\"Namespace\":\"a\",\"Name\":\"c\"}: field is immutable"
        );
        let problems = [
            ("2001:0db8::1", "must be in canonical form (\"2001:db8::1\")"),
            ("a", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ("10.0.01.1", "must not have leading 0s"),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
        ];
        for (name, problem) in problems {
            assert_eq!(IpAddress::validate_name(name, false), [problem]);
        }
        assert_eq!(
            IpAddress::validate(&address(json!({"resource": "", "name": ""}))).to_string(),
            "spec.parentRef: Required value"
        );
    }

    #[test]
    fn cells() {
        let row = (IpAddress::columns().cells)(
            &address(json!({"resource": "services", "namespace": "a", "name": "b"})),
            k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        );
        assert_eq!(row, ["10.0.0.1", "services/a/b", "<unknown>"]);
    }
}
