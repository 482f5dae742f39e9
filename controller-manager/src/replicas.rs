//! Keeping so many pods of one template alive: the core that every replicating workload shares.
//!
//! Entry points: [`plan`] (who to adopt, release, create, delete) and [`count`] (what the status says). Both are pure.
//! Invariant: planning again after the plan was carried out plans nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

/// At most so many pods are created or deleted in one go; the rest follow in the next.
pub const BURST: usize = 500;

/// What a workload wants, whatever its kind.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The owner's uid, by which its pods know it.
    pub uid: String,
    /// Whether the owner is being deleted: it then neither adopts nor creates nor deletes.
    pub deleting: bool,
    /// How many pods there should be.
    pub replicas: usize,
    /// How long a pod must be ready to count as available.
    pub min_ready_seconds: i64,
    /// The labels a pod must carry to belong here. Empty selects nothing.
    pub selector: BTreeMap<String, String>,
    /// The labels of the template, for `fullyLabeledReplicas`.
    pub template_labels: BTreeMap<String, String>,
}

/// What to do so that the pods match the workload.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    /// Matching pods without a controller, to be made ours.
    pub adopt: Vec<Arc<Pod>>,
    /// Pods of ours that no longer match, to be let go.
    pub release: Vec<Arc<Pod>>,
    /// How many pods to create.
    pub create: usize,
    /// Pods to delete, the most dispensable first.
    pub delete: Vec<Arc<Pod>>,
    /// The pods that are ours once adoption and release are done, before creation and deletion.
    pub kept: Vec<Arc<Pod>>,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.adopt.is_empty() && self.release.is_empty() && self.create == 0 && self.delete.is_empty()
    }
}

/// Decides what to do, given all pods of the namespace that match the selector or are owned by the workload.
pub fn plan(now: Timestamp, workload: &Workload, pods: &[Arc<Pod>]) -> Plan {
    let mut plan = Plan::default();
    for pod in pods {
        match claim(workload, pod) {
            Claim::Keep => plan.kept.push(pod.clone()),
            Claim::Adopt => {
                plan.adopt.push(pod.clone());
                plan.kept.push(pod.clone());
            }
            Claim::Release => plan.release.push(pod.clone()),
            Claim::Ignore => {}
        }
    }
    plan.kept.retain(|pod| pods::is_active(pod));
    if workload.deleting {
        return plan;
    }
    let (have, want) = (plan.kept.len(), workload.replicas);
    if have < want {
        plan.create = (want - have).min(BURST);
    } else if have > want {
        let mut ranked = plan.kept.clone();
        if want > 0 {
            pods::rank_for_deletion(now, &mut ranked);
        }
        ranked.truncate((have - want).min(BURST));
        plan.delete = ranked;
    }
    plan
}

#[derive(Debug, PartialEq)]
enum Claim {
    Keep,
    Adopt,
    Release,
    Ignore,
}

fn claim(workload: &Workload, pod: &Pod) -> Claim {
    let matches = selects(&workload.selector, pod);
    match api::owners::controller_of(&pod.metadata) {
        Some(owner) if owner.uid == workload.uid => match (matches, workload.deleting || !pods::is_active(pod)) {
            (true, _) => Claim::Keep,
            (false, true) => Claim::Ignore,
            (false, false) => Claim::Release,
        },
        Some(_) => Claim::Ignore,
        None if matches && !workload.deleting && pods::is_active(pod) => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// Whether a selector of equalities selects the pod; an empty one selects nothing.
pub fn selects(selector: &BTreeMap<String, String>, pod: &Pod) -> bool {
    let carries =
        |labels: &BTreeMap<String, String>| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    !selector.is_empty() && pod.metadata.labels.as_ref().is_some_and(carries)
}

/// The figures of a workload's status, and when they next change by themselves.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Count {
    /// All pods that are ours.
    pub replicas: i32,
    /// Those that carry all labels of the template.
    pub fully_labeled: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that have been ready for long enough.
    pub available: i32,
    /// When the next ready pod becomes available.
    pub next_available: Option<std::time::Duration>,
}

/// Counts the pods for the status.
pub fn count<'a>(now: Timestamp, workload: &Workload, pods: impl IntoIterator<Item = &'a Arc<Pod>>) -> Count {
    let mut count = Count::default();
    for pod in pods {
        count.replicas += 1;
        let empty = BTreeMap::new();
        let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
        if workload.template_labels.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            count.fully_labeled += 1;
        }
        let Some(since) = pods::ready_since(pod) else { continue };
        count.ready += 1;
        let wait = available_in(now, workload.min_ready_seconds, since);
        if wait.is_zero() {
            count.available += 1;
        } else {
            count.next_available = Some(count.next_available.map_or(wait, |next| next.min(wait)));
        }
    }
    count
}

