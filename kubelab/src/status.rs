//! `kubelab status`: which processes of a cluster run, what they use, and what its nodes say.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use serde::Serialize;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::{components, launch, ready};

/// How long the API server may take to list its nodes.
const ANSWER: Duration = Duration::from_secs(2);

/// Output formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// One JSON document.
    Json,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Status {
    name: String,
    server: String,
    /// Running: all processes run; Stopped: none; Degraded: some.
    state: &'static str,
    directory: String,
    store: crate::cluster::Store,
    runtime: crate::cluster::Runtime,
    components: Vec<ComponentStatus>,
    nodes: Vec<NodeStatus>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ComponentStatus {
    name: String,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct NodeStatus {
    name: String,
    ready: bool,
}

/// Prints the cluster's status; the answer tells whether all of it runs.
pub async fn run(cluster: &Cluster, format: Option<Format>) -> Result<bool> {
    let status = observe(cluster).await;
    match format {
        Some(Format::Json) => println!("{}", serde_json::to_string_pretty(&status)?),
        None => print(&status),
    }
    Ok(status.state == "Running")
}

async fn observe(cluster: &Cluster) -> Status {
    let components: Vec<ComponentStatus> = components::of(cluster)
        .iter()
        .map(|component| {
            let process = launch::running(cluster, &component.name());
            ComponentStatus {
                name: component.name(),
                running: process.is_some(),
                pid: process.map(|process| process.pid),
                memory_bytes: process.and_then(|process| process.memory()),
            }
        })
        .collect();
    let count = components.iter().filter(|component| component.running).count();
    let nodes = if count > 0 { nodes(cluster).await.unwrap_or_default() } else { vec![] };
    Status {
        name: cluster.spec.name.clone(),
        server: cluster.server_url(),
        state: match count {
            0 => "Stopped",
            count if count == components.len() => "Running",
            _ => "Degraded",
        },
        directory: cluster.dir.display().to_string(),
        store: cluster.spec.store,
        runtime: cluster.spec.runtime,
        components,
        nodes,
    }
}

async fn nodes(cluster: &Cluster) -> Option<Vec<NodeStatus>> {
    let client = client::kube_client(&cluster.component_kubeconfig("admin"), "kubelab").await.ok()?;
    let api: kube::Api<Node> = kube::Api::all(client);
    let list = timeout(ANSWER, api.list(&ListParams::default())).await.ok()?.ok()?;
    let status =
        |node: Node| NodeStatus { ready: ready::is_ready(&node), name: node.metadata.name.unwrap_or_default() };
    Some(list.items.into_iter().map(status).collect())
}

fn print(status: &Status) {
    println!("{:<12} {}", status.name, status.state);
    println!("{:<12} {}", "server", status.server);
    println!("{:<12} {}", "folder", status.directory);
    for component in &status.components {
        let state = match (component.pid, component.memory_bytes) {
            (Some(pid), Some(bytes)) => format!("running, pid {pid}, {:.1} MB", bytes as f64 / 1e6),
            (Some(pid), None) => format!("running, pid {pid}"),
            _ => "stopped".to_owned(),
        };
        println!("  {:<24} {state}", component.name);
    }
    for node in &status.nodes {
        println!("  {:<24} {}", format!("node {}", node.name), if node.ready { "Ready" } else { "NotReady" });
    }
}
