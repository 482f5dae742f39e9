//! Pods as every workload controller sees them: made from a template, and ranked for deletion.
//!
//! Entry points: [`from_template`] and [`rank_for_deletion`]. Invariant: both are pure; the same pods and the same
//! instant always give the same order (the uid breaks the last tie), so that a simulated run can be replayed.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub use api::pods::{is_active, is_terminal};
use api::well_known::annotations::POD_DELETION_COST as DELETION_COST;

/// A pod's name prefix is its owner's name and a dash, unless that alone would already be no valid name.
const LONGEST_GENERATED_BASE: usize = 253;

/// Makes the pod that a workload's template asks for, owned by that workload.
pub fn from_template(template: &PodTemplateSpec, namespace: &str, owner_name: &str, owner: OwnerReference) -> Pod {
    let wanted = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name: Some(name_prefix(owner_name)),
            labels: wanted.labels,
            annotations: wanted.annotations,
            finalizers: wanted.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

fn name_prefix(owner_name: &str) -> String {
    if owner_name.len() < LONGEST_GENERATED_BASE { format!("{owner_name}-") } else { owner_name.to_owned() }
}

/// Orders pods so that those to delete first come first.
///
/// The order is Kubernetes': unassigned before assigned, pending before unknown before running, not ready before
/// ready, cheap before dear, crowded nodes before empty ones, young before old (in powers of two), many restarts
/// before few.
pub fn rank_for_deletion(now: Timestamp, pods: &mut [Arc<Pod>]) {
    let mut crowd: BTreeMap<String, usize> = BTreeMap::new();
    for pod in pods.iter() {
        *crowd.entry(node_of(pod).to_owned()).or_default() += 1;
    }
    pods.sort_by_cached_key(|pod| Rank::of(now, pod, crowd[node_of(pod)]));
}

/// The sort key of one pod; smaller is deleted earlier.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    assigned: bool,
    phase: u8,
    ready: bool,
    cost: i32,
    crowd: Reverse<usize>,
    ready_for: Age,
    restarts: Reverse<(i32, i32)>,
    lived_for: Age,
    uid: String,
}

impl Rank {
    fn of(now: Timestamp, pod: &Pod, crowd: usize) -> Self {
        let ready_since = ready_since(pod);
        Self {
            assigned: !node_of(pod).is_empty(),
            phase: match api::pods::phase(pod) {
                "Pending" => 0,
                "Unknown" => 1,
                _ => 2,
            },
            ready: ready_since.is_some(),
            cost: deletion_cost(pod),
            crowd: Reverse(crowd),
            ready_for: ready_since.map_or(Age(None), |since| Age::since(now, since)),
            restarts: Reverse(restarts(pod)),
            lived_for: Age::since(now, pod.metadata.creation_timestamp.as_ref().map(|time| time.0)),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }
    }
}

/// How long something lasts, as a power of two of nanoseconds; an unknown beginning counts as younger than all.
#[derive(Debug, PartialEq, Eq)]
struct Age(Option<i64>);

impl Age {
    fn since(now: Timestamp, since: Option<Timestamp>) -> Self {
        Self(since.map(|since| {
            let nanos = now.duration_since(since).as_nanos();
            if nanos > 0 { i64::from(nanos.ilog2()) } else { -1 }
        }))
    }
}

impl Ord for Age {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.unwrap_or(-2).cmp(&other.0.unwrap_or(-2))
    }
}

impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The node a pod is bound to, or nothing.
pub fn node_of(pod: &Pod) -> &str {
    api::pods::node_name(pod).unwrap_or_default()
}

