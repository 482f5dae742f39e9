//! configMap volumes: one file for each key.
//!
//! Entry: [`plan`]. Invariant: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ConfigMapVolumeSource, KeyToPath};

use super::payload::{DEFAULT_MODE, Payload};
use super::{Context, VolumeError};

/// The files of a configMap volume.
pub(super) fn plan(context: &Context, source: &ConfigMapVolumeSource) -> Result<Payload, VolumeError> {
    let mut payload = Payload::default();
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let optional = source.optional.unwrap_or(false);
    add(context, &mut payload, &source.name, source.items.as_deref(), mode, optional)?;
    Ok(payload)
}

/// Adds the keys of one config map.
pub(super) fn add(
    context: &Context,
    payload: &mut Payload,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), VolumeError> {
    match context.objects.config_maps.get(name) {
        Some(found) => payload.add_keys("config", &bytes(found), items, mode, optional),
        None if optional => Ok(()),
        None => Err(VolumeError::NoConfigMap(name.to_owned())),
    }
}

fn bytes(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    text.chain(binary).collect()
}
