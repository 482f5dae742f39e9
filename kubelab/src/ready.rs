//! What `start` waits for: the API answers, the default ServiceAccount exists, each node is Ready. A process that ends meanwhile ends the wait.

use std::collections::BTreeSet;
use std::fs;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use api::well_known::namespaces::NODE_LEASE;
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, NodeSpec};
use crate::components::Component;
use crate::progress::Progress;

/// How long a cluster may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at something that can't be watched (a port, a child process).
const LOOK: Duration = Duration::from_millis(5);
/// Lines of a log that an error quotes.
const QUOTED_LINES: usize = 5;

/// What was started just now. What a node's record says from before does not count for it.
pub struct Launched {
    /// Before the first of them.
    pub at: Timestamp,
    /// Their names.
    pub components: BTreeSet<String>,
}

/// Waits for all of it.
pub async fn all(cluster: &Cluster, progress: &Progress, launched: Launched) -> Result<()> {
    match timeout(LIMIT, wait(cluster, progress, &launched)).await {
        Ok(result) => result,
        Err(_) => {
            Err(anyhow!("the cluster was not ready within {} s; its logs end:\n{}", LIMIT.as_secs(), log_ends(cluster)))
        }
    }
}

async fn wait(cluster: &Cluster, progress: &Progress, launched: &Launched) -> Result<()> {
    progress.doing("waiting for the API server");
    let since = Instant::now();
    let client = answering(cluster).await?;
    progress.done("apiserver", since, &cluster.server_url());
    progress.doing("waiting for controllers and nodes");
    let wanted = |name: &str| !cluster.spec.without.iter().any(|without| without == name);
    let accounts = async {
        match wanted("controller-manager") {
            true => default_account(&client, progress, since).await,
            false => Ok(()),
        }
    };
    let nodes: &[NodeSpec] = if wanted("kubelet") { &cluster.spec.nodes } else { &[] };
    // Nodes get their pod addresses, and lose their first taint, from the controllers.
    let awaited = if wanted("controller-manager") { NodeState::Ready } else { NodeState::Registered };
    let nodes = try_join_all(nodes.iter().map(async |node| {
        if launched.components.contains(&Component::Kubelet(node.clone()).name()) {
            heard_since(launched.at, &client, node).await?;
        }
        node_in(awaited, &client, node, progress, since).await
    }));
    futures::future::try_join(accounts, nodes).await?;
    Ok(())
}

/// A client, once `/readyz` answers ok.
async fn answering(cluster: &Cluster) -> Result<Client> {
    let config = cluster.component_kubeconfig("admin");
    loop {
        if tokio::net::TcpStream::connect(("127.0.0.1", cluster.spec.port)).await.is_ok() {
            let client =
                client::kube_client(&config, "kubelab").await.context("can't read the cluster's own kubeconfig")?;
            let request = http::Request::get("/readyz").body(vec![])?;
            if client.request_text(request).await.is_ok() {
                return Ok(client);
            }
        }
        sleep(LOOK).await;
    }
}

async fn default_account(client: &Client, progress: &Progress, since: Instant) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    await_condition(accounts, "default", |account: Option<&ServiceAccount>| account.is_some()).await?;
    progress.done("controller-manager", since, "ServiceAccount default");
    Ok(())
}

/// How far a node must have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NodeState {
    Registered,
    Ready,
}

/// A kubelet renews its node's lease after it has written the node's status.
async fn heard_since(at: Timestamp, client: &Client, node: &NodeSpec) -> Result<()> {
    let renewed = move |lease: Option<&Lease>| {
        lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).is_some_and(|renewed| renewed.0 >= at)
    };
    await_condition(Api::namespaced(client.clone(), NODE_LEASE), &node.name, renewed).await?;
    Ok(())
}

async fn node_in(
    awaited: NodeState,
    client: &Client,
    node: &NodeSpec,
    progress: &Progress,
    since: Instant,
) -> Result<()> {
    let holds = move |node: Option<&Node>| node.is_some_and(|node| awaited == NodeState::Registered || is_ready(node));
    await_condition(Api::all(client.clone()), &node.name, holds).await?;
    progress.done(&format!("node {}", node.name), since, &format!("{awaited:?}"));
    Ok(())
}

/// Whether the node's Ready condition is True.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Ends when one of the processes does, with what its log says last.
pub async fn a_process_ended(cluster: &Cluster, started: &mut [(Component, Child)]) -> anyhow::Error {
    loop {
        for (component, child) in started.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                return anyhow!("{} ended ({status}):\n{}", component.name(), last_lines(cluster, &component.name()));
            }
        }
        sleep(LOOK * 4).await;
    }
}

/// The last lines of every component's log: a new cluster's folder goes away with its failure.
fn log_ends(cluster: &Cluster) -> String {
    let names = crate::components::of(cluster).into_iter().map(|component| component.name());
    names.map(|name| format!("  {name}:\n{}", last_lines(cluster, &name))).collect::<Vec<_>>().join("\n")
}

fn last_lines(cluster: &Cluster, component: &str) -> String {
    let text = fs::read_to_string(cluster.log(component)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(QUOTED_LINES);
    lines[first..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
