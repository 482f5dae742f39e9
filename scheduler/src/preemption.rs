//! Which pods of lower priority would have to go so that a pod fits, and from which node.
//!
//! Entry point: [`preempt`]. Pure; carrying it out is `bind`'s work. The criteria for the node are upstream's, without
//! disruption budgets: the least important victims, then the fewest, then the youngest.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::cycle::{Diagnosis, Plugins, filter, summarize};
use crate::node_info::{NodeInfo, PodInfo};
use crate::plugins::{Cycle, Reason};
use crate::snapshot::Snapshot;

const NOT_HELPFUL: Reason = Reason::Borrowed("Preemption is not helpful for scheduling");
const NO_VICTIMS: Reason = Reason::Borrowed("No preemption victims found for incoming pod");

/// What preemption can do for a pod.
#[derive(Clone, Debug)]
pub enum Preemption {
    /// The pod fits on the node when the victims are gone.
    Victims {
        /// The node.
        node: String,
        /// Who has to go.
        victims: Vec<Arc<PodInfo>>,
    },
    /// Nothing; why, in upstream's words.
    Nothing(String),
}

/// Looks for victims on the nodes whose rejection could be cured by pods leaving.
pub fn preempt(plugins: Plugins<'_>, snapshot: &Snapshot, pod: &PodInfo, diagnosis: &Diagnosis) -> Preemption {
    if diagnosis.rejections.is_empty() {
        return Preemption::Nothing(String::new());
    }
    let spec = pod.pod.spec.as_ref();
    if spec.and_then(|s| s.preemption_policy.as_deref()) == Some("Never") {
        return Preemption::Nothing("preemption: not eligible due to preemptionPolicy=Never.".to_owned());
    }
    if waits_for_victims(snapshot, pod) {
        let why = "preemption: not eligible due to a terminating pod on the nominated node.";
        return Preemption::Nothing(why.to_owned());
    }
    let (mut candidates, mut reasons) = (Vec::new(), Vec::new());
    for (name, rejection) in &diagnosis.rejections {
        match snapshot.node(name).filter(|_| rejection.preemption_may_help) {
            None => reasons.push(NOT_HELPFUL),
            Some(node) => match victims(plugins, snapshot, pod, node) {
                Some(victims) => candidates.push((rank(&victims), name, victims)),
                None => reasons.push(NO_VICTIMS),
            },
        }
    }
    match candidates.into_iter().min_by(|(a, x, _), (b, y, _)| (a, x).cmp(&(b, y))) {
        Some((_, node, victims)) => Preemption::Victims { node: node.clone(), victims },
        None => {
            Preemption::Nothing(format!("preemption: {}", summarize(diagnosis.rejections.len(), reasons.into_iter())))
        }
    }
}

/// Whether the pod has already displaced others, which are on their way out.
fn waits_for_victims(snapshot: &Snapshot, pod: &PodInfo) -> bool {
    let nominated = pod.pod.status.as_ref().and_then(|s| s.nominated_node_name.as_deref());
    let Some(node) = nominated.and_then(|name| snapshot.node(name)) else { return false };
    node.pods.values().any(|other| other.priority < pod.priority && api::pods::is_terminating(&other.pod))
}

/// The fewest pods of lower priority without which the pod fits; none if it does not fit even without all of them.
fn victims(plugins: Plugins<'_>, snapshot: &Snapshot, pod: &PodInfo, node: &NodeInfo) -> Option<Vec<Arc<PodInfo>>> {
    let mut lower: Vec<_> = node.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    let mut trial = node.clone();
    for other in &lower {
        trial.remove(&other.key);
    }
    // Rules about other pods look at the whole cluster, so they must see the trial in it.
    let alone = !looks_around(snapshot, pod);
    let fits = |trial: &NodeInfo| {
        if alone {
            return filter(plugins, &Cycle::new(pod, snapshot), trial).is_ok();
        }
        let cluster = snapshot.with(trial.clone());
        filter(plugins, &Cycle::new(pod, &cluster), trial).is_ok()
    };
    if !fits(&trial) {
        return None;
    }
    // The most important and the oldest are the first to be spared.
    lower.sort_by_key(|other| (Reverse(other.priority), started(other), other.key.clone()));
    let mut victims = Vec::new();
    for other in lower {
        trial.add(other.clone());
        if !fits(&trial) {
            trial.remove(&other.key);
            victims.push(other);
        }
    }
    Some(victims)
}

