//! What a node's silence, or its own word, means for its conditions, its taints and its pods.
//!
//! Entry points: [`plan`] for one node, [`disruption`] for its zone. Both are pure; invariant: planning again after
//! the plan was carried out plans nothing but the next look.

use std::collections::BTreeMap;
use std::time::Duration;

use api::well_known::taints::{
    DISK_PRESSURE, MEMORY_PRESSURE, NETWORK_UNAVAILABLE, NO_EXECUTE, NO_SCHEDULE, NOT_READY, PID_PRESSURE, UNREACHABLE,
    UNSCHEDULABLE,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The conditions that the kubelet reports and that become unknown together with it.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Condition, the status that taints, the taint.
const SCHEDULING_TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", MEMORY_PRESSURE),
    ("DiskPressure", "True", DISK_PRESSURE),
    ("PIDPressure", "True", PID_PRESSURE),
    ("NetworkUnavailable", "True", NETWORK_UNAVAILABLE),
];

/// How long a node may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a node that has reported before (`--node-monitor-grace-period`).
    pub grace: Duration,
    /// For a node that has never reported (`--node-startup-grace-period`).
    pub startup: Duration,
}

/// What is known of one node.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// The node as the API server has it.
    pub node: &'a Node,
    /// When this process last saw it renew its lease or its conditions, by this process's clock.
    pub last_seen: Timestamp,
    /// Whether it was ready when this process last looked.
    pub was_ready: bool,
    /// Whether NoExecute taints may be put on, given the state of its zone.
    pub eviction: Eviction,
}

/// Whether a node that fails may lose its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// It may, now.
    Allowed,
    /// Too many nodes of the zone fail, or another was just tainted: leave the taints as they are.
    Held,
    /// All nodes everywhere fail, so it is rather this side that is cut off: take such taints away.
    Stopped,
}

/// What to write.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    /// All conditions of the node, if any changes.
    pub conditions: Option<Vec<NodeCondition>>,
    /// All taints of the node, if any changes.
    pub taints: Option<Vec<Taint>>,
    /// Whether the node is not ready, so that its pods must not be either.
    pub pods_not_ready: bool,
    /// Whether readiness was lost just now: an event says so.
    pub became_not_ready: bool,
    /// Whether the plan puts on a NoExecute taint that was not there: it counts against the zone's rate.
    pub evicts: bool,
    /// Whether the node is in a state for which a NoExecute taint is due, or still carries one.
    pub execution: bool,
    /// When to look again if nothing happens before.
    pub look_again: Option<Duration>,
}

impl Plan {
    /// Whether the node is not well, so that the state of its zone matters.
    pub fn fails(&self) -> bool {
        self.execution
    }
}

/// Whether the node has not been heard of for too long.
pub fn is_silent(now: Timestamp, patience: Patience, observed: &Observed) -> bool {
    now >= deadline(patience, observed)
}

/// Decides about one node.
pub fn plan(now: Timestamp, patience: Patience, observed: &Observed) -> Plan {
    let node = observed.node;
    let before = conditions_of(node);
    let deadline = deadline(patience, observed);
    let silent = is_silent(now, patience, observed);
    let after = if silent { silenced(now, node, before) } else { before.to_vec() };
    let ready = status_of(&after, "Ready").to_owned();
    let mut plan = Plan {
        pods_not_ready: silent || observed.was_ready && ready != "True",
        became_not_ready: observed.was_ready && ready != "True",
        look_again: (!silent).then(|| Duration::try_from(deadline.duration_since(now)).unwrap_or_default()),
        ..Plan::default()
    };
    let taints_before = taints_of(node);
    let taints = wanted_taints(now, node, &after, observed.eviction);
    let executes = |taints: &[Taint]| taints.iter().any(is_execution);
    plan.evicts = executes(&taints) && !executes(taints_before);
    plan.execution = execution_key(&ready).is_some() || executes(taints_before);
    plan.taints = (taints != taints_before).then_some(taints);
    plan.conditions = (after != before).then_some(after);
    plan
}

fn deadline(patience: Patience, observed: &Observed) -> Timestamp {
    let created = observed.node.metadata.creation_timestamp.as_ref().map_or(observed.last_seen, |time| time.0);
    let never_reported = status_of(conditions_of(observed.node), "Ready").is_empty();
    let (since, patience) =
        if never_reported { (created, patience.startup) } else { (observed.last_seen, patience.grace) };
    since + SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX)
}

