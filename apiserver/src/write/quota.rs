//! ResourceQuota: what a write adds to its namespace is charged to the quotas that count it, before it is stored. Entry points:
//! [`charge`] after all validating admission, [`Charges::settle`] when the write has ended.
//!
//! Invariant: a charge is a compare-and-swap on the quota itself, so writes that race can't exceed it together, whichever server
//! they go through; what was charged for a write that failed is given back. Dry runs are checked, not charged. What the
//! controller has not yet written into `status.hard` is not enforced, as upstream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use api::pods::Resources;
use api::quota::Subject;
use api::{ApiError, Quantity};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Change, Decision, Place, Stored, commit, tracking};
use crate::admission::Operation;
use crate::object::{self, Object};
use crate::resources::{Strategy, Subresource};

const PLURAL: &str = "resourcequotas";
/// Who owns the figures in a quota's status after a charge.
const MANAGER: &str = "kube-apiserver";
/// Kinds that no quota counts: they come and go by themselves.
const UNCOUNTED: [(&str, &str); 2] = [("", "events"), ("events.k8s.io", "events")];

/// Those who charge a quota take turns, so that they do not lose races against each other.
#[derive(Default)]
pub struct Turns(Mutex<BTreeMap<String, Arc<Semaphore>>>);

impl Turns {
    async fn take(&self, key: &str) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        turn.acquire_owned().await.map_err(ApiError::internal)
    }
}

/// What one write has been charged.
#[derive(Default)]
pub(super) struct Charges<'a> {
    taken: Vec<Taken<'a>>,
}

struct Taken<'a> {
    at: Place<'a>,
    quota: String,
    amounts: Resources,
}

impl Charges<'_> {
    /// Keeps the charges if the object was stored, or gives them back.
    pub(super) async fn settle(self, stored: bool) {
        for taken in self.taken.into_iter().filter(|_| !stored) {
            if let Err(error) = taken.give_back().await {
                // The controller counts anew soon after every charge.
                tracing::warn!(quota = taken.quota, error = %error.message, "a charge was not given back");
            }
        }
    }
}

impl Taken<'_> {
    async fn give_back(&self) -> Result<(), ApiError> {
        edit(&self.at, &self.quota, &mut |quota| {
            let mut used = used(quota);
            for (resource, amount) in &self.amounts.0 {
                if let Some(used) = used.0.get_mut(resource) {
                    *used = (*used - *amount).max(Quantity::ZERO);
                }
            }
            Ok(Some(used))
        })
        .await
    }
}

/// Charges a create or an update; refuses it if it does not fit.
pub(super) async fn charge<'a>(
    at: &Place<'a>,
    operation: Operation,
    new: &dyn Object,
    old: Option<&dyn Object>,
) -> Result<Charges<'a>, ApiError> {
    let mut charges = Charges::default();
    let info = at.info();
    if at.namespace.is_empty() || !info.stored || UNCOUNTED.contains(&(info.group.as_str(), info.plural.as_str())) {
        return Ok(charges);
    }
    let demand = Demand { at, new: subject(at, new), old: old.map(|old| subject(at, old)), object: new };
    if !demand.is_counted(operation) {
        return Ok(charges);
    }
    let quotas = at.server.lookup.list("", PLURAL, at.namespace).await?;
    let quotas = quotas.iter().map(|bytes| serde_json::from_slice(bytes).map_err(ApiError::internal));
    let quotas = quotas.collect::<Result<Vec<ResourceQuota>, ApiError>>()?;
    for name in demand.check(&quotas)? {
        match demand.take(&name).await {
            Ok(Some(taken)) => charges.taken.push(taken),
            Ok(None) => {}
            Err(error) => {
                charges.settle(false).await;
                return Err(error);
            }
        }
    }
    Ok(charges)
}

fn subject<'o>(at: &Place<'o>, object: &'o dyn Object) -> Subject<'o> {
    let info = at.info();
    None.or_else(|| object::downcast::<Pod>(object).map(Subject::Pod))
        .or_else(|| object::downcast::<Service>(object).map(Subject::Service))
        .or_else(|| object::downcast::<PersistentVolumeClaim>(object).map(Subject::Claim))
        .unwrap_or(Subject::Other(&info.stored_group, &info.plural))
}

/// A write that takes something from quotas.
struct Demand<'a, 'b> {
    at: &'b Place<'a>,
    new: Subject<'b>,
    old: Option<Subject<'b>>,
    object: &'b dyn Object,
}

