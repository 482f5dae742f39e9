//! Requests for devices. Entry points: [`set_defaults`], [`validate`], [`validate_status`].

use std::collections::{BTreeMap, BTreeSet};

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceRequest, DeviceSelector, DeviceToleration, OpaqueDeviceConfiguration, ResourceClaim,
    ResourceClaimSpec,
};

use super::expression;
use crate::resources::{checks, internal};

const MAX_REQUESTS: usize = 32;
const MAX_ALTERNATIVES: usize = 8;
const MAX_SELECTORS: usize = 32;
const MAX_RESERVED: usize = 256;
const UNKNOWN: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Requests by name, with the names of their alternatives.
type Names<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// One device unless said otherwise.
pub fn set_defaults(spec: &mut ResourceClaimSpec) {
    let fill = |mode: &mut Option<String>, count: &mut Option<i64>, tolerations: &mut Option<Vec<DeviceToleration>>| {
        let mode = mode.get_or_insert_with(|| "ExactCount".to_owned());
        if mode == "ExactCount" && count.unwrap_or_default() == 0 {
            *count = Some(1);
        }
        for toleration in tolerations.iter_mut().flatten() {
            toleration.operator.get_or_insert_with(|| "Equal".to_owned());
        }
    };
    for request in spec.devices.iter_mut().filter_map(|devices| devices.requests.as_mut()).flatten() {
        if let Some(exactly) = &mut request.exactly {
            fill(&mut exactly.allocation_mode, &mut exactly.count, &mut exactly.tolerations);
        }
        for alternative in request.first_available.iter_mut().flatten() {
            fill(&mut alternative.allocation_mode, &mut alternative.count, &mut alternative.tolerations);
        }
    }
}

/// All errors of a claim's spec.
pub fn validate(errors: &mut FieldErrors, path: &FieldPath, spec: &ResourceClaimSpec) {
    let path = path.child("devices");
    let devices = spec.devices.clone().unwrap_or_default();
    let names = names_of(&devices);
    let requests = devices.requests.as_deref().unwrap_or_default();
    at_most(errors, &path.child("requests"), requests.len(), MAX_REQUESTS);
    let mut taken = BTreeSet::new();
    for (i, request) in requests.iter().enumerate() {
        validate_request(errors, &path.child("requests").index(i), request);
        if !taken.insert(&request.name) {
            errors.push(FieldError::duplicate(&path.child("requests").index(i), &request.name));
        }
    }
    let constraints = devices.constraints.as_deref().unwrap_or_default();
    at_most(errors, &path.child("constraints"), constraints.len(), MAX_REQUESTS);
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.child("constraints").index(i);
        references(errors, &path.child("requests"), constraint.requests.as_deref().unwrap_or_default(), &names);
        match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(name), _) => attribute(errors, &path.child("matchAttribute"), name),
            (None, Some(name)) => attribute(errors, &path.child("distinctAttribute"), name),
            (None, None) => {
                let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
                errors.push(FieldError::required(&path, detail));
            }
        }
    }
    let configs = devices.config.as_deref().unwrap_or_default();
    at_most(errors, &path.child("config"), configs.len(), MAX_REQUESTS);
    for (i, config) in configs.iter().enumerate() {
        let path = path.child("config").index(i);
        references(errors, &path.child("requests"), config.requests.as_deref().unwrap_or_default(), &names);
        configuration(errors, &path, config.opaque.as_ref());
    }
}

fn names_of(devices: &DeviceClaim) -> Names<'_> {
    devices
        .requests
        .iter()
        .flatten()
        .map(|request| {
            let alternatives = request.first_available.iter().flatten().map(|alternative| alternative.name.as_str());
            (request.name.as_str(), alternatives.collect())
        })
        .collect()
}

