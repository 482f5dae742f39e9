//! The node's own record: registered at the start, kept true while the kubelet runs, and a lease that says it does.
//!
//! Entry: [`NodeKeeper::run`]. Invariants: the lease is renewed every 10 s whatever else happens; the status is written
//! when it changes and every 5 minutes; labels and taints of others are never touched.

mod lease;
mod machine;
mod thresholds;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::Quantity;
use api::well_known::{KUBERNETES_VERSION, labels};
use client::{EventType, Store};
use cri::v1::{ListImagesRequest, StatusRequest, VersionRequest};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, ObjectReference,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::Host;
use crate::log_rotation;
use crate::shared::Shared;
use crate::status::whole_seconds;

pub use self::machine::memory_bytes;
pub use self::thresholds::Thresholds;

const HEARTBEAT: Duration = Duration::from_secs(10);
const REPORT: SignedDuration = SignedDuration::from_mins(5);
const REGISTER_RETRY: Duration = Duration::from_millis(500);
const LISTED_IMAGES: usize = 50;

/// Keeps the record of one node.
pub struct NodeKeeper {
    shared: Arc<Shared>,
    nodes: Store<Node>,
    lease: lease::Lease,
    written_at: Option<Timestamp>,
    /// Whether the runtime was heard at the last heartbeat.
    was_heard: bool,
}

/// What can be offered on this host, and what of it pods may use.
pub fn capacity(host: &Host, max_pods: u32) -> BTreeMap<String, Quantity> {
    let mut amounts = match host {
        Host::Machine { root_dir, .. } => machine::capacity(root_dir),
        Host::Simulated { .. } => [("cpu", "8"), ("memory", "32Gi"), ("ephemeral-storage", "100Gi")]
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), Quantity::parse(text).ok()?)))
            .collect(),
    };
    amounts.insert("pods".into(), Quantity::parse(&max_pods.to_string()).unwrap_or_default());
    if let Host::Simulated { capacity, .. } = host {
        let given = capacity.iter().filter_map(|(name, text)| Some((name.clone(), Quantity::parse(text).ok()?)));
        amounts.extend(given);
    }
    amounts
}

