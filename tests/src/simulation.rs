//! A whole cluster in one thread under virtual time: API server on the store in memory, controllers, scheduler and simulated kubelets,
//! each talking to the API server's router without a socket, as the identity it has in a real cluster.
//!
//! Entry point: [`run`]. Invariant: the same seed and the same scenario give the same history.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::storage::memory::Memory;
use apiserver::storage::{Change, Feed, Storage, StorageError};
use apiserver::{ApiServer, Config, User};
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::ListParams;
use kubelet::{Kubelet, KubeletConfig};
use process::{Clock, Rng};
use runtime::simulated::{self, Simulated};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// When simulated time begins: 2026-01-01T00:00:00Z.
const EPOCH: i64 = 1_767_225_600;
/// Between the first looks of [`Simulation::until`], in virtual time; later ones are as far apart as a tenth of the time waited.
const LOOK: Duration = Duration::from_millis(100);

/// A running cluster.
pub struct Simulation {
    /// A client of the administrator.
    pub client: Client,
    server: Arc<ApiServer>,
    history: Arc<Mutex<Vec<String>>>,
    clock: Clock,
    rng: Rng,
    token: CancellationToken,
    nodes: BTreeMap<String, (CancellationToken, Kubelet)>,
    components: JoinSet<()>,
}

/// Runs a scenario on a new cluster with so many nodes, and answers what it answered.
pub fn run<T, F>(seed: u64, nodes: usize, scenario: F) -> T
where
    F: AsyncFnOnce(&mut Simulation) -> T,
{
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let mut simulation = Simulation::start(seed, nodes).await.expect("the cluster starts");
        let answer = scenario(&mut simulation).await;
        simulation.stop().await;
        answer
    })
}

impl Simulation {
    async fn start(seed: u64, nodes: usize) -> Result<Self> {
        let clock = Clock::starting_at(Timestamp::from_second(EPOCH)?);
        let (rng, token) = (Rng::seeded(seed), CancellationToken::new());
        let storage = Arc::new(Memory::new());
        let history = Arc::new(Mutex::new(Vec::new()));
        let feed = storage.watch("/registry/", storage.revision().await?).await?;
        let server = ApiServer::build(Config::for_tests(), storage, clock, rng.fork())?;
        let mut components = server.start(&token).await?;
        components.spawn(record(feed, history.clone(), token.child_token()));
        let client = client_as(&server, "kubernetes-admin", &["system:masters"]);
        let mut simulation = Self { client, server, history, clock, rng, token, nodes: BTreeMap::new(), components };
        simulation.start_components();
        for index in 0..nodes {
            simulation.add_node(&format!("node-{index:02}")).await?;
        }
        Ok(simulation)
    }

    fn start_components(&mut self) {
        let (clock, token) = (self.clock, &self.token);
        let controllers = client_as(&self.server, "system:kube-controller-manager", &[]);
        // Pods wait for the ConfigMap with the authority's certificate; nobody reads it.
        let config =
            controller_manager::Config { root_ca: Some("none".into()), ..controller_manager::Config::default() };
        let controllers = controller_manager::start(controllers, config, clock, self.rng.fork(), token.child_token());
        let scheduler = client_as(&self.server, "system:kube-scheduler", &[]);
        let scheduler = scheduler::start(scheduler, clock, self.rng.fork(), token.child_token());
        self.components.spawn(controllers);
        self.components.spawn(scheduler);
    }

    /// Starts a node.
    pub async fn add_node(&mut self, name: &str) -> Result<()> {
        let client = client_as(&self.server, &format!("system:node:{name}"), &["system:nodes"]);
        let token = self.token.child_token();
        let kubelet = node(client, name, self.clock, self.rng.fork(), token.clone()).await?;
        self.nodes.insert(name.to_owned(), (token, kubelet));
        Ok(())
    }

