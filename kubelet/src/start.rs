//! Puts a kubelet together and runs it.
//!
//! Entry: [`start`]. Invariant: every task it begins ends when the token is cancelled; pods go on running.

use api::ObjectKey;
use client::{Informers, Recorder, WatchConfig};
use cri::transport::Transport;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::{Api, Client};
use process::{Clock, Rng};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Host, KubeletConfig};
use crate::downward::NodeFacts;
use crate::node::{NodeKeeper, capacity, memory_bytes};
use crate::observer;
use crate::proxy;
use crate::runtime::Runtime;
use crate::server;
use crate::shared::{NodeState, Parts, Shared};
use crate::sources::{StaticPods, follow_api};

/// What goes wrong before a kubelet runs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Server(#[from] server::ServerError),
}

/// A running kubelet; dropping it ends its tasks, not its pods.
pub struct Kubelet {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    _informers: Informers,
}

impl Kubelet {
    /// Waits until all its tasks have ended, after the token was cancelled.
    pub async fn stopped(mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.shared.workers.stop();
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.shared.workers.stop();
    }
}

/// Starts a kubelet inside this process.
pub async fn start(
    config: KubeletConfig,
    client: Client,
    runtime: Transport,
    clock: Clock,
    rng: Rng,
    token: CancellationToken,
) -> Result<Kubelet, StartError> {
    let mut tasks = JoinSet::new();
    let mut informers = Informers::new(rng.fork());
    let name = config.node_name.clone();
    let bound = WatchConfig::default().fields(&format!("spec.nodeName={name}"));
    let pods = informers.start::<Pod>(Api::all(client.clone()), bound, Vec::new());
    let services = informers.start::<Service>(Api::all(client.clone()), WatchConfig::default(), Vec::new());
    let own = WatchConfig::default().fields(&format!("metadata.name={name}"));
    let nodes = informers.start::<Node>(Api::all(client.clone()), own, Vec::new());
    let recorder = Recorder::start(client.clone(), "kubelet", &name, clock, &mut tasks, token.clone());
    let runtime = Runtime::new(runtime);
    let shared =
        Shared::new(Parts { node: node_state(&config), config, client, runtime, clock, rng, recorder, pods, services });
    let server = match shared.config.server.clone() {
        Some(config) => Some(server::bind(shared.clone(), &config).await?),
        None => None,
    };
    let weak = Arc::downgrade(&shared);
    nodes.on_change(move |change| {
        if let Some(shared) = weak.upgrade() {
            shared.set_labels(change.object().metadata.labels.clone().unwrap_or_default());
            shared.own_node.notify_one();
        }
    });
    let mirrors_changed = Arc::new(tokio::sync::Notify::new());
    if let Some(directory) = shared.config.pod_manifest_path.clone() {
        let mut statics = StaticPods::new(shared.clone(), directory, mirrors_changed.clone());
        // Before the runtime is looked at: its pods must not be taken for strays.
        statics.read();
        tasks.spawn(statics.run(token.clone()));
    }
    let keeper = NodeKeeper::new(shared.clone(), nodes.clone());
    tasks.spawn(keeper.run(token.clone()));
    tasks.spawn(shared.status_writer.clone().run(token.clone()));
    tasks.spawn(run_pods(shared.clone(), nodes, mirrors_changed, token.clone()));
    if let Some(server) = server {
        tasks.spawn(server.run(token.clone()));
    }
    if shared.config.service_proxy {
        proxy::start(&shared, &mut informers, &mut tasks, token);
    }
    Ok(Kubelet { shared, tasks, _informers: informers })
}

fn node_state(config: &KubeletConfig) -> NodeState {
    let allocatable = capacity(&config.host, config.max_pods);
    let memory = match &config.host {
        Host::Machine { .. } => memory_bytes(),
        Host::Simulated { .. } => allocatable.get("memory").map_or(0, |amount| amount.value()),
    };
    let facts = NodeFacts { name: config.node_name.clone(), ips: config.node_ips.clone(), allocatable };
    NodeState { facts, labels: config.node_labels.clone(), memory }
}

/// Pods are taken on when the node's record and the services are known, as their checks and environments need them.
async fn run_pods(
    shared: Arc<Shared>,
    nodes: client::Store<Node>,
    mirrors_changed: Arc<tokio::sync::Notify>,
    token: CancellationToken,
) {
    const FIRST_LOOK: SignedDuration = SignedDuration::from_millis(200);
    let ready = async {
        nodes.synced().await;
        shared.services.synced().await;
        let key = ObjectKey { namespace: None, name: shared.config.node_name.clone() };
        let pod_cidr = pod_cidr(&shared, &nodes, &key).await;
        while let Err(status) = shared.runtime.set_pod_cidr(&pod_cidr).await {
            tracing::warn!(error = status.message(), node = %key, "the runtime does not take the pod CIDR");
            tokio::time::sleep(FIRST_LOOK.unsigned_abs()).await;
        }
        shared.node_due.notify_one();
    };
    tokio::select! {
        biased;
        () = token.cancelled() => return,
        () = ready => {}
    }
    follow_api(&shared, mirrors_changed);
    observer::watch(shared, token).await;
}

/// The flag's, or the one that the cluster gave the node; waits until there is one.
async fn pod_cidr(shared: &Shared, nodes: &client::Store<Node>, key: &ObjectKey) -> String {
    loop {
        let given = nodes.get(key).and_then(|node| node.spec.as_ref()?.pod_cidr.clone());
        if let Some(pod_cidr) = shared.config.pod_cidr.clone().or(given) {
            return pod_cidr;
        }
        shared.own_node.notified().await;
    }
}
