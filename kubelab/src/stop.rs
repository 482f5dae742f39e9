//! `kubelab stop`: ends the processes of a cluster and its containers; its objects stay.

use std::process::Child;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::cluster::{Cluster, Runtime};
use crate::components::{self, Component};
use crate::launch;

/// How long a component may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
/// How long it may take after SIGKILL.
const KILLED: Duration = Duration::from_secs(5);

/// Stops the cluster; a cluster that does not run is no error.
pub async fn run(cluster: &Cluster) -> Result<()> {
    let _lock = Cluster::lock(&cluster.dir)?;
    all(cluster).await;
    println!("Cluster {:?} is stopped; `kubelab start --name {}` continues it.", cluster.spec.name, cluster.spec.name);
    Ok(())
}

/// Ends every process of the cluster, containers too.
pub async fn all(cluster: &Cluster) {
    components(cluster, &components::of(cluster), vec![]).await;
    containers(cluster).await;
}

/// Ends components, the last started first. `children` are those that this process started itself and must reap.
pub async fn components(cluster: &Cluster, stopped: &[Component], mut children: Vec<(Component, Child)>) {
    for component in stopped.iter().rev() {
        let name = component.name();
        let Some(process) = launch::running(cluster, &name) else { continue };
        process.signal(Signal::SIGTERM);
        if !process.ended(GRACE).await {
            tracing::warn!(component = name, "did not end on SIGTERM; killing it");
            process.signal(Signal::SIGKILL);
            process.ended(KILLED).await;
        }
    }
    for (_, child) in &mut children {
        let _ = child.try_wait();
    }
}

/// Ends and removes the containers that real runtimes left, found by their state.
pub async fn containers(cluster: &Cluster) {
    if cluster.spec.runtime == Runtime::Simulated {
        return;
    }
    for node in &cluster.spec.nodes {
        if let Err(error) = crate::node::purge(&cluster.node_dir(&node.name).join("runtime")).await {
            eprintln!("kubelab: containers of node {} may still run: {error:#}", node.name);
        }
    }
    // One node carries the services of all.
    if let Some(node) = cluster.spec.nodes.first()
        && let Err(error) = kubelet::remove_service_proxy(&node.name).await
    {
        eprintln!("kubelab: rules of services may still be there: {error:#}");
    }
}