/// `None` if the pod is not ready, else the instant it became ready (`Some(None)` when it does not say).
pub fn ready_since(pod: &Pod) -> Option<Option<Timestamp>> {
    let ready = api::pods::condition(pod, "Ready")?;
    (ready.status == "True").then(|| ready.last_transition_time.as_ref().map(|time| time.0))
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
    cost.and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

/// The most restarts of a container, and of an init container that goes on running beside the others.
fn restarts(pod: &Pod) -> (i32, i32) {
    let Some(status) = &pod.status else { return (0, 0) };
    let most = |containers: &Option<Vec<k8s_openapi::api::core::v1::ContainerStatus>>| {
        containers.iter().flatten().map(|container| container.restart_count).max().unwrap_or_default()
    };
    (most(&status.container_statuses), most(&status.init_container_statuses))
}

#[cfg(test)]
pub(crate) mod fixtures {
    //! Small pods for the tables of this crate.
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodSpec, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    /// The instant all tables use as now.
    pub fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    /// Some seconds before [`now`].
    pub fn ago(seconds: i64) -> Time {
        Time(now() - jiff::SignedDuration::from_secs(seconds))
    }

    /// A running pod of that name in `default`, with the labels `app=web`.
    pub fn pod(name: &str, node: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some("default".into()),
                uid: Some(format!("uid-{name}")),
                resource_version: Some("1".into()),
                creation_timestamp: Some(ago(3600)),
                labels: Some([("app".to_owned(), "web".to_owned())].into()),
                ..Default::default()
            },
            spec: Some(PodSpec { node_name: (!node.is_empty()).then(|| node.into()), ..Default::default() }),
            status: Some(PodStatus { phase: Some("Running".into()), ..Default::default() }),
        }
    }

    /// The same pod, ready for so many seconds.
    pub fn ready(mut pod: Pod, seconds: i64) -> Pod {
        pod.status.get_or_insert_default().conditions = Some(vec![PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(ago(seconds)),
            ..Default::default()
        }]);
        pod
    }

    /// The same pod in another phase.
    pub fn in_phase(mut pod: Pod, phase: &str) -> Pod {
        pod.status.get_or_insert_default().phase = Some(phase.into());
        pod
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::*;
    use super::*;
    use k8s_openapi::api::core::v1::ContainerStatus;

    fn order(pods: Vec<Pod>) -> Vec<String> {
        let mut pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
        rank_for_deletion(now(), &mut pods);
        pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
    }

    #[test]
    fn each_criterion_decides_when_the_earlier_ones_are_equal() {
        let mut cheap = ready(pod("b-cheap", "n1"), 100);
        cheap.metadata.annotations = Some([(DELETION_COST.to_owned(), "-5".to_owned())].into());
        let mut restarted = ready(pod("b-restarted", "n1"), 100);
        restarted.status.as_mut().unwrap().container_statuses =
            Some(vec![ContainerStatus { restart_count: 3, ..Default::default() }]);
        let mut young = pod("b-young", "n1");
        young.metadata.creation_timestamp = Some(ago(5));
        let table = [
            ("unassigned first", vec![in_phase(pod("a", "n1"), "Pending"), pod("b", "")]),
            ("pending before running", vec![pod("a", "n1"), in_phase(pod("b", "n1"), "Pending")]),
            ("unknown before running", vec![pod("a", "n1"), in_phase(pod("b", "n1"), "Unknown")]),
            ("not ready before ready", vec![ready(pod("a", "n1"), 10), pod("b", "n1")]),
            ("cheap before dear", vec![ready(pod("a", "n1"), 1), cheap]),
            ("younger readiness first", vec![ready(pod("a", "n1"), 1000), ready(pod("b", "n1"), 10)]),
            ("more restarts first", vec![ready(pod("a", "n1"), 100), restarted]),
            ("younger pod first", vec![pod("a", "n1"), young]),
            ("same age by power of two: the uid", vec![ready(pod("b", "n1"), 100), ready(pod("c", "n1"), 99)]),
        ];
        for (what, pods) in table {
            assert!(order(pods)[0].starts_with('b'), "{what}");
        }
    }

    #[test]
    fn pods_that_share_a_node_go_before_one_that_is_alone() {
        let pods = vec![ready(pod("a", "n1"), 1), ready(pod("b", "n2"), 500), ready(pod("c", "n2"), 500)];
        assert_eq!(order(pods), ["b", "c", "a"]);
    }

    #[test]
    fn a_pod_from_a_template_has_its_labels_and_its_owner() {
        let template = PodTemplateSpec { metadata: Some(pod("x", "").metadata), spec: None };
        let owner = OwnerReference { name: "web".into(), uid: "u".into(), ..Default::default() };
        let made = from_template(&template, "default", "web", owner);
        assert_eq!(made.metadata.generate_name.as_deref(), Some("web-"));
        assert_eq!(made.metadata.name, None);
        assert_eq!(made.metadata.owner_references.unwrap()[0].uid, "u");
        assert_eq!(made.metadata.labels.unwrap()["app"], "web");
    }
}
