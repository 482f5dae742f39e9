//! One decision: where a pod goes, or why it goes nowhere.
//!
//! Entry point: [`schedule`]. Pure: the same pod, cluster, start and tie give the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::node_info::{NodeInfo, PodInfo};
use crate::plugins::{Cycle, Plugin, Reason, Verdict};
use crate::snapshot::Snapshot;

/// The table of plugins with the weights of their scores.
pub type Plugins<'a> = &'a [(&'a dyn Plugin, i64)];

/// Below so many nodes all of them are looked at.
const ALWAYS_LOOK_AT: usize = 100;
const LEAST_PERCENT: usize = 5;

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Place {
        /// Its name.
        node: String,
        /// How many nodes were looked at; the next decision starts behind them.
        looked_at: usize,
    },
    /// Nowhere.
    Unschedulable(Diagnosis),
}

/// Why a node was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// By which plugin.
    pub plugin: &'static str,
    /// In words.
    pub reasons: Vec<Reason>,
    /// Whether it would help if pods left the node.
    pub preemption_may_help: bool,
}

/// Why a pod goes nowhere: the rejection of every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// By the name of the node.
    pub rejections: BTreeMap<String, Rejection>,
}

impl Diagnosis {
    /// The plugins that rejected any node.
    pub fn plugins(&self) -> BTreeSet<&'static str> {
        self.rejections.values().map(|rejection| rejection.plugin).collect()
    }

    /// In upstream's words, for the event and the condition; `preemption` is what preemption had to say.
    pub fn message(&self, preemption: &str) -> String {
        if self.rejections.is_empty() {
            return "no nodes available to schedule pods".to_owned();
        }
        let reasons = self.rejections.values().flat_map(|rejection| rejection.reasons.iter().cloned());
        let message = summarize(self.rejections.len(), reasons);
        if preemption.is_empty() { message } else { format!("{message} {preemption}") }
    }
}

/// `0/3 nodes are available: 1 this, 2 that.`
pub(crate) fn summarize(nodes: usize, reasons: impl Iterator<Item = Reason>) -> String {
    let mut counts: BTreeMap<Reason, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut lines: Vec<_> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    lines.sort();
    format!("0/{nodes} nodes are available: {}.", lines.join(", "))
}

/// Decides where the pod goes. Looking starts at the node at `start` (so that large clusters fill evenly although not
/// all nodes are looked at); `tie` chooses among equally good nodes.
pub fn schedule(plugins: Plugins<'_>, snapshot: &Snapshot, pod: &PodInfo, start: usize, tie: u64) -> Decision {
    let cycle = Cycle::new(pod, snapshot);
    let nodes = snapshot.nodes();
    if let Some(node) = nominated_node(pod).and_then(|name| snapshot.node(name))
        && check(plugins, &cycle, node).is_ok()
    {
        return Decision::Place { node: node.name.clone(), looked_at: 0 };
    }
    let wanted = enough(nodes.len());
    let (mut feasible, mut rejections, mut looked_at) = (Vec::new(), BTreeMap::new(), 0);
    for offset in 0..nodes.len() {
        let node = &nodes[(start + offset) % nodes.len()];
        looked_at += 1;
        match check(plugins, &cycle, node) {
            Ok(()) => feasible.push(node),
            Err(rejection) => {
                rejections.insert(node.name.clone(), rejection);
            }
        }
        if feasible.len() >= wanted {
            break;
        }
    }
    match best(plugins, &cycle, &feasible, tie) {
        Some(node) => Decision::Place { node: node.name.clone(), looked_at },
        None => Decision::Unschedulable(Diagnosis { rejections }),
    }
}

/// Whether the node will do, also if the pods that wait for it come.
pub fn check(plugins: Plugins<'_>, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Rejection> {
    let mut waiting = cycle.snapshot.nominated(&node.name, cycle.pod).peekable();
    if waiting.peek().is_some() {
        let mut fuller = node.clone();
        waiting.for_each(|pod| fuller.add(pod.clone()));
        filter(plugins, cycle, &fuller)?;
    }
    filter(plugins, cycle, node)
}

/// Whether the node will do as it is.
pub fn filter(plugins: Plugins<'_>, cycle: &Cycle<'_>, node: &NodeInfo) -> Result<(), Rejection> {
    for (plugin, _) in plugins {
        match plugin.filter(cycle, node) {
            Verdict::Fits => {}
            Verdict::Unfit { reasons, preemption_may_help } => {
                return Err(Rejection { plugin: plugin.name(), reasons, preemption_may_help });
            }
        }
    }
    Ok(())
}

fn best<'a>(
    plugins: Plugins<'_>,
    cycle: &Cycle<'_>,
    nodes: &[&'a Arc<NodeInfo>],
    tie: u64,
) -> Option<&'a Arc<NodeInfo>> {
    if nodes.len() < 2 {
        return nodes.first().copied();
    }
    let mut totals = vec![0; nodes.len()];
    for (plugin, weight) in plugins {
        for (total, score) in totals.iter_mut().zip(plugin.score(cycle, nodes).into_iter().flatten()) {
            *total += weight * score;
        }
    }
    let most = totals.iter().copied().max()?;
    let mut winners: Vec<_> = nodes.iter().zip(&totals).filter(|(_, total)| **total == most).collect();
    winners.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let chosen = usize::try_from(tie % winners.len() as u64).unwrap_or_default();
    winners.get(chosen).map(|(node, _)| **node)
}