impl<'a> Demand<'a, '_> {
    /// Most kinds count when they are made; services and claims may change what they count, a pod when it is resized.
    fn is_counted(&self, operation: Operation) -> bool {
        let subresource = self.at.subresource.map_or("", Subresource::as_str);
        match (operation, self.new, subresource) {
            (Operation::Create, _, "") => true,
            (Operation::Update, Subject::Service(_), "") => true,
            (Operation::Update, Subject::Claim(_), "" | "status") => true,
            (Operation::Update, Subject::Pod(_), "resize") => true,
            (Operation::Create | Operation::Update | Operation::Delete | Operation::Connect, _, _) => false,
        }
    }

    fn now(&self) -> Timestamp {
        self.at.server.clock.now()
    }

    /// Refuses what no quota can ever admit or what does not fit now; answers the names of the quotas to charge.
    fn check(&self, quotas: &[ResourceQuota]) -> Result<Vec<String>, ApiError> {
        let mut counting = Vec::new();
        for quota in quotas {
            if is_counting(quota, &self.new).map_err(|why| self.forbidden(&why))? {
                counting.push(quota);
            }
        }
        let mut charged = Vec::new();
        for quota in counting {
            let amounts = self.amounts(quota);
            if !amounts.0.is_empty() {
                charged.push(name_of(quota).to_owned());
            }
        }
        Ok(charged)
    }

    /// What is added to a quota that counts the object.
    fn amounts(&self, quota: &ResourceQuota) -> Resources {
        let now = self.now();
        let hard = hard(quota);
        let mut usage = self.new.usage(now);
        usage.0.retain(|resource, _| hard.0.contains_key(resource));
        if let Some(old) = self.old.filter(|old| old.matches(quota, &names(&hard))) {
            let before = old.usage(now);
            usage.0.iter_mut().for_each(|(resource, amount)| *amount -= before.get(resource));
        }
        usage.0.retain(|_, amount| *amount > Quantity::ZERO);
        usage
    }

    /// Charges one quota, as it is stored now.
    async fn take(&self, name: &str) -> Result<Option<Taken<'a>>, ApiError> {
        let mut amounts = Resources::default();
        // What a claim has got already is counted, not refused.
        let enforced = self.at.subresource != Some(Subresource::Status);
        edit(self.at, name, &mut |quota| {
            amounts = self.amounts(quota);
            if amounts.0.is_empty() {
                return Ok(None);
            }
            match exceeded(quota, &amounts).filter(|_| enforced) {
                Some(why) => Err(self.forbidden(&why)),
                None => {
                    let mut used = used(quota);
                    used.add(&amounts);
                    Ok(Some(used))
                }
            }
        })
        .await?;
        let charged = !self.at.dry_run && !amounts.0.is_empty();
        Ok(charged.then(|| Taken { at: *self.at, quota: name.to_owned(), amounts }))
    }

    fn forbidden(&self, why: &str) -> ApiError {
        let name = self.object.metadata().name.as_deref().unwrap_or_default();
        ApiError::forbidden(&self.at.info().group_resource(), name, why)
    }
}

/// Whether a quota counts an object; or why the object can't be admitted whatever is left.
fn is_counting(quota: &ResourceQuota, subject: &Subject<'_>) -> Result<bool, String> {
    let hard = names(&hard(quota));
    if !subject.matches(quota, &hard) {
        return Ok(false);
    }
    let (name, tracked, used) = (name_of(quota), subject.tracked(&hard), used(quota));
    if let Some(missing) = subject.missing(&tracked) {
        return Err(format!("failed quota: {name}: {missing}"));
    }
    if tracked.iter().any(|resource| !used.0.contains_key(resource)) {
        let tracked: Vec<String> = tracked.into_iter().collect();
        return Err(format!("status unknown for quota: {name}, resources: {}", tracked.join(",")));
    }
    Ok(true)
}

/// Upstream's words if these amounts are more than what is left.
fn exceeded(quota: &ResourceQuota, amounts: &Resources) -> Option<String> {
    let (hard, used) = (hard(quota), used(quota));
    let over = |(resource, amount): &(&String, &Quantity)| used.get(resource) + **amount > hard.get(resource);
    let over: Vec<&String> = amounts.0.iter().filter(over).map(|(resource, _)| resource).collect();
    let shown = |of: &Resources| {
        let parts = over.iter().map(|resource| format!("{resource}={}", of.get(resource)));
        parts.collect::<Vec<_>>().join(",")
    };
    let name = name_of(quota);
    (!over.is_empty()).then(|| {
        format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            shown(amounts),
            shown(&used),
            shown(&hard)
        )
    })
}

