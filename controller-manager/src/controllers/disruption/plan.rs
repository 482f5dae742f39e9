//! The figures of a disruption budget. Entry point: [`plan`]. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::LabelSelector;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The condition of a pod that somebody is about to end.
pub const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// The condition of a budget.
const ALLOWED: &str = "DisruptionAllowed";
/// A pod that was evicted is gone after so long, or it was not evicted.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);

/// What to do.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The new status, if it differs.
    pub status: Option<PodDisruptionBudgetStatus>,
    /// When the next eviction has to have happened.
    pub recheck: Option<Duration>,
    /// Pods that were evicted and are still there.
    pub stuck: Vec<Arc<Pod>>,
}

/// Whether a budget is about a pod. No selector selects nothing, an empty one everything.
pub fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let selector = LabelSelector::from_meta_option(selector);
    selector.is_ok_and(|selector| selector.matches_option(pod.metadata.labels.as_ref()))
}

/// Whether the budget speaks of a part of what its pods' controllers want.
pub fn needs_scales(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.as_ref();
    let relative = spec.and_then(|spec| spec.min_available.as_ref());
    spec.is_some_and(|spec| spec.max_unavailable.is_some()) || matches!(relative, Some(IntOrString::String(_)))
}

/// Decides, given the pods that the budget selects, and how many pods their controllers want (or why that is unknown).
pub fn plan(
    now: Timestamp,
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    scales: &Result<BTreeMap<String, i32>, String>,
) -> Plan {
    let (expected, desired) = match scales {
        Ok(scales) => expected(budget, pods, scales),
        Err(why) => return Plan { status: failed(now, budget, why), ..Plan::default() },
    };
    let before = budget.status.clone().unwrap_or_default();
    let (disrupted, recheck, stuck) = disrupted(now, &before, pods);
    let healthy = pods.iter().filter(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        !api::pods::is_terminating(pod) && !disrupted.contains_key(name) && api::pods::is_ready(pod)
    });
    let healthy = count(healthy.count());
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let generation = budget.metadata.generation;
    let status = PodDisruptionBudgetStatus {
        conditions: Some(conditions(now, &before, generation, allowed)),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: generation,
    };
    Plan { status: (status != before).then_some(status), recheck, stuck }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// How many pods there should be, and how many of them healthy.
fn expected(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scales: &BTreeMap<String, i32>) -> (i32, i32) {
    let spec = budget.spec.clone().unwrap_or_default();
    let scale = scales.values().fold(0_i32, |sum, scale| sum.saturating_add(*scale));
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(unavailable), _) => (scale, (scale - part(unavailable, scale)).max(0)),
        (None, Some(available @ IntOrString::String(_))) => (scale, part(available, scale)),
        (None, Some(IntOrString::Int(available))) => (count(pods.len()), *available),
        (None, None) => (0, 0),
    }
}

/// A number, or that percentage of the total, rounded up.
fn part(value: &IntOrString, total: i32) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or_default();
            i32::try_from((percent * i64::from(total) + 99) / 100).unwrap_or(i32::MAX)
        }
    }
}

type Disrupted = BTreeMap<String, Time>;

/// The evictions that are still under way, when the next of them has to be over, and the pods whose eviction came to nothing.
fn disrupted(
    now: Timestamp,
    before: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
) -> (Disrupted, Option<Duration>, Vec<Arc<Pod>>) {
    let (mut kept, mut next, mut stuck) = (Disrupted::new(), None, Vec::new());
    for pod in pods.iter().filter(|pod| !api::pods::is_terminating(pod)) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(since) = before.disrupted_pods.as_ref().and_then(|all| all.get(&name)) else { continue };
        let left = (since.0 + DELETION_TIMEOUT).duration_since(now);
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => {
                next = Some(next.map_or(left, |next: Duration| next.min(left)));
                kept.insert(name, since.clone());
            }
            Ok(_) | Err(_) => stuck.push(Arc::clone(pod)),
        }
    }
    (kept, next, stuck)
}

fn conditions(
    now: Timestamp,
    before: &PodDisruptionBudgetStatus,
    generation: Option<i64>,
    allowed: i32,
) -> Vec<Condition> {
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    with_condition(now, before, status, reason, String::new(), generation)
}

fn with_condition(
    now: Timestamp,
    before: &PodDisruptionBudgetStatus,
    status: &str,
    reason: &str,
    message: String,
    generation: Option<i64>,
) -> Vec<Condition> {
    let mut all = before.conditions.clone().unwrap_or_default();
    let known = all.iter().find(|condition| condition.type_ == ALLOWED && condition.status == status);
    let condition = Condition {
        last_transition_time: known.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        message,
        observed_generation: generation,
        reason: reason.to_owned(),
        status: status.to_owned(),
        type_: ALLOWED.to_owned(),
    };
    match all.iter_mut().find(|condition| condition.type_ == ALLOWED) {
        Some(place) => *place = condition,
        None => all.push(condition),
    }
    all
}

/// What is said when the figures can't be known: nothing may be evicted.
fn failed(now: Timestamp, budget: &PodDisruptionBudget, why: &str) -> Option<PodDisruptionBudgetStatus> {
    let before = budget.status.clone().unwrap_or_default();
    let generation = before.observed_generation;
    let conditions = with_condition(now, &before, "False", "SyncFailed", why.to_owned(), generation);
    let status =
        PodDisruptionBudgetStatus { conditions: Some(conditions), disruptions_allowed: Some(0), ..before.clone() };
    (status != before).then_some(status)
}

