//! APIService: who serves a group and version, this server or another one, and how early clients should look there.

use api::field::{FieldError, FieldErrors, FieldPath, go_quote};
use api::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{APIService as Object, APIServiceCondition};
use serde_json::Value;

use super::printing::{self, AGE, NAME};
use super::{Columns, Kind, Subresource, checks};

/// The only condition.
pub const AVAILABLE: &str = "Available";
const MAX_GROUP_PRIORITY: i32 = 20_000;
const MAX_VERSION_PRIORITY: i32 = 1_000;

/// See the module.
pub struct APIService;

impl Kind for APIService {
    type Object = Object;
    const CATEGORIES: &'static [&'static str] = &["api-extensions"];
    const SUBRESOURCES: &'static [Subresource] = &[Subresource::Status];
    const UNCONDITIONAL_UPDATE: bool = false;

    fn set_defaults(object: &mut Object) {
        if let Some(service) = object.spec.as_mut().and_then(|spec| spec.service.as_mut()) {
            service.port.get_or_insert(443);
        }
    }

    fn prepare_for_create(object: &mut Object) {
        object.status = None;
        if is_local(object) {
            let created = object.metadata.creation_timestamp.clone();
            let status = object.status.get_or_insert_default();
            status.conditions =
                Some(vec![condition("True", "Local", "Local APIServices are always available", created)]);
        }
    }

    fn prepare_for_update(new: &mut Object, old: &Object) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(new: &mut Object, old: &Object) {
        new.spec.clone_from(&old.spec);
        new.metadata.labels.clone_from(&old.metadata.labels);
        new.metadata.annotations.clone_from(&old.metadata.annotations);
        new.metadata.finalizers.clone_from(&old.metadata.finalizers);
        new.metadata.owner_references.clone_from(&old.metadata.owner_references);
    }

    fn validate_name(name: &str, _: bool) -> Vec<String> {
        names::path_segment(name)
    }

    fn validate(object: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let spec = object.spec.clone().unwrap_or_default();
        let (group, version) = (spec.group.unwrap_or_default(), spec.version.unwrap_or_default());
        let (name, required) = (object.metadata.name.clone().unwrap_or_default(), format!("{version}.{group}"));
        if !name.is_empty() && names::path_segment(&name).is_empty() && name != required {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {}", go_quote(&required));
            errors.push(FieldError::invalid(&FieldPath::root("metadata").child("name"), name, detail));
        }
        let path = FieldPath::root("spec");
        if group.is_empty() && version != "v1" {
            let detail = "only v1 may have an empty group and it better be legacy kube";
            errors.push(FieldError::required(&path.child("group"), detail));
        }
        if !group.is_empty() {
            errors.push_invalid(&path.child("group"), &group, names::is_dns1123_subdomain(&group));
        }
        errors.push_invalid(&path.child("version"), &version, names::is_dns1035_label(&version));
        if !(1..=MAX_GROUP_PRIORITY).contains(&spec.group_priority_minimum) {
            let detail = "must be positive and less than 20000";
            errors.push(FieldError::invalid(&path.child("groupPriorityMinimum"), spec.group_priority_minimum, detail));
        }
        if !(1..=MAX_VERSION_PRIORITY).contains(&spec.version_priority) {
            let detail = "must be positive and less than 1000";
            errors.push(FieldError::invalid(&path.child("versionPriority"), spec.version_priority, detail));
        }
        where_it_is(&mut errors, &path, object);
        errors
    }

    fn validate_status_update(new: &Object, _: &Object) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = FieldPath::root("status").child("conditions");
        let conditions = new.status.iter().flat_map(|status| status.conditions.iter().flatten());
        for (i, condition) in conditions.enumerate() {
            let path = path.index(i).child("status");
            checks::one_of(&mut errors, &path, &condition.status, &["True", "False", "Unknown"]);
        }
        errors
    }

    fn reset_fields(_: Option<Subresource>) -> &'static [&'static str] {
        &[]
    }

    fn columns() -> Columns<Object> {
        let columns = vec![
            NAME,
            printing::text("Service", "The reference to the service that hosts this API endpoint."),
            printing::text("Available", "Whether this service is available."),
            AGE,
        ];
        Columns {
            columns,
            cells: |object, now| {
                let service = object.spec.as_ref().and_then(|spec| spec.service.as_ref());
                let service = service.map_or_else(
                    || "Local".to_owned(),
                    |service| {
                        let part = |text: &Option<String>| text.clone().unwrap_or_default();
                        format!("{}/{}", part(&service.namespace), part(&service.name))
                    },
                );
                vec![
                    printing::name(&object.metadata),
                    Value::from(service),
                    Value::from(availability(object)),
                    printing::age(&object.metadata, now),
                ]
            },
        }
    }
}

