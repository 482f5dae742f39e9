//! Ranges of service addresses: each has our finalizer and is Ready; one that is deleted stays, not Ready, while an address in
//! use lies in no other range.
//!
//! Entry point: [`start`]. Invariant: the finalizer goes only when [`GRACE`] has passed since the deletion, so that no API server
//! still gives addresses of the range. Reference: KEP-1880.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::ObjectKey;
use api::well_known::finalizers::RANGE_PROTECTION;
use client::{Change, Error, Outcome, Reconcile, Store, WorkQueue, WrittenRevisions};
use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;
use kube::{Api, Client};
use process::Clock;
use serde_json::{Value, json};

use crate::context::{Context, patching};
use crate::inventory::{Kind, Metadata};
use crate::stores::Stores;

/// Who owns the conditions.
const MANAGER: &str = "service-cidr-controller";
/// How long a range outlives its deletion at least.
const GRACE: Duration = Duration::from_secs(10);
/// On the addresses that API servers give: who manages them.
const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");
const IS_READY: &str = "Kubernetes Service CIDR is ready";
const IS_USED: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

/// The addresses in use.
type Addresses = Arc<Mutex<BTreeSet<IpAddr>>>;

/// Runs the controller; its keys are ranges.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    let (stores, addresses) = (context.stores.clone(), Addresses::default());
    let (keys, ranges) = (queue.clone(), stores.ranges.clone());
    stores.ranges.on_change(move |change: Change<DynamicObject>| {
        keys.add(ObjectKey::of(&change.object().metadata));
        // A range that comes can be what another waits for.
        look_at_going(&ranges, &keys);
    });
    let (keys, ranges, used) = (queue.clone(), stores.ranges.clone(), addresses.clone());
    context.inventory.subscribe(move |kind: &Kind, change: &Change<Metadata>| {
        if note(&used, kind, change) {
            look_at_going(&ranges, &keys);
        }
    });
    let (client, clock) = (context.client.clone(), context.clock);
    let reconciler = Ranges { client, clock, stores, addresses, written: written.clone() };
    context.run_on_both(reconciler, queue, written, 1);
}

/// Keeps the set of addresses; answers whether it can matter to a range.
fn note(used: &Addresses, kind: &Kind, change: &Change<Metadata>) -> bool {
    if (kind.resource.group.as_str(), kind.resource.plural.as_str()) != ("networking.k8s.io", "ipaddresses") {
        return false;
    }
    let meta = &change.object().metadata;
    let is_ours = meta.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY.0)).is_some_and(|by| by == MANAGED_BY.1);
    let Some(address) = meta.name.as_deref().and_then(|name| name.parse().ok()) else { return false };
    let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
    match change {
        Change::Upsert { .. } if is_ours => used.insert(address),
        Change::Upsert { .. } | Change::Delete { .. } => used.remove(&address),
    }
}

fn look_at_going(ranges: &Store<DynamicObject>, keys: &WorkQueue<ObjectKey>) {
    let going = |range: &Arc<DynamicObject>| range.metadata.deletion_timestamp.is_some();
    ranges.list().into_iter().filter(going).for_each(|range| keys.add(ObjectKey::of(&range.metadata)));
}

/// What to do about a range.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    /// Give it the finalizer.
    Protect,
    /// Say that it is ready.
    Ready,
    /// Say that addresses keep it.
    Blocked,
    /// Look again when the grace period is over.
    Wait(Duration),
    /// Take the finalizer away.
    Release,
}

fn plan(range: &DynamicObject, all: &[Arc<DynamicObject>], used: &BTreeSet<IpAddr>, now: Timestamp) -> Plan {
    let has = range.metadata.finalizers.iter().flatten().any(|one| one == RANGE_PROTECTION);
    let says = |status: &str, message: &str| {
        let mut conditions = list(&range.data["status"]["conditions"]);
        conditions.any(|one| one["type"] == "Ready" && one["status"] == status && one["message"] == message)
    };
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        return match (has, says("True", IS_READY)) {
            (false, _) => Plan::Protect,
            (true, false) => Plan::Ready,
            (true, true) => Plan::Nothing,
        };
    };
    if !has {
        return Plan::Nothing;
    }
    if !is_dispensable(range, all, used) {
        return if says("False", IS_USED) { Plan::Nothing } else { Plan::Blocked };
    }
    let since = Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default();
    match GRACE.checked_sub(since).filter(|left| !left.is_zero()) {
        Some(left) => Plan::Wait(left),
        None => Plan::Release,
    }
}

/// Whether every address in use lies in another range, too.
fn is_dispensable(range: &DynamicObject, all: &[Arc<DynamicObject>], used: &BTreeSet<IpAddr>) -> bool {
    let is_other = |other: &DynamicObject| other.metadata.name != range.metadata.name;
    let others: Vec<IpNet> = all.iter().filter(|other| is_other(other)).flat_map(|other| nets(other)).collect();
    nets(range).iter().all(|net| {
        others.iter().any(|other| other.contains(net))
            || used
                .iter()
                .filter(|address| gives(net, **address))
                .all(|address| others.iter().any(|other| gives(other, *address)))
    })
}

/// Whether services can get this address from this range.
fn gives(net: &IpNet, address: IpAddr) -> bool {
    net.contains(&address) && address != net.network() && (address.is_ipv6() || address != net.broadcast())
}