/// Whether somebody said that he is about to end the pod.
pub fn is_marked(pod: &Pod) -> bool {
    let condition = api::pods::condition(pod, DISRUPTION_TARGET);
    let marked = condition.is_some_and(|condition| {
        condition.status == "True" && condition.reason.as_deref() != Some("TerminationByKubelet")
    });
    marked && !api::pods::is_terminal(pod) && !api::pods::is_terminating(pod)
}

/// In how long such a mark is stale; none if there is none.
pub fn stale_in(now: Timestamp, pod: &Pod) -> Option<Duration> {
    let condition = api::pods::condition(pod, DISRUPTION_TARGET).filter(|_| is_marked(pod))?;
    let since = condition.last_transition_time.as_ref().map_or(now, |since| since.0);
    Some(Duration::try_from((since + DELETION_TIMEOUT).duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().expect("a time")
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"a": "b"}});
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status}))
            .expect("a budget")
    }

    fn pods(ready: &[bool]) -> Vec<Arc<Pod>> {
        let pod = |(i, ready): (usize, &bool)| {
            let condition = json!({"type": "Ready", "status": if *ready { "True" } else { "False" }});
            let pod = json!({"metadata": {"name": format!("p{i}"), "labels": {"a": "b"}}, "status": {"conditions": [condition]}});
            Arc::new(serde_json::from_value(pod).expect("a pod"))
        };
        ready.iter().enumerate().map(pod).collect()
    }

    #[test]
    fn figures() {
        let scales = |scale: i32| Ok([("u".to_owned(), scale)].into());
        let table = [
            (json!({"minAvailable": 1}), vec![], 0, (0, 1, 0, 0)),
            (json!({"minAvailable": 1}), vec![true], 0, (1, 1, 0, 1)),
            (json!({"minAvailable": 1}), vec![true, true, false], 0, (2, 1, 1, 3)),
            (json!({"minAvailable": "50%"}), vec![true, true, true], 3, (3, 2, 1, 3)),
            (json!({"maxUnavailable": 1}), vec![true, true], 3, (2, 2, 0, 3)),
            (json!({"maxUnavailable": "34%"}), vec![true, true, true], 3, (3, 1, 2, 3)),
            (json!({"maxUnavailable": 5}), vec![true], 1, (1, 0, 1, 1)),
        ];
        for (spec, ready, scale, expected) in table {
            let status =
                plan(now(), &budget(spec.clone(), json!({})), &pods(&ready), &scales(scale)).status.expect("a status");
            let figures =
                (status.current_healthy, status.desired_healthy, status.disruptions_allowed, status.expected_pods);
            let some = (Some(expected.0), Some(expected.1), Some(expected.2), Some(expected.3));
            assert_eq!(figures, some, "{spec} {ready:?}");
        }
    }

    #[test]
    fn a_written_status_is_left_alone() {
        let mut budget = budget(json!({"minAvailable": 1}), json!({}));
        let none = Ok(BTreeMap::new());
        let status = plan(now(), &budget, &pods(&[true, true]), &none).status.expect("a status");
        let condition = &status.conditions.as_ref().expect("conditions")[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "SufficientPods"));
        assert_eq!((condition.observed_generation, status.observed_generation), (Some(3), Some(3)));
        budget.status = Some(status);
        assert_eq!(plan(now() + SignedDuration::from_secs(9), &budget, &pods(&[true, true]), &none), Plan::default());
    }

    #[test]
    fn evicted_pods_do_not_count_while_they_go() {
        let evicted = json!({"disruptedPods": {"p0": "2026-01-01T00:09:30Z", "p1": "2026-01-01T00:01:00Z", "gone": "2026-01-01T00:09:59Z"}});
        let plan =
            plan(now(), &budget(json!({"minAvailable": 1}), evicted), &pods(&[true, true]), &Ok(BTreeMap::new()));
        let status = plan.status.expect("a status");
        assert_eq!((status.current_healthy, status.disruptions_allowed), (Some(1), Some(0)));
        assert_eq!(status.disrupted_pods.expect("one").into_keys().collect::<Vec<_>>(), ["p0"]);
        assert_eq!((plan.recheck, plan.stuck.len()), (Some(Duration::from_secs(90)), 1));
    }

    #[test]
    fn without_figures_nothing_is_allowed() {
        let budget = budget(json!({"maxUnavailable": 1}), json!({"disruptionsAllowed": 2, "observedGeneration": 1}));
        let unknown = Err("found no controllers for pod \"p0\"".to_owned());
        let status = plan(now(), &budget, &pods(&[true]), &unknown).status.expect("a status");
        let condition = &status.conditions.expect("conditions")[0];
        assert_eq!((status.disruptions_allowed, condition.reason.as_str()), (Some(0), "SyncFailed"));
        assert_eq!(condition.message, "found no controllers for pod \"p0\"");
    }

    #[test]
    fn marks_go_stale() {
        let marked = |reason: &str, since: &str| -> Pod {
            let condition =
                json!({"type": DISRUPTION_TARGET, "status": "True", "reason": reason, "lastTransitionTime": since});
            serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"conditions": [condition]}}))
                .expect("a pod")
        };
        assert_eq!(stale_in(now(), &marked("X", "2026-01-01T00:09:00Z")), Some(Duration::from_secs(60)));
        assert_eq!(stale_in(now(), &marked("X", "2026-01-01T00:01:00Z")), Some(Duration::ZERO));
        assert_eq!(stale_in(now(), &marked("TerminationByKubelet", "2026-01-01T00:01:00Z")), None);
    }
}