    /// A node falls silent: its kubelet and runtime end without a word.
    pub fn kill_node(&mut self, name: &str) {
        if let Some((token, _)) = self.nodes.remove(name) {
            token.cancel();
        }
    }

    /// Lets virtual time pass until something is true; panics after `limit` of it.
    pub async fn until(&self, what: &str, limit: Duration, holds: impl AsyncFn(&Client) -> bool) {
        let begun = tokio::time::Instant::now();
        while !holds(&self.client).await {
            if begun.elapsed() >= limit {
                panic!("{what}: not within {limit:?} of virtual time; {}", self.summary().await);
            }
            tokio::time::sleep(LOOK.max(begun.elapsed() / 10)).await;
        }
    }

    /// Nodes and pods in a few words, for messages.
    async fn summary(&self) -> String {
        let nodes: kube::Api<Node> = kube::Api::all(self.client.clone());
        let pods: kube::Api<Pod> = kube::Api::all(self.client.clone());
        let node = |node: &Node| {
            let ready = node
                .status
                .iter()
                .flat_map(|status| status.conditions.iter().flatten())
                .find(|one| one.type_ == "Ready");
            let taints: Vec<_> =
                node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).map(|taint| &taint.key).collect();
            format!(
                "{:?} ready {:?} taints {taints:?}",
                node.metadata.name,
                ready.map(|ready| (&ready.status, &ready.message))
            )
        };
        let pod = |pod: &Pod| {
            let status = pod.status.clone().unwrap_or_default();
            format!(
                "{:?} on {:?}: {:?} {:?}",
                pod.metadata.name,
                pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()),
                status.phase,
                status.conditions
            )
        };
        let nodes = nodes.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let pods = pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let shown: Vec<String> = nodes.iter().map(node).chain(pods.iter().take(3).map(pod)).collect();
        format!("{} nodes, {} pods: {}", nodes.len(), pods.len(), shown.join("; "))
    }

    /// Virtual time since the beginning.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Every effective write until now: revision, key, and what was written.
    pub fn history(&self) -> Vec<String> {
        self.history.lock().expect("nobody panics while holding it").clone()
    }

    async fn stop(mut self) {
        self.token.cancel();
        while let Some(ended) = self.components.join_next().await {
            ended.expect("no component panicked");
        }
    }
}

/// Writes down what the store says changed.
async fn record(
    mut feed: BoxStream<'static, Result<Feed, StorageError>>,
    history: Arc<Mutex<Vec<String>>>,
    token: CancellationToken,
) {
    while let Some(Some(Ok(item))) = token.run_until_cancelled(feed.next()).await {
        if let Feed::Changes(changes) = item {
            history.lock().expect("nobody panics while holding it").extend(changes.iter().map(line));
        }
    }
}

fn line(change: &Change) -> String {
    match change {
        Change::Put(entry) => format!("{} {} {}", entry.revision, entry.key, String::from_utf8_lossy(&entry.value)),
        Change::Delete { key, revision } => format!("{revision} {key} deleted"),
    }
}

fn client_as(server: &Arc<ApiServer>, user: &str, groups: &[&str]) -> Client {
    let groups = groups.iter().chain(&["system:authenticated"]).map(|group| (*group).to_owned()).collect();
    let user = User { name: user.to_owned(), groups, ..User::default() };
    Client::new(apiserver::in_process(server.clone(), user), "default")
}

/// A simulated node of whatever cluster the client is of.
pub async fn node(client: Client, name: &str, clock: Clock, rng: Rng, token: CancellationToken) -> Result<Kubelet> {
    let config = simulated::Config { node_name: name.to_owned(), pod_cidr: None, write_logs: false };
    let runtime = Simulated::new(config, clock, rng.fork(), token.clone()).context("the runtime's addresses")?;
    let config = KubeletConfig::simulated(name, BTreeMap::new());
    Ok(kubelet::start(config, client, runtime.connect(), clock, rng, token).await?)
}
