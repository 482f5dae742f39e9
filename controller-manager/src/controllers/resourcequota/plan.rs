//! What a quota's status shall say, given what its namespace holds. Entry point: [`plan`]; [`counted`] tells what has to be counted
//! for it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::Quantity;
use api::pods::Resources;
use api::quota::Subject;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};

/// What a namespace holds.
#[derive(Debug, Default)]
pub struct Content {
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// Its services.
    pub services: Vec<Arc<Service>>,
    /// Its claims.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// How many there are of other kinds, by the quota's own names for them; kinds that nobody knows are not there.
    pub counts: BTreeMap<String, i64>,
}

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The new status, if it differs.
    pub status: Option<ResourceQuotaStatus>,
    /// Whether something is used less than the status says now.
    pub gives_back: bool,
    /// When a pod ends to count because its grace has passed.
    pub look_again: Option<Duration>,
}

/// The resources that are counted by number only: of kinds other than pods, services and claims.
pub fn counted(quota: &ResourceQuota) -> Vec<String> {
    let (pod, service, claim) = (Pod::default(), Service::default(), PersistentVolumeClaim::default());
    let typed = [Subject::Pod(&pod), Subject::Service(&service), Subject::Claim(&claim)];
    let hard = hard(quota);
    let others = hard.0.into_keys().filter(|resource| !typed.iter().any(|subject| subject.counts_for(resource)));
    others.collect()
}

/// Decides.
pub fn plan(now: Timestamp, quota: &ResourceQuota, content: &Content) -> Plan {
    let hard = hard(quota);
    let before = quota.status.clone().unwrap_or_default();
    let used = used(now, quota, &hard, content);
    let was = Resources::from_wire(before.used.as_ref());
    let same = before.hard.is_some()
        && before.used.is_some()
        && Resources::from_wire(before.hard.as_ref()) == hard
        && was == used;
    Plan {
        gives_back: used.0.iter().any(|(resource, amount)| *amount < was.get(resource)),
        status: (!same).then(|| ResourceQuotaStatus { hard: Some(hard.to_wire()), used: Some(used.to_wire()) }),
        look_again: content.pods.iter().filter_map(|pod| grace_left(now, pod)).min(),
    }
}

fn hard(quota: &ResourceQuota) -> Resources {
    Resources::from_wire(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()))
}

fn used(now: Timestamp, quota: &ResourceQuota, hard: &Resources, content: &Content) -> Resources {
    let names: BTreeSet<String> = hard.0.keys().cloned().collect();
    let pods = content.pods.iter().map(|pod| Subject::Pod(pod));
    let services = content.services.iter().map(|service| Subject::Service(service));
    let claims = content.claims.iter().map(|claim| Subject::Claim(claim));
    let mut used = known(quota, &names);
    for subject in pods.chain(services).chain(claims).filter(|subject| subject.in_scopes(quota)) {
        let usage = subject.usage(now);
        for resource in subject.tracked(&names) {
            if let Some(amount) = usage.0.get(&resource) {
                *used.0.entry(resource).or_default() += *amount;
            }
        }
    }
    // No scope holds for other kinds.
    let scoped = quota.spec.as_ref().is_some_and(|spec| {
        spec.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty()) || spec.scope_selector.is_some()
    });
    for (resource, count) in content.counts.iter().filter(|(resource, _)| names.contains(*resource)) {
        used.0.insert(resource.clone(), Quantity::new(if scoped { 0 } else { *count }));
    }
    used
}

/// Nothing used of what is counted, and what the status says of resources that nobody counts.
fn known(quota: &ResourceQuota, names: &BTreeSet<String>) -> Resources {
    let (pod, service, claim) = (Pod::default(), Service::default(), PersistentVolumeClaim::default());
    let typed = [Subject::Pod(&pod), Subject::Service(&service), Subject::Claim(&claim)];
    let before = Resources::from_wire(quota.status.as_ref().and_then(|status| status.used.as_ref()));
    let mut used = Resources::default();
    for resource in names {
        if typed.iter().any(|subject| subject.counts_for(resource)) {
            used.0.insert(resource.clone(), Quantity::ZERO);
        } else if let Some(amount) = before.0.get(resource) {
            used.0.insert(resource.clone(), *amount);
        }
    }
    used
}

