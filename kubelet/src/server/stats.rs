//! Statistics: `/stats/summary` and `/metrics`.
//!
//! Entry: [`summary`], [`metrics`]. Invariant: measured when asked, never before.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cri::v1::{ContainerStats, ListContainerStatsRequest};
use http::StatusCode;
use process::metrics::Registry;
use serde_json::{Value, json};

use super::Refusal;
use crate::runtime::keys;
use crate::shared::Shared;

async fn container_stats(shared: &Shared) -> Result<Vec<ContainerStats>, Refusal> {
    let request = ListContainerStatsRequest { filter: None };
    let answer = shared.runtime.runtime.clone().list_container_stats(request).await;
    let failed = |status: tonic::Status| Refusal(StatusCode::INTERNAL_SERVER_ERROR, status.message().to_owned());
    Ok(answer.map_err(failed)?.into_inner().stats)
}

fn one(stats: &ContainerStats, now: &str) -> Value {
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let name = stats.attributes.as_ref().and_then(|attributes| attributes.metadata.as_ref()).map(|meta| &meta.name);
    json!({
        "name": name,
        "cpu": {
            "time": now,
            "usageNanoCores": cpu.usage_nano_cores.map_or(0, |value| value.value),
            "usageCoreNanoSeconds": cpu.usage_core_nano_seconds.map_or(0, |value| value.value),
        },
        "memory": {
            "time": now,
            "usageBytes": memory.usage_bytes.map_or(0, |value| value.value),
            "workingSetBytes": memory.working_set_bytes.map_or(0, |value| value.value),
            "rssBytes": memory.rss_bytes.map_or(0, |value| value.value),
        },
    })
}

/// The Summary API: what each container uses.
pub(super) async fn summary(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    let now = shared.clock.now_seconds().to_string();
    let mut pods: BTreeMap<(String, String, String), Vec<Value>> = BTreeMap::new();
    for stats in container_stats(&shared).await? {
        let labels = stats.attributes.clone().unwrap_or_default().labels;
        let label = |key: &str| labels.get(key).cloned().unwrap_or_default();
        let key = (label(keys::POD_NAMESPACE), label(keys::POD_NAME), label(keys::POD_UID));
        pods.entry(key).or_default().push(one(&stats, &now));
    }
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|((namespace, name, uid), containers)| {
            let total =
                |path: [&str; 2]| -> u64 { containers.iter().filter_map(|c| c[path[0]][path[1]].as_u64()).sum() };
            json!({
                "podRef": {"name": name, "namespace": namespace, "uid": uid},
                "cpu": {"time": now, "usageNanoCores": total(["cpu", "usageNanoCores"]),
                    "usageCoreNanoSeconds": total(["cpu", "usageCoreNanoSeconds"])},
                "memory": {"time": now, "usageBytes": total(["memory", "usageBytes"]),
                    "workingSetBytes": total(["memory", "workingSetBytes"]), "rssBytes": total(["memory", "rssBytes"])},
                "containers": containers,
            })
        })
        .collect();
    Ok(Json(json!({"node": {"nodeName": shared.config.node_name}, "pods": pods})).into_response())
}

/// Figures about the kubelet in Prometheus' text format.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let registry = Registry::new();
    let pods = shared.workers.pods();
    let running = pods.iter().filter(|pod| api::pods::phase(pod) == "Running").count();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    registry.gauge("kubelet_running_pods", "Number of pods that have a running pod sandbox", &[]).set(count(running));
    registry
        .gauge("kubelet_desired_pods", "The number of pods the kubelet is being instructed to run", &[])
        .set(count(pods.len()));
    registry.render().into_response()
}
