//! The devices that a driver tells of. Entry point: [`validate`].

use std::collections::BTreeSet;

use api::field::{FieldError, FieldErrors, FieldPath};
use api::names;
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, ResourcePool, ResourceSlice};

use super::claim::{at_most, driver};
use crate::resources::pod_spec;

const MAX_DEVICES: usize = 128;
const MAX_FACTS: usize = 32;
const MAX_VALUE: usize = 64;
const MAX_POOL_NAME: usize = 253;
const ONE_OF: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

/// All errors of a slice.
pub fn validate(object: &ResourceSlice) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = FieldPath::root("spec");
    let spec = &object.spec;
    driver(&mut errors, &path.child("driver"), &spec.driver);
    pool(&mut errors, &path.child("pool"), &spec.pool);
    let mut set = Vec::new();
    if let Some(node) = &spec.node_name {
        set.push("`nodeName`");
        errors.push_invalid(&path.child("nodeName"), node, names::is_dns1123_subdomain(node));
    }
    if let Some(selector) = &spec.node_selector {
        set.push("`nodeSelector`");
        pod_spec::node_selector(&mut errors, &path.child("nodeSelector"), selector);
    }
    for (name, shown, value) in [
        ("allNodes", "`allNodes`", spec.all_nodes),
        ("perDeviceNodeSelection", "`perDeviceNodeSelection`", spec.per_device_node_selection),
    ] {
        match value {
            Some(true) => set.push(shown),
            Some(false) => {
                errors.push(FieldError::invalid(&path.child(name), false, "must be either unset or set to true"));
            }
            None => {}
        }
    }
    match set.len() {
        0 => errors.push(FieldError::required(&path, ONE_OF)),
        1 => {}
        _ => errors.push(FieldError::invalid(&path, format!("{{{}}}", set.join(", ")), ONE_OF)),
    }
    let devices = spec.devices.as_deref().unwrap_or_default();
    at_most(&mut errors, &path.child("devices"), devices.len(), MAX_DEVICES);
    let mut taken = BTreeSet::new();
    for (i, one) in devices.iter().enumerate() {
        device(&mut errors, &path.child("devices").index(i), one);
        if !taken.insert(&one.name) {
            errors.push(FieldError::duplicate(&path.child("devices").index(i), &one.name));
        }
    }
    errors
}

fn pool(errors: &mut FieldErrors, path: &FieldPath, pool: &ResourcePool) {
    if pool.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    } else {
        if pool.name.len() > MAX_POOL_NAME {
            errors.push(FieldError::too_long(&path.child("name"), MAX_POOL_NAME));
        }
        for part in pool.name.split('/') {
            errors.push_invalid(&path.child("name"), part, names::is_dns1123_subdomain(part));
        }
    }
    if pool.resource_slice_count <= 0 {
        let count = pool.resource_slice_count;
        errors.push(FieldError::invalid(&path.child("resourceSliceCount"), count, "must be greater than zero"));
    }
    if pool.generation < 0 {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("generation"), pool.generation, detail));
    }
}

fn device(errors: &mut FieldErrors, path: &FieldPath, device: &Device) {
    errors.push_invalid(&path.child("name"), &device.name, names::is_dns1123_label(&device.name));
    let attributes = device.attributes.iter().flatten();
    let facts = attributes.clone().count() + device.capacity.as_ref().map_or(0, |capacity| capacity.len());
    if facts > MAX_FACTS {
        let detail = format!("the total number of attributes and capacities must not exceed {MAX_FACTS}");
        errors.push(FieldError::invalid(path, facts, detail));
    }
    for (name, value) in attributes {
        attribute(errors, &path.child("attributes").key(name), value);
    }
}

fn attribute(errors: &mut FieldErrors, path: &FieldPath, value: &DeviceAttribute) {
    for (name, text) in [("string", &value.string), ("version", &value.version)] {
        if text.as_ref().is_some_and(|text| text.len() > MAX_VALUE) {
            errors.push(FieldError::too_long(&path.child(name), MAX_VALUE));
        }
    }
    let set = serde_json::to_value(value).ok().and_then(|value| value.as_object().map(serde_json::Map::len));
    match set {
        Some(1) => {}
        Some(0) => errors.push(FieldError::invalid(path, "", "exactly one value must be specified")),
        _ => errors.push(FieldError::invalid(path, value, "exactly one value must be specified")),
    }
}
