//! A large ReplicationController on simulated nodes: from its creation until every pod is created and bound.
//!
//! The nodes are kubelets inside this program, so that their cost is not the servers'; with `--nodes 0` those of the cluster serve. The
//! cluster brings controllers and a scheduler.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ReplicationController};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use process::{Clock, Rng};
use tokio_util::sync::CancellationToken;

use super::figures::CpuMeter;

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs it in a namespace of its own.
pub async fn measure(client: &Client, replicas: usize, nodes: usize, pids: &[i32]) -> Result<()> {
    let token = CancellationToken::new();
    let name = format!("bench-rc-{}", std::process::id());
    let mut kubelets = Vec::new();
    for index in 0..nodes {
        kubelets.push(
            tests::simulation::node(
                client.clone(),
                &format!("{name}-{index:03}"),
                Clock::system(),
                Rng::seeded(index as u64),
                token.child_token(),
            )
            .await?,
        );
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .create(&PostParams::default(), &serde_json::from_value(serde_json::json!({"metadata": {"name": name}}))?)
        .await?;
    let result = tokio::time::timeout(LIMIT, bound(client, &name, replicas, nodes, pids))
        .await
        .context("not all pods were bound in time");
    namespaces.delete(&name, &DeleteParams::default()).await?;
    token.cancel();
    let all: Api<Node> = Api::all(client.clone());
    for index in 0..nodes {
        all.delete(&format!("{name}-{index:03}"), &DeleteParams::default()).await?;
    }
    result?
}

async fn bound(client: &Client, namespace: &str, replicas: usize, nodes: usize, pids: &[i32]) -> Result<()> {
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), namespace);
    kube::runtime::wait::await_condition(
        accounts,
        "default",
        |account: Option<&k8s_openapi::api::core::v1::ServiceAccount>| account.is_some(),
    )
    .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let revision = pods.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = Box::pin(pods.watch(&WatchParams::default(), &revision).await?);
    let rc: ReplicationController = serde_json::from_value(
        serde_json::json!({"metadata": {"name": "bench"}, "spec": {"replicas": replicas, "selector": {"app": "bench"},
        "template": {"metadata": {"labels": {"app": "bench"}}, "spec": {"containers": [{"name": "c", "image": "nginx", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}]}}}}),
    )?;
    let (meter, begun) = (CpuMeter::begin(pids), Instant::now());
    Api::<ReplicationController>::namespaced(client.clone(), namespace).create(&PostParams::default(), &rc).await?;
    let (mut created, mut assigned, mut running) = (None, BTreeMap::new(), BTreeMap::new());
    let mut all_bound = None;
    let mut seen = 0;
    while let Some(event) = events.try_next().await? {
        let pod = match event {
            WatchEvent::Added(pod) => {
                seen += 1;
                pod
            }
            WatchEvent::Modified(pod) => pod,
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => bail!("{}", status.message),
        };
        let name = pod.metadata.name.clone().unwrap_or_default();
        if seen == replicas && created.is_none() {
            created = Some(begun.elapsed());
        }
        if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
            assigned.insert(name.clone(), ());
        }
        if assigned.len() == replicas && all_bound.is_none() {
            all_bound = Some(begun.elapsed());
        }
        if api::pods::is_ready(&pod) {
            running.insert(name, ());
        }
        if running.len() == replicas {
            break;
        }
    }
    let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64();
    println!(
        "RC of {replicas} on {nodes} nodes: created {:.2} s, bound {:.2} s, ready {:.2} s{}",
        seconds(created),
        seconds(all_bound),
        begun.elapsed().as_secs_f64(),
        meter.used().iter().map(|cpu| format!(", CPU {:.2} s", cpu.as_secs_f64())).collect::<String>()
    );
    Ok(())
}
