//! Whether, and when, the NoExecute taints of a node drive a pod away.
//!
//! Entry point: [`plan`]. It is pure and stateless: the time a pod may stay begins when the taint was added (or the
//! pod was made, if that is later), so a restart of this process neither prolongs nor shortens it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Taint, Toleration};

use api::well_known::taints::NO_EXECUTE;

use crate::pods;

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// It stays.
    Stay,
    /// It goes at that instant, unless something changes before.
    EvictAt(Timestamp),
    /// It goes now.
    Evict,
}

/// Decides about one pod, given all taints of its node.
pub fn plan(now: Timestamp, pod: &Pod, taints: &[Taint]) -> Plan {
    if !pods::is_active(pod) {
        return Plan::Stay;
    }
    let tolerations = api::pods::tolerations(pod);
    let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let mut leave: Option<Timestamp> = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let Some(seconds) = tolerated_for(tolerations, taint) else { return Plan::Evict };
        let Some(seconds) = seconds else { continue };
        let begin = taint.time_added.as_ref().map_or(created, |time| time.0.max(created));
        let end = begin.checked_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX);
        leave = Some(leave.map_or(end, |earliest| earliest.min(end)));
    }
    match leave {
        None => Plan::Stay,
        Some(at) if at <= now => Plan::Evict,
        Some(at) => Plan::EvictAt(at),
    }
}

/// What the first toleration that fits says: `None` if there is none, `Some(None)` if for ever, else so many seconds.
fn tolerated_for(tolerations: &[Toleration], taint: &Taint) -> Option<Option<i64>> {
    tolerations
        .iter()
        .find(|toleration| api::pods::toleration_covers(toleration, taint))
        .map(|toleration| toleration.toleration_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::fixtures::{ago, now, pod};

    fn taint(key: &str, added_ago: i64) -> Taint {
        Taint { key: key.into(), effect: "NoExecute".into(), time_added: Some(ago(added_ago)), value: None }
    }

    fn tolerating(key: &str, seconds: Option<i64>) -> Toleration {
        Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            toleration_seconds: seconds,
            ..Default::default()
        }
    }

    #[test]
    fn tolerations_decide_when_a_pod_goes() {
        let at = |seconds: i64| Plan::EvictAt(now() + SignedDuration::from_secs(seconds));
        let soft = Taint { effect: "NoSchedule".into(), ..taint("a", 10) };
        let table = [
            ("no taint", vec![], vec![], Plan::Stay),
            ("not an executing taint", vec![soft], vec![], Plan::Stay),
            ("not tolerated", vec![taint("a", 10)], vec![tolerating("b", None)], Plan::Evict),
            ("tolerated for ever", vec![taint("a", 10)], vec![tolerating("a", None)], Plan::Stay),
            ("tolerated a while", vec![taint("a", 10)], vec![tolerating("a", Some(300))], at(290)),
            ("the while is over", vec![taint("a", 300)], vec![tolerating("a", Some(300))], Plan::Evict),
            ("zero", vec![taint("a", 0)], vec![tolerating("a", Some(0))], Plan::Evict),
            (
                "the shortest of two",
                vec![taint("a", 10), taint("b", 10)],
                vec![tolerating("a", Some(300)), tolerating("b", Some(60))],
                at(50),
            ),
            (
                "one of two not tolerated",
                vec![taint("a", 10), taint("b", 10)],
                vec![tolerating("a", Some(300))],
                Plan::Evict,
            ),
            (
                "everything",
                vec![taint("a", 10)],
                vec![Toleration { operator: Some("Exists".into()), ..Default::default() }],
                Plan::Stay,
            ),
        ];
        for (what, taints, tolerations, expected) in table {
            let mut pod = pod("p", "n");
            pod.spec.as_mut().unwrap().tolerations = Some(tolerations);
            assert_eq!(plan(now(), &pod, &taints), expected, "{what}");
        }
    }

    #[test]
    fn a_pod_younger_than_the_taint_gets_its_whole_time() {
        let mut pod = pod("p", "n");
        pod.metadata.creation_timestamp = Some(ago(5));
        pod.spec.as_mut().unwrap().tolerations = Some(vec![tolerating("a", Some(60))]);
        assert_eq!(plan(now(), &pod, &[taint("a", 500)]), Plan::EvictAt(now() + SignedDuration::from_secs(55)));
    }

    #[test]
    fn after_the_eviction_nothing_is_planned() {
        let mut gone = pod("p", "n");
        gone.metadata.deletion_timestamp = Some(ago(0));
        assert_eq!(plan(now(), &gone, &[taint("a", 10)]), Plan::Stay);
    }
}