fn available_in(now: Timestamp, min_ready_seconds: i64, since: Option<Timestamp>) -> std::time::Duration {
    if min_ready_seconds <= 0 {
        return std::time::Duration::ZERO;
    }
    let since = since.unwrap_or(now);
    let left = SignedDuration::from_secs(min_ready_seconds) - now.duration_since(since);
    std::time::Duration::try_from(left).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::fixtures::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    fn workload(replicas: usize) -> Workload {
        let labels: BTreeMap<_, _> = [("app".to_owned(), "web".to_owned())].into();
        Workload {
            uid: "rc".into(),
            deleting: false,
            replicas,
            min_ready_seconds: 0,
            selector: labels.clone(),
            template_labels: labels,
        }
    }

    fn owned_by(mut pod: Pod, uid: &str) -> Pod {
        let owner = OwnerReference { uid: uid.into(), controller: Some(true), ..Default::default() };
        pod.metadata.owner_references = Some(vec![owner]);
        pod
    }

    fn unlabeled(mut pod: Pod) -> Pod {
        pod.metadata.labels = None;
        pod
    }

    fn leaving(mut pod: Pod) -> Pod {
        pod.metadata.deletion_timestamp = Some(ago(1));
        pod
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
    }

    #[test]
    fn claims_follow_ownership_and_labels() {
        let dying = Workload { deleting: true, ..workload(1) };
        let mine = || owned_by(pod("a", ""), "rc");
        let table = [
            ("mine and matching", workload(1), mine(), Claim::Keep),
            ("mine, not matching", workload(1), unlabeled(mine()), Claim::Release),
            ("mine, not matching, leaving", workload(1), leaving(unlabeled(mine())), Claim::Ignore),
            ("somebody else's", workload(1), owned_by(pod("a", ""), "other"), Claim::Ignore),
            ("an orphan", workload(1), pod("a", ""), Claim::Adopt),
            ("an orphan that has ended", workload(1), in_phase(pod("a", ""), "Failed"), Claim::Ignore),
            ("an orphan that is leaving", workload(1), leaving(pod("a", "")), Claim::Ignore),
            ("an orphan, we are dying", dying.clone(), pod("a", ""), Claim::Ignore),
            ("mine, not matching, we are dying", dying, unlabeled(mine()), Claim::Ignore),
        ];
        for (what, workload, pod, expected) in table {
            assert_eq!(claim(&workload, &pod), expected, "{what}");
        }
    }

    #[test]
    fn too_few_are_made_and_too_many_deleted() {
        let pods: Vec<_> = ["a", "b", "c"].iter().map(|name| Arc::new(owned_by(pod(name, "n"), "rc"))).collect();
        let table = [(3, 0, 0), (5, 2, 0), (1, 0, 2), (0, 0, 3), (2000, BURST, 0)];
        for (replicas, create, delete) in table {
            let plan = plan(now(), &workload(replicas), &pods);
            assert_eq!((plan.create, plan.delete.len()), (create, delete), "{replicas}");
        }
        let dying = Workload { deleting: true, ..workload(0) };
        assert!(plan(now(), &dying, &pods).is_empty());
    }

    #[test]
    fn ended_and_leaving_pods_are_replaced() {
        let pods = [owned_by(in_phase(pod("a", "n"), "Failed"), "rc"), leaving(owned_by(pod("b", "n"), "rc"))];
        let pods: Vec<_> = pods.into_iter().map(Arc::new).collect();
        assert_eq!(plan(now(), &workload(2), &pods).create, 2);
    }

    #[test]
    fn planning_after_the_plan_was_carried_out_plans_nothing() {
        for replicas in [0, 1, 2, 3, 4, 7] {
            let mut pods: Vec<_> = vec![
                owned_by(pod("a", "n1"), "rc"),
                pod("b", "n1"),
                unlabeled(owned_by(pod("c", "n2"), "rc")),
                owned_by(in_phase(pod("d", "n2"), "Succeeded"), "rc"),
                leaving(owned_by(pod("e", "n2"), "rc")),
            ];
            let wanted = workload(replicas);
            let shared: Vec<_> = pods.iter().cloned().map(Arc::new).collect();
            let first = plan(now(), &wanted, &shared);
            for pod in &mut pods {
                let name = pod.metadata.name.clone().unwrap();
                if names(&first.adopt).contains(&name.as_str()) {
                    *pod = owned_by(pod.clone(), "rc");
                }
                if names(&first.release).contains(&name.as_str()) {
                    pod.metadata.owner_references = None;
                }
                if names(&first.delete).contains(&name.as_str()) {
                    *pod = leaving(pod.clone());
                }
            }
            pods.extend((0..first.create).map(|i| owned_by(pod(&format!("new-{i}"), ""), "rc")));
            let shared: Vec<_> = pods.into_iter().map(Arc::new).collect();
            assert!(plan(now(), &wanted, &shared).is_empty(), "{replicas}");
        }
    }

    #[test]
    fn availability_waits_for_the_minimum() {
        let pods: Vec<_> = [ready(pod("a", "n"), 100), ready(pod("b", "n"), 4), unlabeled(pod("c", "n"))]
            .into_iter()
            .map(Arc::new)
            .collect();
        let patient = Workload { min_ready_seconds: 10, ..workload(3) };
        let count = count(now(), &patient, &pods);
        assert_eq!((count.replicas, count.fully_labeled, count.ready, count.available), (3, 2, 2, 1));
        assert_eq!(count.next_available, Some(std::time::Duration::from_secs(6)));
    }
}