fn validate_request(errors: &mut FieldErrors, path: &FieldPath, request: &DeviceRequest) {
    label(errors, &path.child("name"), &request.name);
    let alternatives = request.first_available.as_deref().unwrap_or_default();
    match (&request.exactly, alternatives) {
        (None, []) => {
            errors.push(FieldError::required(path, "exactly one of `exactly` or `firstAvailable` is required"));
        }
        (Some(_), [_, ..]) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(FieldError::invalid(path, serde_json::Value::Null, detail));
        }
        (Some(exactly), []) => {
            let path = path.child("exactly");
            class(errors, &path.child("deviceClassName"), &exactly.device_class_name);
            selectors(errors, &path.child("selectors"), exactly.selectors.as_deref().unwrap_or_default());
            mode(errors, &path, exactly.allocation_mode.as_deref().unwrap_or_default(), exactly.count);
            tolerations(errors, &path.child("tolerations"), exactly.tolerations.as_deref().unwrap_or_default());
        }
        (None, alternatives) => {
            let path = path.child("firstAvailable");
            at_most(errors, &path, alternatives.len(), MAX_ALTERNATIVES);
            let mut taken = BTreeSet::new();
            for (i, one) in alternatives.iter().enumerate() {
                let path = path.index(i);
                label(errors, &path.child("name"), &one.name);
                class(errors, &path.child("deviceClassName"), &one.device_class_name);
                selectors(errors, &path.child("selectors"), one.selectors.as_deref().unwrap_or_default());
                mode(errors, &path, one.allocation_mode.as_deref().unwrap_or_default(), one.count);
                tolerations(errors, &path.child("tolerations"), one.tolerations.as_deref().unwrap_or_default());
                if !taken.insert(&one.name) {
                    errors.push(FieldError::duplicate(&path, &one.name));
                }
            }
        }
    }
}

fn mode(errors: &mut FieldErrors, path: &FieldPath, mode: &str, count: Option<i64>) {
    let (at, count) = (path.child("count"), count.unwrap_or_default());
    match mode {
        "All" if count != 0 => {
            errors.push(FieldError::invalid(&at, count, "must not be specified when allocationMode is 'All'"));
        }
        "ExactCount" if count <= 0 => errors.push(FieldError::invalid(&at, count, "must be greater than zero")),
        "All" | "ExactCount" => {}
        other => errors.push(checks::unsupported(&path.child("allocationMode"), other, &["All", "ExactCount"])),
    }
}

fn class(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        errors.push_invalid(path, name, names::is_dns1123_subdomain(name));
    }
}

fn label(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    errors.push_invalid(path, name, names::is_dns1123_label(name));
}

/// All errors of selectors.
pub fn selectors(errors: &mut FieldErrors, path: &FieldPath, selectors: &[DeviceSelector]) {
    const MAX_LENGTH: usize = 10 * 1024;
    at_most(errors, path, selectors.len(), MAX_SELECTORS);
    for (i, selector) in selectors.iter().enumerate() {
        let path = path.index(i).child("cel");
        match &selector.cel {
            None => errors.push(FieldError::required(&path, "")),
            Some(cel) if cel.expression.len() > MAX_LENGTH => {
                errors.push(FieldError::too_long(&path.child("expression"), MAX_LENGTH));
            }
            Some(cel) => {
                if let Some(why) = expression::problem(&cel.expression) {
                    errors.push(FieldError::invalid(&path.child("expression"), &cel.expression, why));
                }
            }
        }
    }
}

fn tolerations(errors: &mut FieldErrors, path: &FieldPath, tolerations: &[DeviceToleration]) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.index(i);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (key, operator, value) = (text(&toleration.key), text(&toleration.operator), text(&toleration.value));
        if !key.is_empty() {
            checks::label_key(errors, &path.child("key"), &key);
        }
        match operator.as_str() {
            "Exists" if !value.is_empty() => {
                errors.push(FieldError::invalid(&path.child("value"), value, "must be empty for operator `Exists`"));
            }
            "Equal" => errors.push_invalid(&path.child("value"), &value, names::label_value(&value)),
            "Exists" => {}
            "" => errors.push(FieldError::required(&path.child("operator"), "")),
            other => errors.push(checks::unsupported(&path.child("operator"), other, &["Equal", "Exists"])),
        }
        let effect = text(&toleration.effect);
        if !matches!(effect.as_str(), "" | "NoSchedule" | "NoExecute" | "None") {
            errors.push(checks::unsupported(&path.child("effect"), effect, &["NoExecute", "NoSchedule", "None"]));
        }
    }
}