/// How many feasible nodes are enough to choose from: all of up to 100, then a share that shrinks to 5 %.
fn enough(nodes: usize) -> usize {
    if nodes <= ALWAYS_LOOK_AT {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(LEAST_PERCENT);
    (nodes * percent / 100).max(ALWAYS_LOOK_AT)
}

fn nominated_node(pod: &PodInfo) -> Option<&str> {
    pod.pod.status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NodeFixture, node, pod};
    use crate::plugins::PLUGINS;
    use serde_json::json;

    fn cluster(nodes: Vec<NodeFixture>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for fixture in nodes {
            let node = fixture.build();
            let mut info = NodeInfo::unseen(node.metadata.name.as_deref().expect("a name"));
            info.set_node(node);
            snapshot.put(Arc::new(info));
        }
        snapshot
    }

    fn message(snapshot: &Snapshot, pod: &PodInfo) -> String {
        match schedule(PLUGINS, snapshot, pod, 0, 0) {
            Decision::Place { node, .. } => node,
            Decision::Unschedulable(diagnosis) => diagnosis.message(""),
        }
    }

    #[test]
    fn rejections_read_as_upstreams() {
        let three = || {
            cluster(vec![
                node("a").taint("dedicated", "db", "NoSchedule"),
                node("b").allocatable("cpu", "1"),
                node("c").allocatable("cpu", "1").allocatable("memory", "1Mi"),
            ])
        };
        let big = pod("p").cpu("2").spec(
            "initContainers",
            json!([{"name": "i", "resources":
            {"requests": {"memory": "1Gi"}}}]),
        );
        assert_eq!(
            message(&three(), &big.info()),
            "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint {dedicated: db}, 2 Insufficient cpu."
        );
        let table = [
            (cluster(vec![]), pod("p"), "no nodes available to schedule pods"),
            (cluster(vec![node("a").cordoned()]), pod("p"), "0/1 nodes are available: 1 node(s) were unschedulable."),
            (
                cluster(vec![node("a")]),
                pod("p").spec("nodeSelector", json!({"x": "y"})),
                "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            ),
            (cluster(vec![node("a").allocatable("pods", "0")]), pod("p"), "0/1 nodes are available: 1 Too many pods."),
            (three(), pod("p").cpu("500m").spec("tolerations", json!([{"operator": "Exists"}])), "a"),
        ];
        for (snapshot, pod, expected) in table {
            assert_eq!(message(&snapshot, &pod.info()), expected);
        }
    }

    #[test]
    fn ports_of_a_node_are_taken_once() {
        let mut snapshot = cluster(vec![node("a"), node("b")]);
        for expected in ["a", "b"] {
            let info = pod(expected).port(80).info();
            assert_eq!(message(&snapshot, &info), expected);
            snapshot.change(expected, |n| n.add(Arc::new(info)));
        }
        assert_eq!(
            message(&snapshot, &pod("c").port(80).info()),
            "0/2 nodes are available: 2 node(s) didn't have free ports for the requested pod ports."
        );
    }

    #[test]
    fn pods_of_one_controller_are_spread() {
        let mut snapshot = cluster(vec![node("a"), node("b").allocatable("cpu", "64"), node("c")]);
        for i in 0..9u64 {
            let info = pod(&format!("p{i}")).owner("rc").info();
            let Decision::Place { node, .. } = schedule(PLUGINS, &snapshot, &info, 0, i) else { panic!("fits") };
            snapshot.change(&node, |n| n.add(Arc::new(info)));
        }
        for node in snapshot.nodes() {
            assert_eq!(node.pods.len(), 3, "{}", node.name);
        }
    }

    #[test]
    fn topology_spread_and_anti_affinity_reject() {
        let mut snapshot = cluster(vec![node("a").label("zone", "1"), node("b").label("zone", "2"), node("c")]);
        let selector = json!({"matchLabels": {"app": "x"}});
        let spread = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector}]);
        let alone = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}]}});
        snapshot.change("a", |n| n.add(Arc::new(pod("x").label("app", "x").info())));
        let spreading = pod("p").label("app", "x").spec("topologySpreadConstraints", spread).info();
        assert_eq!(message(&snapshot, &spreading), "b");
        snapshot.change("b", |n| n.add(Arc::new(pod("y").label("app", "x").spec("affinity", alone).info())));
        snapshot.take("c");
        let near = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}]}});
        let joining = pod("q").label("app", "x").spec("affinity", near.clone()).info();
        assert_eq!(message(&snapshot, &joining), "a", "y refuses company on b");
        let stranger = pod("r")
            .spec(
                "affinity",
                json!({"podAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "none"}}}]}}),
            )
            .info();
        assert_eq!(
            message(&snapshot, &stranger),
            "0/2 nodes are available: 2 node(s) didn't match pod affinity rules."
        );
    }

    #[test]
    fn large_clusters_are_sampled() {
        assert_eq!((enough(50), enough(100), enough(1000), enough(5000), enough(10_000)), (50, 100, 420, 500, 500));
    }

    #[test]
    fn a_thousand_pods_on_fifty_nodes_stay_within_capacity() {
        let mut snapshot = cluster((0..50).map(|i| node(&format!("n{i:02}"))).collect());
        let (mut placed, mut start) = (0, 0);
        for i in 0..1000u64 {
            let info = pod(&format!("p{i}")).cpu("200m").owner("rc").info();
            if let Decision::Place { node, looked_at } = schedule(PLUGINS, &snapshot, &info, start, i * 7919) {
                start = (start + looked_at) % 50;
                placed += 1;
                snapshot.change(&node, |n| n.add(Arc::new(info)));
            }
        }
        assert_eq!(placed, 1000);
        assert!(snapshot.nodes().iter().all(|n| n.requested.cpu <= n.allocatable.cpu && n.pods.len() == 20));
    }
}