/// Whether any rule about other pods applies; otherwise a node can be judged without the rest of the cluster.
fn looks_around(snapshot: &Snapshot, pod: &PodInfo) -> bool {
    let spec = pod.pod.spec.as_ref();
    snapshot.has_refusing_pods()
        || spec.is_some_and(|spec| spec.affinity.is_some() || spec.topology_spread_constraints.is_some())
}

/// The smaller, the better a choice.
type Rank = (i32, i64, usize, Reverse<Option<k8s_openapi::jiff::Timestamp>>);

fn rank(victims: &[Arc<PodInfo>]) -> Rank {
    let highest = victims.iter().map(|v| v.priority).max().unwrap_or(i32::MIN);
    let sum = victims.iter().map(|v| i64::from(v.priority) - i64::from(i32::MIN)).sum();
    let most_important = victims.iter().filter(|v| v.priority == highest);
    (highest, sum, victims.len(), Reverse(most_important.filter_map(started).min()))
}

fn started(pod: impl AsRef<PodInfo>) -> Option<k8s_openapi::jiff::Timestamp> {
    let pod = &pod.as_ref().pod;
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    started.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycle::{Decision, schedule};
    use crate::fixtures::{PodFixture, node, pod};
    use crate::plugins::PLUGINS;

    fn cluster(pods: Vec<(&str, PodFixture)>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for name in ["a", "b"] {
            let mut info = NodeInfo::unseen(name);
            info.set_node(node(name).build());
            snapshot.put(Arc::new(info));
        }
        for (node, pod) in pods {
            snapshot.change(node, |n| n.add(Arc::new(pod.info())));
        }
        snapshot
    }

    fn attempt(snapshot: &Snapshot, pod: PodFixture) -> (String, Vec<String>) {
        let pod = pod.info();
        let Decision::Unschedulable(diagnosis) = schedule(PLUGINS, snapshot, &pod, 0, 0) else { panic!("it fits") };
        match preempt(PLUGINS, snapshot, &pod, &diagnosis) {
            Preemption::Victims { node, victims } => (node, victims.iter().map(|v| v.key.name.clone()).collect()),
            Preemption::Nothing(why) => (why, Vec::new()),
        }
    }

    #[test]
    fn the_least_important_and_the_fewest_go() {
        let snapshot = cluster(vec![
            ("a", pod("a-low").cpu("2").priority(1)),
            ("a", pod("a-high").cpu("2").priority(5)),
            ("b", pod("b-1").cpu("1").priority(1)),
            ("b", pod("b-2").cpu("1").priority(1)),
            ("b", pod("b-3").cpu("2").priority(9)),
        ]);
        let got = attempt(&snapshot, pod("p").cpu("2").priority(7));
        assert_eq!(got, ("a".to_owned(), vec!["a-low".to_owned()]));
        let got = attempt(&snapshot, pod("p").cpu("3").priority(7));
        assert_eq!(got, ("a".to_owned(), vec!["a-high".to_owned(), "a-low".to_owned()]));
    }

    #[test]
    fn nothing_to_gain_is_said_in_upstreams_words() {
        let snapshot = cluster(vec![("a", pod("x").cpu("4").priority(5)), ("b", pod("y").cpu("4"))]);
        let why = |text: &str| (text.to_owned(), Vec::<String>::new());
        assert_eq!(
            attempt(&snapshot, pod("p").cpu("2")),
            why("preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.")
        );
        assert_eq!(
            attempt(&snapshot, pod("p").cpu("20").priority(9)),
            why("preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.")
        );
        let never = pod("p").cpu("2").priority(9).spec("preemptionPolicy", "Never".into());
        assert_eq!(attempt(&snapshot, never), why("preemption: not eligible due to preemptionPolicy=Never."));
    }
}
