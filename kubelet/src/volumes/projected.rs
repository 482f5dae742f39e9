//! projected volumes: several sources in one directory, among them the pod's own identity.
//!
//! Entry: [`plan`]; [`token_requests`] says which tokens it needs. Invariant: pure.

use k8s_openapi::api::core::v1::{Pod, ProjectedVolumeSource, ServiceAccountTokenProjection};

use super::payload::{DEFAULT_MODE, Payload, TokenKey};
use super::{Context, VolumeError, config_map, downward_api, secret};

const DEFAULT_TOKEN_SECONDS: i64 = 3600;

/// The files of a projected volume.
pub(super) fn plan(context: &Context, source: &ProjectedVolumeSource) -> Result<Payload, VolumeError> {
    let mut payload = Payload::default();
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    for part in source.sources.iter().flatten() {
        if let Some(part) = &part.config_map {
            let optional = part.optional.unwrap_or(false);
            config_map::add(context, &mut payload, &part.name, part.items.as_deref(), mode, optional)?;
        } else if let Some(part) = &part.secret {
            let optional = part.optional.unwrap_or(false);
            secret::add(context, &mut payload, &part.name, part.items.as_deref(), mode, optional)?;
        } else if let Some(part) = &part.downward_api {
            downward_api::add(context, &mut payload, part.items.as_deref().unwrap_or_default(), mode)?;
        } else if let Some(part) = &part.service_account_token {
            let key = token_key(part);
            let token = context.tokens.get(&key).ok_or(VolumeError::NoToken(key.audience))?;
            payload.add(&part.path, token.clone().into_bytes(), token_mode(context.pod, mode));
        } else {
            return Err(VolumeError::Unsupported("projected".into()));
        }
    }
    Ok(payload)
}

/// A token is for its pod only, and still readable by a pod that does not run as root.
fn token_mode(pod: &Pod, mode: i32) -> i32 {
    let security = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let grouped = security.is_some_and(|security| security.fs_group.is_some());
    if grouped { 0o600 } else { mode }
}

fn token_key(part: &ServiceAccountTokenProjection) -> TokenKey {
    TokenKey {
        audience: part.audience.clone().unwrap_or_default(),
        expiration_seconds: part.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS),
    }
}

/// The tokens that the volumes of a pod need.
pub fn token_requests(pod: &Pod) -> Vec<TokenKey> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes.flat_map(|volume| volume.projected.iter()).flat_map(|all| all.sources.iter().flatten());
    let mut keys: Vec<_> = sources.filter_map(|source| source.service_account_token.as_ref().map(token_key)).collect();
    keys.sort();
    keys.dedup();
    keys
}