/// The conditions of a node that no longer reports.
fn silenced(now: Timestamp, node: &Node, before: &[NodeCondition]) -> Vec<NodeCondition> {
    let mut after = before.to_vec();
    for name in REPORTED {
        match after.iter_mut().find(|condition| condition.type_ == name) {
            None => after.push(NodeCondition {
                type_: name.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            Some(_) => {}
        }
    }
    after
}

fn wanted_taints(now: Timestamp, node: &Node, conditions: &[NodeCondition], eviction: Eviction) -> Vec<Taint> {
    let mut wanted: Vec<(&str, &str)> = SCHEDULING_TAINTS
        .iter()
        .filter(|(condition, status, _)| status_of(conditions, condition) == *status)
        .map(|(_, _, key)| (*key, NO_SCHEDULE))
        .collect();
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let before = taints_of(node);
    let execution = execution_key(status_of(conditions, "Ready"));
    match (execution, eviction) {
        (Some(key), Eviction::Allowed) => wanted.push((key, NO_EXECUTE)),
        // A taint that changes its name only (not ready, then unreachable) is no new eviction.
        (Some(key), Eviction::Held) if before.iter().any(is_execution) => wanted.push((key, NO_EXECUTE)),
        (Some(_), Eviction::Held | Eviction::Stopped) | (None, _) => {}
    }
    let is_ours = |taint: &Taint| {
        is_execution(taint)
            || taint.effect == NO_SCHEDULE
                && (taint.key == UNSCHEDULABLE || SCHEDULING_TAINTS.iter().any(|(_, _, key)| *key == taint.key))
    };
    let mut after: Vec<Taint> =
        before.iter().filter(|taint| !is_ours(taint) || wanted_has(&wanted, taint)).cloned().collect();
    for (key, effect) in wanted {
        if !after.iter().any(|taint| taint.key == key && taint.effect == effect) {
            after.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    after
}

fn wanted_has(wanted: &[(&str, &str)], taint: &Taint) -> bool {
    wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect)
}

fn is_execution(taint: &Taint) -> bool {
    taint.effect == NO_EXECUTE && (taint.key == NOT_READY || taint.key == UNREACHABLE)
}

fn execution_key(ready: &str) -> Option<&'static str> {
    match ready {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    }
}

/// A node's conditions.
pub fn conditions_of(node: &Node) -> &[NodeCondition] {
    node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn taints_of(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// The status of a condition, or nothing if the node has none of that type.
pub fn status_of<'a>(conditions: &'a [NodeCondition], type_: &str) -> &'a str {
    conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| &condition.status)
}

/// Zones below this size stop evicting when most of their nodes fail; larger ones slow down.
const LARGE_ZONE: usize = 50;
/// The share of failing nodes from which a zone counts as partly disrupted.
const UNHEALTHY_ZONE_PERCENT: usize = 55;

/// How a zone fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disruption {
    /// Evict at the usual pace.
    None,
    /// Most nodes fail; in a large zone evict slowly.
    PartialLarge,
    /// Most nodes fail; in a small zone evict nothing.
    PartialSmall,
    /// All nodes of this zone fail, but others do not: evict at the usual pace.
    Full,
    /// All nodes of all zones fail.
    Everywhere,
}

impl Disruption {
    /// The pause between two nodes that lose their pods; none if no node may.
    pub fn pause(self) -> Option<Duration> {
        match self {
            Disruption::None | Disruption::Full => Some(Duration::from_secs(10)),
            Disruption::PartialLarge => Some(Duration::from_secs(100)),
            Disruption::PartialSmall | Disruption::Everywhere => None,
        }
    }
}

