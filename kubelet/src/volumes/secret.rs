//! secret volumes: one file for each key.
//!
//! Entry: [`plan`]. Invariant: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{KeyToPath, SecretVolumeSource};

use super::payload::{DEFAULT_MODE, Payload};
use super::{Context, VolumeError};

/// The files of a secret volume.
pub(super) fn plan(context: &Context, source: &SecretVolumeSource) -> Result<Payload, VolumeError> {
    let mut payload = Payload::default();
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let name = source.secret_name.as_deref().unwrap_or_default();
    add(context, &mut payload, name, source.items.as_deref(), mode, source.optional.unwrap_or(false))?;
    Ok(payload)
}

/// Adds the keys of one secret.
pub(super) fn add(
    context: &Context,
    payload: &mut Payload,
    name: &str,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<(), VolumeError> {
    match context.objects.secrets.get(name) {
        Some(found) => {
            let data: BTreeMap<_, _> =
                found.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect();
            payload.add_keys("secret", &data, items, mode, optional)
        }
        None if optional => Ok(()),
        None => Err(VolumeError::NoSecret(name.to_owned())),
    }
}
