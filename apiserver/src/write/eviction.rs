//! `pods/eviction`: a delete that asks the pod's disruption budget first. Entry point: [`evict`].
//!
//! The budget is charged by compare-and-swap before the pod is deleted, so that evictions that race can't overdraw it.

use api::{ApiError, GroupResource, LabelSelector, ObjectKey, conditions, pods};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::deletion::check_preconditions;
use super::edit::{edit, own};
use super::{Place, delete, tracking};
use crate::admission::{Operation, Other};
use crate::http::options::DeleteOptions;
use crate::object;
use crate::resources::{DeletedBy, Subresource};

const GROUP: &str = "policy";
const PLURAL: &str = "poddisruptionbudgets";
/// Who owns the figures in a budget's status after an eviction.
const MANAGER: &str = "kube-apiserver";
/// The condition of a budget.
const ALLOWED: &str = "DisruptionAllowed";
/// Disrupted pods that a budget remembers at most.
const MAX_DISRUPTED: usize = 2000;
/// When to try again while the budget's controller has not caught up.
const CATCH_UP_SECONDS: u32 = 10;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

/// Evicts the pod that the place names; `eviction` is what was sent.
pub async fn evict(at: &Place<'_>, options: &DeleteOptions, eviction: &Other) -> Result<(), ApiError> {
    at.check_admission_of(Operation::Create, None, None, Some(eviction)).await?;
    let stored = at.read(&at.key(at.name)).await?.ok_or_else(|| at.not_found())?;
    let pod = object::downcast::<Pod>(stored.object.as_ref())
        .ok_or_else(|| ApiError::internal("only pods can be evicted"))?;
    if !needs_no_budget(pod)
        && let Some(budget) = budget_of(at, pod).await?
        && !allows_unhealthy(&budget, pod)
    {
        charge(at, &budget).await?;
    }
    let mut options = options.clone();
    if !at.dry_run {
        let status = Place { subresource: Some(Subresource::Status), ..*at };
        let (key, info) = (at.key(at.name), at.info());
        let marked = edit(&status, &key, |stored, object| {
            check_preconditions(&options, stored.metadata(), info, DeletedBy::All)?;
            mark(own(object)?, at.server.clock.now_seconds());
            Ok(())
        });
        let marked = marked.await?;
        if options.resource_version.is_some() {
            options.resource_version.clone_from(&marked.object.metadata().resource_version);
        }
    }
    delete(at, &options).await.map(drop)
}

/// Says in the pod's status that it is about to be evicted, so that its controller can tell why it ended.
fn mark(pod: &mut Pod, now: Timestamp) {
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    };
    let status = pod.status.get_or_insert_default();
    conditions::set(status.conditions.get_or_insert_default(), condition, now);
}

/// Pods that do not run take nothing from a budget.
fn needs_no_budget(pod: &Pod) -> bool {
    pods::is_terminal(pod) || pods::phase(pod) == "Pending" || pods::is_terminating(pod)
}

/// The only budget that selects the pod.
async fn budget_of(at: &Place<'_>, pod: &Pod) -> Result<Option<PodDisruptionBudget>, ApiError> {
    let mut found = Vec::new();
    for bytes in at.server.lookup.list(GROUP, PLURAL, at.namespace).await? {
        let budget: PodDisruptionBudget = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let selects = LabelSelector::from_meta_option(selector)
            .is_ok_and(|selector| selector.matches_option(pod.metadata.labels.as_ref()));
        if selects {
            found.push(budget);
        }
    }
    if found.len() > 1 {
        let message =
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(ApiError::unclassified(message));
    }
    Ok(found.pop())
}

/// Pods that are not ready may go without a charge where the budget says so, or is met without them.
fn allows_unhealthy(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    if pods::is_ready(pod) {
        return false;
    }
    let policy = budget.spec.as_ref().and_then(|spec| spec.unhealthy_pod_eviction_policy.as_deref());
    let status = budget.status.clone().unwrap_or_default();
    let (current, desired) = (status.current_healthy.unwrap_or(0), status.desired_healthy.unwrap_or(0));
    policy == Some("AlwaysAllow") || (current >= desired && desired > 0)
}