fn references(errors: &mut FieldErrors, path: &FieldPath, given: &[String], names: &Names<'_>) {
    at_most(errors, path, given.len(), MAX_REQUESTS);
    let mut taken = BTreeSet::new();
    for (i, name) in given.iter().enumerate() {
        let path = path.index(i);
        let parts: Vec<&str> = name.split('/').collect();
        if let [_, _, _, ..] = parts[..] {
            errors.push(FieldError::invalid(&path, name, UNKNOWN));
            continue;
        }
        parts.iter().for_each(|part| label(errors, &path, part));
        let known = match parts[..] {
            [request] => names.contains_key(request),
            [request, alternative] => names.get(request).is_some_and(|known| known.contains(alternative)),
            _ => false,
        };
        if !known {
            errors.push(FieldError::invalid(&path, name, UNKNOWN));
        }
        if !taken.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

/// The name of an attribute: `domain/name`.
fn attribute(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    if !name.contains('/') {
        errors.push(FieldError::invalid(path, name, "must include a domain"));
    }
}

/// What a driver is told.
pub fn configuration(errors: &mut FieldErrors, path: &FieldPath, opaque: Option<&OpaqueDeviceConfiguration>) {
    let path = path.child("opaque");
    match opaque {
        None => errors.push(FieldError::required(&path, "")),
        Some(opaque) => {
            driver(errors, &path.child("driver"), &opaque.driver);
            let parameters = &opaque.parameters.0;
            if parameters.is_null() {
                errors.push(FieldError::required(&path.child("parameters"), ""));
            } else if !parameters.is_object() {
                let detail = "must be a valid JSON object";
                errors.push(FieldError::invalid(&path.child("parameters"), "<value omitted>", detail));
            }
        }
    }
}

/// The name of a driver.
pub fn driver(errors: &mut FieldErrors, path: &FieldPath, name: &str) {
    const MAX: usize = 63;
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > MAX {
        errors.push(FieldError::too_long(path, MAX));
    }
    errors.push_invalid(path, name, names::is_dns1123_subdomain(&name.to_lowercase()));
}

/// A list is not too long.
pub fn at_most(errors: &mut FieldErrors, path: &FieldPath, count: usize, max: usize) {
    if count > max {
        errors.push(FieldError::too_many(path, count, max));
    }
}

/// All errors of a `/status` write.
pub fn validate_status(new: &ResourceClaim, old: &ResourceClaim) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("status");
    let (now, before) = (new.status.clone().unwrap_or_default(), old.status.clone().unwrap_or_default());
    let reserved = now.reserved_for.as_deref().unwrap_or_default();
    at_most(&mut errors, &path.child("reservedFor"), reserved.len(), MAX_RESERVED);
    for (i, consumer) in reserved.iter().enumerate() {
        let path = path.child("reservedFor").index(i);
        for (name, value) in [("resource", &consumer.resource), ("name", &consumer.name), ("uid", &consumer.uid)] {
            checks::required(&mut errors, &path.child(name), value);
        }
        if reserved[..i].iter().any(|other| other.uid == consumer.uid) {
            errors.push(FieldError::duplicate(&path, &consumer.uid));
        }
    }
    if !reserved.is_empty() && now.allocation.is_none() {
        let detail = "may not be specified when `allocated` is not set";
        errors.push(FieldError::forbidden(&path.child("reservedFor"), detail));
    }
    let known = |uid: &str| before.reserved_for.iter().flatten().any(|consumer| consumer.uid == uid);
    if new.metadata.deletion_timestamp.is_some() && reserved.iter().any(|consumer| !known(&consumer.uid)) {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(FieldError::forbidden(&path.child("reservedFor"), detail));
    }
    if let (Some(now), Some(before)) = (&now.allocation, &before.allocation)
        && now != before
    {
        let shown = "resource.k8s.io/v1.AllocationResult";
        errors.push(internal::invalid(&path.child("allocation"), shown, now, checks::IMMUTABLE));
    }
    errors
}

/// What the claim's table row says.
pub fn state(claim: &ResourceClaim) -> String {
    let deleted = claim.metadata.deletion_timestamp.is_some();
    let status = claim.status.clone().unwrap_or_default();
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    match status.allocation {
        None if deleted => {}
        None => states.push("pending"),
        Some(_) => {
            states.push("allocated");
            if status.reserved_for.is_some_and(|reserved| !reserved.is_empty()) {
                states.push("reserved");
            }
        }
    }
    states.join(",")
}
