//! Which pods nobody will ever clean up: those of nodes that are gone, those that were never bound and are being
//! deleted, and ended ones beyond what a cluster wants to remember.
//!
//! Entry points: [`plan`] for one pod, [`surplus`] for the ended ones. Both are pure.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use crate::pods;

/// How long a node must be missing before its pods are given up: it may just be registering anew.
pub const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Somebody else looks after it.
    Keep,
    /// Its node is missing; look again at that instant.
    WaitUntil(Timestamp),
    /// Its node is missing for long enough: fail it, then delete it, if a live look confirms that the node is gone.
    Orphaned,
    /// It is being deleted and was never bound, so that no kubelet will finish the deletion.
    NeverBound,
}

/// Decides about one pod. `missing_since` is when its node was first seen to be missing; `None` if the node exists.
pub fn plan(now: Timestamp, pod: &Pod, missing_since: Option<Timestamp>) -> Plan {
    if pods::node_of(pod).is_empty() {
        return if pod.metadata.deletion_timestamp.is_some() { Plan::NeverBound } else { Plan::Keep };
    }
    match missing_since {
        None => Plan::Keep,
        Some(since) if now.duration_since(since) >= QUARANTINE => Plan::Orphaned,
        Some(since) => Plan::WaitUntil(since + QUARANTINE),
    }
}

/// The ended pods beyond the threshold, oldest first. A threshold of zero or less keeps all.
pub fn surplus(threshold: i64, ended: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let Ok(threshold) = usize::try_from(threshold) else { return Vec::new() };
    if threshold == 0 || ended.len() <= threshold {
        return Vec::new();
    }
    let mut oldest: Vec<_> = ended.to_vec();
    oldest.sort_by_cached_key(|pod| {
        let meta = &pod.metadata;
        (meta.creation_timestamp.as_ref().map(|time| time.0), meta.namespace.clone(), meta.name.clone())
    });
    oldest.truncate(ended.len() - threshold);
    oldest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::fixtures::{ago, in_phase, now, pod};

    #[test]
    fn pods_without_anybody_are_found() {
        let leaving = |mut pod: Pod| {
            pod.metadata.deletion_timestamp = Some(ago(1));
            pod
        };
        let table = [
            (pod("bound", "n"), None, Plan::Keep),
            (leaving(pod("bound and leaving", "n")), None, Plan::Keep),
            (pod("waiting", ""), None, Plan::Keep),
            (leaving(pod("never bound", "")), None, Plan::NeverBound),
            (pod("node just gone", "n"), Some(ago(10).0), Plan::WaitUntil(now() + SignedDuration::from_secs(30))),
            (pod("node long gone", "n"), Some(ago(40).0), Plan::Orphaned),
        ];
        for (pod, missing, expected) in table {
            assert_eq!(plan(now(), &pod, missing), expected, "{:?}", pod.metadata.name);
        }
    }

    #[test]
    fn the_oldest_ended_pods_go_and_then_no_more() {
        let ended: Vec<_> = (0..5)
            .map(|i| {
                let mut pod = in_phase(pod(&format!("p{i}"), "n"), "Succeeded");
                pod.metadata.creation_timestamp = Some(ago(100 - i));
                Arc::new(pod)
            })
            .collect();
        let first = surplus(3, &ended);
        assert_eq!(first, ended[..2]);
        assert!(surplus(3, &ended[2..]).is_empty());
        assert!(surplus(0, &ended).is_empty());
    }
}