async fn charge(at: &Place<'_>, budget: &PodDisruptionBudget) -> Result<(), ApiError> {
    let strategy = at.server.resources.find(GROUP, "v1", PLURAL).ok_or_else(ApiError::path_not_found)?;
    let key = ObjectKey::of(&budget.metadata);
    let status = Some(Subresource::Status);
    let place = Place { strategy: strategy.as_ref(), name: &key.name, subresource: status, manager: MANAGER, ..*at };
    let key = place.key(&key.name);
    let charged = edit(&place, &key, |stored, object| {
        take(own(object)?, at.name, Time(at.server.clock.now_seconds()))?;
        tracking::track(&place, Some(stored), object)
    });
    charged.await.map(drop)
}

/// Takes one disruption from a budget.
fn take(budget: &mut PodDisruptionBudget, pod: &str, now: Time) -> Result<(), ApiError> {
    let name = budget.metadata.name.clone().unwrap_or_default();
    let generation = budget.metadata.generation.unwrap_or(0);
    let status = budget.status.get_or_insert_default();
    // Upstream's word here is the singular.
    let resource = GroupResource::new(GROUP, "poddisruptionbudget");
    if status.observed_generation.unwrap_or(0) < generation {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::too_many_requests(REFUSED, CATCH_UP_SECONDS).with_cause("DisruptionBudget", &why, ""));
    }
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if allowed < 0 {
        return Err(ApiError::forbidden(&resource, &name, "pdb disruptions allowed is negative"));
    }
    let disrupted = status.disrupted_pods.get_or_insert_default();
    if disrupted.len() > MAX_DISRUPTED {
        return Err(ApiError::forbidden(
            &resource,
            &name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        let why = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            status.desired_healthy.unwrap_or(0),
            status.current_healthy.unwrap_or(0)
        );
        return Err(ApiError::too_many_requests(REFUSED, 0).with_cause("DisruptionBudget", &why, ""));
    }
    disrupted.insert(pod.to_owned(), now.clone());
    status.disruptions_allowed = Some(allowed - 1);
    if allowed == 1 {
        exhaust(status, now);
    }
    Ok(())
}

/// Says that this was the last disruption.
fn exhaust(status: &mut PodDisruptionBudgetStatus, now: Time) {
    let generation = status.observed_generation;
    let all = status.conditions.get_or_insert_default();
    let known = all.iter().find(|condition| condition.type_ == ALLOWED && condition.status == "False");
    let condition = Condition {
        last_transition_time: known.map_or(now, |condition| condition.last_transition_time.clone()),
        message: String::new(),
        observed_generation: generation,
        reason: "InsufficientPods".to_owned(),
        status: "False".to_owned(),
        type_: ALLOWED.to_owned(),
    };
    match all.iter_mut().find(|condition| condition.type_ == ALLOWED) {
        Some(place) => *place = condition,
        None => all.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_budget_is_charged_until_it_is_empty() {
        let budget = json!({"metadata": {"name": "b", "generation": 1}, "spec": {}, "status": {"currentHealthy": 3, "desiredHealthy": 2,
            "disruptionsAllowed": 1, "expectedPods": 3, "observedGeneration": 1}});
        let mut budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        let now = || Time("2026-01-01T00:00:00Z".parse().unwrap());
        take(&mut budget, "p", now()).unwrap();
        assert!(budget.status.as_ref().unwrap().disrupted_pods.as_ref().unwrap().contains_key("p"));
        let conditions = budget.status.as_ref().unwrap().conditions.as_ref().unwrap();
        assert_eq!((conditions[0].status.as_str(), conditions[0].reason.as_str()), ("False", "InsufficientPods"));
        let refused = take(&mut budget, "q", now()).unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (429, REFUSED));
        assert!(refused.has_cause("DisruptionBudget"));
        budget.metadata.generation = Some(2);
        assert_eq!(take(&mut budget, "q", now()).unwrap_err().retry_after_seconds(), Some(10));
    }
}