/// How long a deleted pod still counts.
fn grace_left(now: Timestamp, pod: &Pod) -> Option<Duration> {
    let (deleted, grace) = pod.metadata.deletion_timestamp.as_ref().zip(pod.metadata.deletion_grace_period_seconds)?;
    let left = (deleted.0 + SignedDuration::from_secs(grace)).duration_since(now);
    let left = Duration::try_from(left).ok()?;
    // A moment later, when it is over for sure.
    Some(left + Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T00:01:00Z".parse().expect("a time")
    }

    fn quota(spec: Value, status: Value) -> ResourceQuota {
        serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": spec, "status": status})).expect("a quota")
    }

    fn content() -> Content {
        let pod = |name: &str, phase: &str, resources: Value| -> Arc<Pod> {
            let spec = json!({"containers": [{"name": "c", "resources": resources}]});
            let pod = json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": phase}});
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        Content {
            pods: vec![
                pod("a", "Running", json!({"requests": {"cpu": "600m"}})),
                pod("b", "Pending", json!({})),
                pod("c", "Succeeded", json!({"requests": {"cpu": "9"}})),
            ],
            counts: [("count/configmaps".to_owned(), 3)].into(),
            ..Content::default()
        }
    }

    #[test]
    fn what_is_there_is_counted_and_then_left_alone() {
        let hard =
            json!({"pods": "5", "requests.cpu": "1", "count/configmaps": "4", "count/pods": "9", "example.org/x": "1"});
        let mut quota = quota(json!({"hard": hard}), json!({}));
        let first = plan(now(), &quota, &content());
        let status = first.status.expect("a status");
        let used = json!({"pods": "2", "requests.cpu": "600m", "count/configmaps": "3", "count/pods": "3"});
        assert_eq!((json!(status.used), json!(status.hard), first.gives_back), (used, hard, false));
        quota.status = Some(status);
        assert_eq!(plan(now(), &quota, &content()), Plan::default());
    }

    #[test]
    fn scopes_and_less_than_before() {
        let status =
            json!({"hard": {"pods": "5", "count/configmaps": "4"}, "used": {"pods": "4", "count/configmaps": "0"}});
        let quota = quota(json!({"hard": {"pods": "5", "count/configmaps": "4"}, "scopes": ["BestEffort"]}), status);
        let plan = plan(now(), &quota, &content());
        assert!(plan.gives_back);
        assert_eq!(json!(plan.status.expect("a status").used), json!({"pods": "1", "count/configmaps": "0"}));
    }

    #[test]
    fn pods_that_go_are_looked_at_again() {
        let meta = json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:50Z", "deletionGracePeriodSeconds": 30});
        let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": {"containers": []}})).expect("a pod");
        let content = Content { pods: vec![Arc::new(pod)], ..Content::default() };
        let quota = quota(json!({"hard": {"pods": "1"}}), json!({}));
        assert_eq!(plan(now(), &quota, &content).look_again, Some(Duration::from_millis(20_001)));
        let later = now() + SignedDuration::from_secs(21);
        let after = plan(later, &quota, &content);
        assert_eq!((json!(after.status.expect("a status").used), after.look_again), (json!({"pods": "0"}), None));
    }

    #[test]
    fn only_other_kinds_are_counted_by_number() {
        let quota =
            quota(json!({"hard": {"pods": "1", "secrets": "1", "services": "1", "count/jobs.batch": "1"}}), json!({}));
        assert_eq!(counted(&quota), ["count/jobs.batch", "secrets"]);
    }
}