/// Whether this server answers for it.
pub fn is_local(object: &Object) -> bool {
    object.spec.as_ref().is_none_or(|spec| spec.service.is_none())
}

/// The condition `Available`.
pub fn condition(status: &str, reason: &str, message: &str, since: Option<Time>) -> APIServiceCondition {
    APIServiceCondition {
        type_: AVAILABLE.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: since,
    }
}

fn availability(object: &Object) -> String {
    let mut conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    match conditions.find(|condition| condition.type_ == AVAILABLE) {
        None => "Unknown".to_owned(),
        Some(found) => match found.reason.as_deref().filter(|reason| found.status != "True" && !reason.is_empty()) {
            Some(reason) => format!("{} ({reason})", found.status),
            None => found.status.clone(),
        },
    }
}

/// The other server, and how its certificate is checked.
fn where_it_is(errors: &mut FieldErrors, path: &FieldPath, object: &Object) {
    let spec = object.spec.clone().unwrap_or_default();
    let (bundle, skip) =
        (spec.ca_bundle.map_or(0, |bundle| bundle.0.len()), spec.insecure_skip_tls_verify == Some(true));
    let Some(service) = spec.service else {
        if bundle > 0 {
            let detail = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(&path.child("caBundle"), format!("{bundle} bytes"), detail));
        }
        if skip {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&path.child("insecureSkipTLSVerify"), true, detail));
        }
        return;
    };
    let at = path.child("service");
    checks::required(errors, &at.child("namespace"), service.namespace.as_deref().unwrap_or_default());
    checks::required(errors, &at.child("name"), service.name.as_deref().unwrap_or_default());
    if skip && bundle > 0 {
        let detail = "may not be true if caBundle is present";
        errors.push(FieldError::invalid(&path.child("insecureSkipTLSVerify"), true, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, spec: Value) -> Object {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("an APIService")
    }

    #[test]
    fn what_is_refused() {
        let spec = |changes: Value| {
            let mut spec =
                json!({"group": "a.b", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15});
            spec.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
            spec
        };
        let table = [
            ("v1.a.b", spec(json!({})), "[]"),
            (
                "x",
                spec(json!({})),
                "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\"",
            ),
            (
                "v1.a.b",
                spec(json!({"groupPriorityMinimum": 0, "versionPriority": 1001})),
                "[spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000, \
                 spec.versionPriority: Invalid value: 1001: must be positive and less than 1000]",
            ),
            (
                "v1.a.b",
                spec(json!({"insecureSkipTLSVerify": true, "caBundle": "YQ=="})),
                "[spec.caBundle: Invalid value: \"1 bytes\": local APIServices may not have a caBundle, \
                 spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify]",
            ),
            (
                "v1.a.b",
                spec(json!({"service": {}})),
                "[spec.service.namespace: Required value, spec.service.name: Required value]",
            ),
            (
                "v2.",
                json!({"version": "v2", "groupPriorityMinimum": 1, "versionPriority": 1}),
                "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
            ),
        ];
        for (name, spec, expected) in table {
            assert_eq!(APIService::validate(&object(name, spec)).to_string(), expected);
        }
    }

    #[test]
    fn cells() {
        let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
        let cells = |object: &Object| (APIService::columns().cells)(object, now)[1..3].to_vec();
        let mut local = object("v1.a", json!({"groupPriorityMinimum": 1, "versionPriority": 1}));
        assert_eq!(cells(&local), [json!("Local"), json!("Unknown")]);
        APIService::prepare_for_create(&mut local);
        assert_eq!(cells(&local), [json!("Local"), json!("True")]);
        let service = json!({"namespace": "n", "name": "s"});
        let mut remote = object("v1.a", json!({"groupPriorityMinimum": 1, "versionPriority": 1, "service": service}));
        APIService::prepare_for_create(&mut remote);
        remote.status.get_or_insert_default().conditions = Some(vec![condition("False", "ServiceNotFound", "", None)]);
        assert_eq!(cells(&remote), [json!("n/s"), json!("False (ServiceNotFound)")]);
    }
}
