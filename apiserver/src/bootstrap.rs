//! What a cluster begins with, and what an API server keeps true by itself: namespaces, RBAC roles and bindings, priority
//! classes, the `kubernetes` Service with the live servers behind it, the rules of aggregated roles.
//!
//! Entry points: [`run`] before the server is ready, [`keep`] until it ends. Invariant: everything is written through the write
//! path, and running it again writes nothing.

mod aggregation;
mod api_services;
mod endpoints;
pub(crate) mod flow_control;
mod kubernetes_service;
mod namespaces;
pub mod policy;
pub(crate) mod policy_types;
mod priority_classes;
mod rbac;
mod service_cidr;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use api::error::ApiError;
use futures::try_join;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::writer::Writer;
use crate::ApiServer;
use crate::cache::{Selection, WatchFrom, Watcher};
use crate::http::health::Step;
use crate::read::storage_error;

pub(crate) use api_services::keep as keep_api_services;

/// How long to wait before trying again what failed.
const RETRY: Duration = Duration::from_secs(1);

/// Writes what is missing. The cache must be loaded.
pub async fn run(server: &Arc<ApiServer>) -> Result<(), ApiError> {
    server.cache.fresh().await.map_err(storage_error)?;
    let writer = Writer::new(server);
    namespaces::ensure(&writer).await?;
    server.steps.done(&[Step::Namespaces]);
    priority_classes::ensure(&writer).await?;
    server.steps.done(&[Step::PriorityClasses]);
    try_join!(rbac::reconcile(&writer, policy::policy()), flow_control::ensure(server), api_services::ensure(&writer))?;
    server.steps.done(&[Step::FlowControlObjects, Step::BuiltInRegistration]);
    service_cidr::ensure(&writer).await?;
    server.steps.done(&[Step::ServiceCidr]);
    kubernetes_service::ensure(&writer).await?;
    endpoints::announce(&writer).await?;
    server.steps.done(&[Step::KubernetesService]);
    server.cache.fresh().await.map_err(storage_error)?;
    try_join!(aggregation::aggregate(&writer), flow_control::settle(server))?;
    server.steps.done(&[Step::Roles, Step::FlowControl]);
    Ok(())
}

/// Keeps aggregated roles and the endpoints of the `kubernetes` Service true until the server ends, then withdraws from them.
pub async fn keep(server: Arc<ApiServer>, token: CancellationToken) {
    let mut roles = cluster_roles(&server);
    let mut announce_at = Instant::now() + endpoints::INTERVAL;
    loop {
        let woken = tokio::select! {
            biased;
            () = token.cancelled() => break,
            () = sleep_until(announce_at) => Woken::Announce,
            more = changed(&mut roles) => if more { Woken::Roles } else { Woken::Lost },
        };
        let writer = Writer::new(&server);
        let done = match woken {
            Woken::Announce => {
                announce_at = Instant::now() + endpoints::INTERVAL;
                endpoints::announce(&writer).await
            }
            Woken::Roles => aggregation::aggregate(&writer).await,
            Woken::Lost => {
                sleep(RETRY).await;
                roles = cluster_roles(&server);
                aggregation::aggregate(&writer).await
            }
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the cluster's own objects were not brought up to date");
        }
    }
    if let Err(error) = endpoints::withdraw(&Writer::new(&server)).await {
        tracing::warn!(%error, "this server still shows as live for a while");
    }
}

enum Woken {
    Announce,
    Roles,
    Lost,
}

fn cluster_roles(server: &ApiServer) -> Option<Watcher> {
    let resource = server.cache.resource(&crate::view::prefix(crate::authz::rbac::GROUP, "clusterroles", ""))?;
    resource.watch(WatchFrom::After(resource.revision()), Selection::everything()).ok()
}

/// Waits for a change; false when the watch has ended.
async fn changed(watcher: &mut Option<Watcher>) -> bool {
    match watcher {
        Some(watcher) => watcher.next().await.is_some(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
