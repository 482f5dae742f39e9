//! downwardAPI volumes: what a pod may know about itself, as files that follow its labels and annotations.
//!
//! Entry: [`plan`]. Invariant: pure.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, DownwardAPIVolumeSource};

use super::payload::{DEFAULT_MODE, Payload};
use super::{Context, VolumeError};
use crate::downward;

/// The files of a downwardAPI volume.
pub(super) fn plan(context: &Context, source: &DownwardAPIVolumeSource) -> Result<Payload, VolumeError> {
    let mut payload = Payload::default();
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    add(context, &mut payload, source.items.as_deref().unwrap_or_default(), mode)?;
    Ok(payload)
}

/// Adds some fields.
pub(super) fn add(
    context: &Context,
    payload: &mut Payload,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
) -> Result<(), VolumeError> {
    for item in items {
        let text = if let Some(selector) = &item.field_ref {
            downward::field(context.pod, context.node, context.pod_ips, &selector.field_path)?
        } else if let Some(selector) = &item.resource_field_ref {
            downward::resource(context.pod, context.node, None, selector)?
        } else {
            continue;
        };
        payload.add(&item.path, text.into_bytes(), item.mode.unwrap_or(mode));
    }
    Ok(())
}