fn nets(range: &DynamicObject) -> Vec<IpNet> {
    list(&range.data["spec"]["cidrs"]).filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

struct Ranges {
    client: Client,
    clock: Clock,
    stores: Stores,
    addresses: Addresses,
    written: WrittenRevisions<ObjectKey>,
}

impl Reconcile for Ranges {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "servicecidrs"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(range) = self.stores.ranges.get(key) else { return Ok(Outcome::Done) };
        let used = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let finalizers = |member: &str| json!({"metadata": {member: [RANGE_PROTECTION]}});
        match plan(&range, &self.stores.ranges.list(), &used, self.clock.now()) {
            Plan::Nothing => Ok(Outcome::Done),
            Plan::Wait(left) => Ok(Outcome::After(left)),
            Plan::Protect => self.patch(key, finalizers("finalizers")).await,
            Plan::Release => self.patch(key, finalizers("$deleteFromPrimitiveList/finalizers")).await,
            Plan::Ready => self.say(key, json!({"status": "True", "message": IS_READY})).await,
            Plan::Blocked => {
                self.say(key, json!({"status": "False", "reason": "Terminating", "message": IS_USED})).await
            }
        }
    }
}

impl Ranges {
    fn api(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &ApiResource::erase::<ServiceCIDR>(&()))
    }

    async fn patch(&self, key: &ObjectKey, patch: Value) -> Result<Outcome, Error> {
        let answer = self.api().patch(&key.name, &patching(), &Patch::Strategic(patch)).await;
        self.settle(key, answer)
    }

    async fn say(&self, key: &ObjectKey, mut condition: Value) -> Result<Outcome, Error> {
        condition["type"] = json!("Ready");
        condition["lastTransitionTime"] = json!(self.clock.now_seconds().to_string());
        let fields = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": key.name},
            "status": {"conditions": [condition]},
        });
        let answer =
            self.api().patch_status(&key.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(fields)).await;
        self.settle(key, answer)
    }

    fn settle(&self, key: &ObjectKey, answer: Result<DynamicObject, kube::Error>) -> Result<Outcome, Error> {
        match answer.map_err(Error::from) {
            // Nothing shows the last write of one that goes with its finalizer.
            Ok(new) if new.metadata.deletion_timestamp.is_none() => self.written.object(key, &self.stores.ranges, &new),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(self.written.failed(key, &self.stores.ranges, error)),
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidrs: &[&str], deleted: Option<&str>, condition: Value) -> Arc<DynamicObject> {
        let meta = json!({"name": name, "finalizers": [RANGE_PROTECTION], "deletionTimestamp": deleted});
        let status = json!({"conditions": [condition]});
        let object = json!({"metadata": meta, "spec": {"cidrs": cidrs}, "status": status});
        Arc::new(serde_json::from_value(object).expect("a range"))
    }

    fn ready(status: &str, message: &str) -> Value {
        json!({"type": "Ready", "status": status, "message": message, "lastTransitionTime": null})
    }

    #[test]
    fn new_ranges_are_protected_then_ready() {
        let now = Timestamp::UNIX_EPOCH;
        let done = range("a", &["10.0.0.0/24"], None, ready("True", IS_READY));
        let mut bare = done.as_ref().clone();
        bare.metadata.finalizers = None;
        assert_eq!(plan(&bare, &[], &BTreeSet::new(), now), Plan::Protect);
        let unready = range("a", &["10.0.0.0/24"], None, ready("Unknown", ""));
        assert_eq!(plan(&unready, &[], &BTreeSet::new(), now), Plan::Ready);
        assert_eq!(plan(&done, &[], &BTreeSet::new(), now), Plan::Nothing);
    }

    #[test]
    fn addresses_keep_a_range_that_nobody_else_covers() {
        let (deleted, now) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:04Z".parse().unwrap());
        let at = |address: &str| address.parse::<IpAddr>().expect("an address");
        let going = range("a", &["10.0.0.0/24", "fd00::/112"], Some(deleted), ready("True", IS_READY));
        let other = |name: &str, cidr: &str| range(name, &[cidr], None, ready("True", IS_READY));
        let wait = Plan::Wait(Duration::from_secs(6));
        let table = [
            (vec![], vec![], wait),
            (vec![], vec!["10.0.0.7"], Plan::Blocked),
            (vec![], vec!["fd00::7"], Plan::Blocked),
            (vec![], vec!["10.0.0.0", "10.0.0.255", "10.0.1.1"], Plan::Wait(Duration::from_secs(6))),
            (vec![other("b", "10.0.0.0/16")], vec!["10.0.0.7"], Plan::Wait(Duration::from_secs(6))),
            (vec![other("b", "10.0.0.0/24")], vec!["10.0.0.7"], Plan::Wait(Duration::from_secs(6))),
            (vec![other("b", "10.0.0.0/28")], vec!["10.0.0.7"], Plan::Wait(Duration::from_secs(6))),
            (vec![other("b", "10.0.0.0/28")], vec!["10.0.0.7", "10.0.0.15"], Plan::Blocked),
            (vec![other("a", "10.0.0.0/16")], vec!["10.0.0.7"], Plan::Blocked),
        ];
        for (i, (mut all, used, expected)) in table.into_iter().enumerate() {
            all.push(going.clone());
            let used = used.into_iter().map(at).collect();
            assert_eq!(plan(&going, &all, &used, now), expected, "row {i}");
        }
        let later = "2026-01-01T00:00:10Z".parse().unwrap();
        assert_eq!(plan(&going, &[], &BTreeSet::new(), later), Plan::Release);
        let said = range("a", &["10.0.0.0/24"], Some(deleted), ready("False", IS_USED));
        assert_eq!(plan(&said, &[], &[at("10.0.0.7")].into(), later), Plan::Nothing);
    }
}