/// What a condition of the node says.
struct Claim {
    name: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl NodeKeeper {
    /// A keeper; `nodes` holds the node's own record.
    pub fn new(shared: Arc<Shared>, nodes: Store<Node>) -> Self {
        let lease = lease::Lease::new(&shared);
        Self { shared, nodes, lease, written_at: None, was_heard: false }
    }

    /// Registers the node, then keeps its record and its lease until the token is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let work = async {
            while let Err(error) = self.register().await {
                tracing::warn!(%error, "node not registered");
                tokio::time::sleep(REGISTER_RETRY).await;
            }
            self.lease.renew().await;
            let mut beat = tokio::time::interval(HEARTBEAT);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    () = self.shared.node_due.notified() => {}
                    _ = beat.tick() => {}
                }
                if let Err(error) = self.update().await {
                    tracing::warn!(%error, "node status not written");
                }
                self.lease.renew().await;
                let shared = &self.shared;
                log_rotation::rotate(&shared.config.host, &shared.runtime, shared.clock.now()).await;
            }
        };
        tokio::select! {
            biased;
            () = token.cancelled() => {}
            () = work => {}
        }
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.shared.client.clone())
    }

    /// Makes the record, or takes over the one that is there.
    async fn register(&mut self) -> Result<(), client::Error> {
        let config = &self.shared.config;
        let labels = self.labels();
        let present = self.api().get_opt(&config.node_name).await?;
        match present {
            None if !config.register_node => {
                Err(client::Error::Undecided(format!("node {} does not exist", config.node_name)))
            }
            None => {
                let mut node = Node {
                    metadata: ObjectMeta {
                        name: Some(config.node_name.clone()),
                        labels: Some(labels.clone()),
                        ..ObjectMeta::default()
                    },
                    ..Node::default()
                };
                node.status = Some(self.status(&node).await);
                let made = self.api().create(&PostParams::default(), &node).await?;
                tracing::info!(node = config.node_name, "registered");
                self.event(&made, "Starting", "Starting kubelet.");
                self.write_status(made).await
            }
            Some(node) => {
                let known = node.metadata.labels.clone().unwrap_or_default();
                if labels.iter().any(|(key, value)| known.get(key) != Some(value)) {
                    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
                    self.api().patch(&config.node_name, &PatchParams::default(), &patch).await?;
                }
                self.event(&node, "Starting", "Starting kubelet.");
                // The network of a node that was here before is no news: without it the node would say for a moment
                // that it is not ready, and lose its pods' readiness.
                if let Some(pod_cidr) = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()) {
                    let pod_cidr = config.pod_cidr.clone().unwrap_or(pod_cidr);
                    if let Err(status) = self.shared.runtime.set_pod_cidr(&pod_cidr).await {
                        tracing::warn!(error = status.message(), "the runtime does not take the pod CIDR");
                    }
                }
                self.write_status(node).await
            }
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let arch = machine::architecture();
        let own = [
            (labels::HOSTNAME, self.shared.config.node_name.as_str()),
            (labels::OS, "linux"),
            (labels::ARCH, arch),
            (labels::BETA_OS, "linux"),
            (labels::BETA_ARCH, arch),
        ];
        let mut all: BTreeMap<_, _> = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        all.extend(self.shared.config.node_labels.clone());
        all
    }

    /// Writes the status if it has changed or was written long ago.
    async fn update(&mut self) -> Result<(), client::Error> {
        let name = api::ObjectKey { namespace: None, name: self.shared.config.node_name.clone() };
        // The state of a simulated node follows from what is heard of its runtime; asking costs more than it tells.
        let quiet =
            self.shared.config.host.is_simulated() && self.shared.runtime_heard() && self.was_heard && self.is_fresh();
        self.was_heard = self.shared.runtime_heard();
        match self.nodes.get(&name) {
            Some(_) if quiet => Ok(()),
            Some(node) => self.write_status(Node::clone(&node)).await,
            None if self.nodes.is_synced() => self.register().await,
            None => Ok(()),
        }
    }

    fn is_fresh(&self) -> bool {
        self.written_at.is_some_and(|at| self.shared.clock.now().duration_since(at) < REPORT)
    }

    async fn write_status(&mut self, node: Node) -> Result<(), client::Error> {
        let now = self.shared.clock.now();
        let status = self.status(&node).await;
        let before = node.status.clone().unwrap_or_default();
        if self.is_fresh() && same_but_heartbeats(&before, &status) {
            return Ok(());
        }
        let name = self.shared.config.node_name.clone();
        for condition in status.conditions.iter().flatten().filter(|condition| condition.type_ == "Ready") {
            let known = before.conditions.iter().flatten().find(|known| known.type_ == "Ready");
            if known.is_none_or(|known| known.status != condition.status) {
                let (reason, word) = if condition.status == "True" {
                    ("NodeReady", "NodeReady")
                } else {
                    ("NodeNotReady", "NodeNotReady")
                };
                self.event(&node, reason, &format!("Node {name} status is now: {word}"));
            }
        }
        let patch = Patch::Strategic(json!({"status": status}));
        self.api().patch_status(&name, &PatchParams::default(), &patch).await?;
        self.written_at = Some(now);
        Ok(())
    }

    /// Events about a node name it by its name, also where a uid is expected, as Kubernetes does.
    fn event(&self, node: &Node, reason: &str, message: &str) {
        let name = node.metadata.name.clone();
        let subject =
            ObjectReference { kind: Some("Node".into()), name: name.clone(), uid: name, ..ObjectReference::default() };
        self.shared.recorder.event(&subject, EventType::Normal, reason, message);
    }

    /// What the record should say.
    async fn status(&self, node: &Node) -> NodeStatus {
        let config = &self.shared.config;
        let capacity = capacity(&config.host, config.max_pods);
        self.shared.set_allocatable(capacity.clone());
        let wire: BTreeMap<_, _> = capacity.iter().map(|(name, amount)| (name.clone(), (*amount).into())).collect();
        let mut runtime = self.shared.runtime.runtime.clone();
        let version = runtime.version(VersionRequest { version: String::new() }).await.map(|v| v.into_inner());
        let version = version.map(|v| format!("{}://{}", v.runtime_name, v.runtime_version)).unwrap_or_default();
        let address = |kind: &str, address: &str| NodeAddress { type_: kind.to_owned(), address: address.to_owned() };
        let mut addresses: Vec<_> = config.node_ips.iter().map(|ip| address("InternalIP", ip)).collect();
        addresses.push(address("Hostname", &config.node_name));
        let port = config.server.as_ref().map(|server| i32::from(server.port));
        NodeStatus {
            addresses: Some(addresses),
            capacity: Some(wire.clone()),
            allocatable: Some(wire),
            conditions: Some(self.conditions(node).await),
            daemon_endpoints: port.map(|port| NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port }) }),
            node_info: Some(machine::info(&config.host, &config.node_name, KUBERNETES_VERSION, version)),
            images: Some(self.images().await),
            ..NodeStatus::default()
        }
    }

    async fn images(&self) -> Vec<ContainerImage> {
        let Ok(answer) = self.shared.runtime.images.clone().list_images(ListImagesRequest { filter: None }).await
        else {
            return Vec::new();
        };
        let mut images = answer.into_inner().images;
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        images.truncate(LISTED_IMAGES);
        let listed = |image: cri::v1::Image| {
            let mut names = image.repo_digests;
            names.extend(image.repo_tags);
            ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size).ok() }
        };
        images.into_iter().map(listed).collect()
    }

    async fn conditions(&self, node: &Node) -> Vec<NodeCondition> {
        let pressure = machine::pressure(&self.shared.config.host);
        let claim = |name, pressed, bad: (&'static str, &str), good: (&'static str, &str)| {
            let (reason, message) = if pressed { bad } else { good };
            Claim { name, holds: pressed, reason, message: message.to_owned() }
        };
        let claims = [
            claim(
                "MemoryPressure",
                pressure.memory,
                ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
                ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ),
            claim(
                "DiskPressure",
                pressure.disk,
                ("KubeletHasDiskPressure", "kubelet has disk pressure"),
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ),
            claim(
                "PIDPressure",
                pressure.pids,
                ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
                ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ),
            self.readiness().await,
        ];
        let now = whole_seconds(self.shared.clock.now());
        let before = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let settle = |claim: Claim| {
            let word = if claim.holds { "True" } else { "False" };
            let known = before.iter().find(|known| known.type_ == claim.name && known.status == word);
            let since = known.and_then(|known| known.last_transition_time.clone());
            NodeCondition {
                type_: claim.name.to_owned(),
                status: word.to_owned(),
                reason: Some(claim.reason.to_owned()),
                message: Some(claim.message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: since.or(Some(Time(now))),
            }
        };
        claims.into_iter().map(settle).collect()
    }

    async fn readiness(&self) -> Claim {
        let answer = self.shared.runtime.runtime.clone().status(StatusRequest { verbose: false }).await;
        let complaint = match answer.map(|answer| answer.into_inner().status.unwrap_or_default()) {
            Err(status) => Some(format!("container runtime is down: {}", status.message())),
            Ok(status) => {
                let failing = status.conditions.into_iter().filter(|condition| !condition.status);
                let texts: Vec<_> = failing.map(|c| format!("{}: {} {}", c.r#type, c.reason, c.message)).collect();
                (!texts.is_empty())
                    .then(|| format!("container runtime status check may not have completed yet: {}", texts.join(", ")))
            }
        };
        match complaint {
            None => Claim {
                name: "Ready",
                holds: true,
                reason: "KubeletReady",
                message: "kubelet is posting ready status".into(),
            },
            Some(message) => Claim { name: "Ready", holds: false, reason: "KubeletNotReady", message },
        }
    }
}

fn same_but_heartbeats(before: &NodeStatus, now: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let conditions = status.conditions.iter().flatten().cloned();
        let mut conditions: Vec<_> =
            conditions.map(|condition| NodeCondition { last_heartbeat_time: None, ..condition }).collect();
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        NodeStatus { conditions: Some(conditions), ..status.clone() }
    };
    let (mut before, now) = (still(before), still(now));
    // Conditions of others do not count.
    let ours = |condition: &NodeCondition| now.conditions.iter().flatten().any(|c| c.type_ == condition.type_);
    before.conditions = before.conditions.map(|all| all.into_iter().filter(ours).collect());
    before.addresses == now.addresses
        && before.conditions == now.conditions
        && before.capacity == now.capacity
        && before.node_info == now.node_info
        && before.images.unwrap_or_default() == now.images.unwrap_or_default()
}