/// The zone that a node is in.
pub fn zone_of(node: &Node) -> String {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map_or("", String::as_str);
    format!("{}:\0:{}", label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone"))
}

/// How the zone fares, given each node's zone and whether it is ready.
pub fn disruption(zone: &str, nodes: &[(String, bool)]) -> Disruption {
    let mut zones: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (name, ready) in nodes {
        let (up, down) = zones.entry(name).or_default();
        *(if *ready { up } else { down }) += 1;
    }
    let lost = |(up, down): &(usize, usize)| *up == 0 && *down > 0;
    if !zones.is_empty() && zones.values().all(lost) {
        return Disruption::Everywhere;
    }
    let Some((up, down)) = zones.get(zone) else { return Disruption::None };
    match (lost(&(*up, *down)), *down > 2 && down * 100 >= (up + down) * UNHEALTHY_ZONE_PERCENT) {
        (true, _) => Disruption::Full,
        (false, true) if up + down > LARGE_ZONE => Disruption::PartialLarge,
        (false, true) => Disruption::PartialSmall,
        (false, false) => Disruption::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::fixtures::{ago, now};
    use k8s_openapi::api::core::v1::{NodeSpec, NodeStatus};

    const PATIENCE: Patience = Patience { grace: Duration::from_secs(50), startup: Duration::from_secs(60) };

    fn node(ready: Option<&str>, created_ago: i64) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some("n".into());
        node.metadata.creation_timestamp = Some(ago(created_ago));
        node.status = Some(NodeStatus {
            conditions: ready.map(|status| {
                vec![NodeCondition { type_: "Ready".into(), status: status.into(), ..Default::default() }]
            }),
            ..Default::default()
        });
        node
    }

    fn observed(node: &Node, silent_for: i64, eviction: Eviction) -> Observed<'_> {
        Observed {
            node,
            last_seen: ago(silent_for).0,
            was_ready: status_of(conditions_of(node), "Ready") == "True",
            eviction,
        }
    }

    fn keys(plan: &Plan) -> Vec<String> {
        plan.taints
            .iter()
            .flatten()
            .map(|taint| format!("{}:{}", taint.key.rsplit('/').next().unwrap(), taint.effect))
            .collect()
    }

    fn carried_out(mut node: Node, plan: &Plan) -> Node {
        if let Some(conditions) = &plan.conditions {
            node.status.get_or_insert_default().conditions = Some(conditions.clone());
        }
        if let Some(taints) = &plan.taints {
            node.spec.get_or_insert_with(NodeSpec::default).taints = Some(taints.clone());
        }
        node
    }

    #[test]
    fn silence_and_words_become_conditions_and_taints() {
        type Case = (&'static str, Node, i64, Eviction, &'static [&'static str], &'static str, bool);
        let table: [Case; 7] = [
            ("ready and talking", node(Some("True"), 900), 10, Eviction::Allowed, &[], "True", false),
            ("new and silent", node(None, 59), 59, Eviction::Allowed, &[], "", false),
            (
                "never spoke",
                node(None, 60),
                60,
                Eviction::Allowed,
                &["unreachable:NoSchedule", "unreachable:NoExecute"],
                "Unknown",
                false,
            ),
            (
                "fell silent",
                node(Some("True"), 900),
                50,
                Eviction::Allowed,
                &["unreachable:NoSchedule", "unreachable:NoExecute"],
                "Unknown",
                true,
            ),
            (
                "says not ready",
                node(Some("False"), 900),
                10,
                Eviction::Allowed,
                &["not-ready:NoSchedule", "not-ready:NoExecute"],
                "False",
                false,
            ),
            ("held back", node(Some("True"), 900), 50, Eviction::Held, &["unreachable:NoSchedule"], "Unknown", true),
            (
                "we are cut off",
                node(Some("True"), 900),
                50,
                Eviction::Stopped,
                &["unreachable:NoSchedule"],
                "Unknown",
                true,
            ),
        ];
        for (what, node, silent_for, eviction, taints, ready, became) in table {
            let plan = plan(now(), PATIENCE, &observed(&node, silent_for, eviction));
            assert_eq!(keys(&plan), taints, "{what}");
            let after = carried_out(node, &plan);
            assert_eq!(status_of(conditions_of(&after), "Ready"), ready, "{what}");
            assert_eq!(plan.became_not_ready, became, "{what}");
            let again = super::plan(now(), PATIENCE, &observed(&after, silent_for, eviction));
            assert_eq!((again.conditions, again.taints), (None, None), "{what}: again");
        }
    }

    #[test]
    fn the_next_look_is_when_the_lease_runs_out() {
        let node = node(Some("True"), 900);
        let plan = plan(now(), PATIENCE, &observed(&node, 20, Eviction::Allowed));
        assert_eq!(plan.look_again, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_node_that_is_back_loses_its_taints_and_keeps_those_of_others() {
        let silent = node(Some("True"), 900);
        let mut silent = carried_out(silent.clone(), &plan(now(), PATIENCE, &observed(&silent, 50, Eviction::Allowed)));
        let foreign = Taint { key: "dedicated".into(), effect: NO_SCHEDULE.into(), ..Default::default() };
        silent.spec.as_mut().unwrap().taints.as_mut().unwrap().push(foreign.clone());
        for condition in silent.status.as_mut().unwrap().conditions.as_mut().unwrap() {
            condition.status = if condition.type_ == "Ready" { "True".into() } else { "False".into() };
        }
        let plan = plan(now(), PATIENCE, &observed(&silent, 1, Eviction::Allowed));
        assert_eq!(plan.taints, Some(vec![foreign]));
        assert!(!plan.pods_not_ready);
    }

    #[test]
    fn stopped_evictions_take_the_taint_away_again() {
        let first = node(Some("True"), 900);
        let tainted = carried_out(first.clone(), &plan(now(), PATIENCE, &observed(&first, 50, Eviction::Allowed)));
        let plan = plan(now(), PATIENCE, &observed(&tainted, 50, Eviction::Stopped));
        assert_eq!(keys(&plan), ["unreachable:NoSchedule"]);
    }

    #[test]
    fn zones_are_judged_by_the_share_of_failing_nodes() {
        let zone = |name: &str, up: usize, down: usize| {
            let of = |ready: bool, n: usize| std::iter::repeat_n((name.to_owned(), ready), n);
            of(true, up).chain(of(false, down)).collect::<Vec<_>>()
        };
        let table = [
            (zone("a", 1, 1), Disruption::None),
            (zone("a", 0, 1), Disruption::Everywhere),
            ([zone("a", 0, 1), zone("b", 1, 0)].concat(), Disruption::Full),
            (zone("a", 2, 3), Disruption::PartialSmall),
            (zone("a", 20, 40), Disruption::PartialLarge),
            (zone("b", 1, 0), Disruption::None),
        ];
        for (nodes, expected) in table {
            assert_eq!(disruption("a", &nodes), expected, "{nodes:?}");
        }
    }
}