fn name_of(quota: &ResourceQuota) -> &str {
    quota.metadata.name.as_deref().unwrap_or_default()
}

fn hard(quota: &ResourceQuota) -> Resources {
    Resources::from_wire(quota.status.as_ref().and_then(|status| status.hard.as_ref()))
}

fn used(quota: &ResourceQuota) -> Resources {
    Resources::from_wire(quota.status.as_ref().and_then(|status| status.used.as_ref()))
}

fn names(amounts: &Resources) -> BTreeSet<String> {
    amounts.0.keys().cloned().collect()
}

/// What a quota's `status.used` shall be, given the quota as it is stored; none leaves it.
type Used<'e> = dyn FnMut(&ResourceQuota) -> Result<Option<Resources>, ApiError> + Send + 'e;

/// Changes what a quota says is used; a quota that is gone needs no change.
async fn edit(at: &Place<'_>, quota: &str, used: &mut Used<'_>) -> Result<(), ApiError> {
    let row = at.server.resources.find("", "v1", PLURAL).ok_or_else(ApiError::path_not_found)?;
    let strategy: &dyn Strategy = row.as_ref();
    let place = Place { strategy, name: quota, subresource: Some(Subresource::Status), manager: MANAGER, ..*at };
    let key = place.key(quota);
    let _turn = at.server.quota_turns.take(&key).await?;
    match commit(&place, &key, &mut Edit { at: place, used }).await {
        Err(error) if !error.is_not_found() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

struct Edit<'a, 'u, 'e> {
    at: Place<'a>,
    used: &'u mut Used<'e>,
}

#[async_trait]
impl Change for Edit<'_, '_, '_> {
    async fn decide(&mut self, current: Option<&Stored>) -> Result<Decision, ApiError> {
        let Some(stored) = current else { return Ok(Decision::Unchanged) };
        let mut new = stored.object.clone_object();
        let quota = object::downcast_mut::<ResourceQuota>(new.as_mut())
            .ok_or_else(|| ApiError::internal("the quota is no ResourceQuota"))?;
        let Some(used) = (self.used)(quota)? else { return Ok(Decision::Unchanged) };
        quota.status.get_or_insert_default().used = Some(used.to_wire());
        tracking::track(&self.at, Some(stored), new.as_mut())?;
        Ok(Decision::Write(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn quota(hard: Value, used: Value) -> ResourceQuota {
        serde_json::from_value(json!({"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}}))
            .expect("a quota")
    }

    #[test]
    fn what_does_not_fit_is_named_and_nothing_else() {
        let quota = quota(
            json!({"pods": "2", "requests.cpu": "1", "secrets": "1"}),
            json!({"pods": "1", "requests.cpu": "600m", "secrets": "5"}),
        );
        let amounts = |cpu: &str| {
            Resources(
                [("pods".to_owned(), Quantity::new(1)), ("requests.cpu".to_owned(), cpu.parse().expect("cpu"))].into(),
            )
        };
        assert_eq!(exceeded(&quota, &amounts("400m")), None);
        assert_eq!(
            exceeded(&quota, &amounts("500m")).as_deref(),
            Some("exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1")
        );
    }

    #[test]
    fn what_is_counted_must_be_said_and_known() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "c"}]}})).expect("a pod");
        let subject = Subject::Pod(&pod);
        let table = [
            (json!({"secrets": "1"}), json!({}), Ok(false)),
            (json!({"pods": "1"}), json!({"pods": "0"}), Ok(true)),
            (
                json!({"pods": "1", "count/pods": "4"}),
                json!({"pods": "0"}),
                Err("status unknown for quota: q, resources: count/pods,pods"),
            ),
            (
                json!({"requests.cpu": "1"}),
                json!({"requests.cpu": "0"}),
                Err("failed quota: q: must specify requests.cpu for: c"),
            ),
        ];
        for (hard, used, expected) in table {
            assert_eq!(is_counting(&quota(hard.clone(), used), &subject), expected.map_err(str::to_owned), "{hard}");
        }
    }
}
