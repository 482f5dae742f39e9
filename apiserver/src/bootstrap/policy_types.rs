//! What validating admission policies' status says: which version of the policy was looked at, and where its expressions do not
//! fit the types of what it is about. Upstream's controller for this runs in the controller-manager; ours is here, where CEL and
//! the schemas are.
//!
//! Entry point: [`keep`], until the server ends. Invariant: the status follows the specification; nobody's writes wait for it.

use std::sync::Arc;
use std::time::Duration;

use api::error::ApiError;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::changed;
use super::writer::Writer;
use crate::ApiServer;
use crate::admission::policies::type_checking;
use crate::cache::{Selection, WatchFrom, Watcher};
use crate::resources::Served;
use crate::view::prefix;

/// Owns the status.
const MANAGER: &str = "validatingadmissionpolicy-status";
/// How long to wait before trying again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// Looks at policies as they are written.
pub(crate) async fn keep(server: Arc<ApiServer>, token: CancellationToken) {
    let mut watcher = watch(&server);
    loop {
        let done = settle(&server).await;
        if let Err(error) = &done {
            tracing::warn!(%error, "the status of admission policies was not brought up to date");
        }
        let wake = (done.is_err() || watcher.is_none()).then(|| Instant::now() + RETRY);
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            more = changed(&mut watcher), if watcher.is_some() => if !more { watcher = None },
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                watcher = watcher.or_else(|| watch(&server));
            }
        }
    }
}

fn watch(server: &ApiServer) -> Option<Watcher> {
    let resource = server.cache.resource(&prefix_of_policies())?;
    resource.watch(WatchFrom::After(resource.revision()), Selection::everything()).ok()
}

fn prefix_of_policies() -> String {
    prefix("admissionregistration.k8s.io", "validatingadmissionpolicies", "")
}

async fn settle(server: &Arc<ApiServer>) -> Result<(), ApiError> {
    let Some(resource) = server.cache.resource(&prefix_of_policies()) else { return Ok(()) };
    let (snapshot, everything) = (resource.snapshot(), Selection::everything());
    let policies = snapshot.select(&everything, None).filter_map(|entry| serde_json::from_slice(&entry.json()).ok());
    let writer = Writer::named(server, MANAGER);
    for policy in policies.filter(is_new) {
        let name = policy.metadata.name.clone().unwrap_or_default();
        let fields = fields(&policy, &server.resources.served());
        match writer.apply_status::<ValidatingAdmissionPolicy>(&name, &fields).await {
            Err(error) if error.is_not_found() => {}
            done => done?,
        }
    }
    Ok(())
}

/// Whether the specification is one that was not looked at.
fn is_new(policy: &ValidatingAdmissionPolicy) -> bool {
    let looked_at = policy.status.as_ref().and_then(|status| status.observed_generation);
    policy.metadata.generation.unwrap_or(0) > looked_at.unwrap_or(0)
}

/// What is applied to the status.
fn fields(policy: &ValidatingAdmissionPolicy, served: &Served) -> Value {
    let warnings = policy.spec.as_ref().map(|spec| type_checking::warnings(spec, served)).unwrap_or_default();
    let warnings: Vec<Value> =
        warnings.into_iter().map(|(field, warning)| json!({"fieldRef": field, "warning": warning})).collect();
    let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": policy.metadata.name},
        "status": {"observedGeneration": policy.metadata.generation, "typeChecking": checked},
    })
}
