//! Node lifecycle: a node that falls silent becomes unknown, is tainted, and its pods are no longer ready.
//!
//! Entry point: [`start`]. Driven by time: a node is looked at when its lease would run out, not at every renewal. Invariant: silence is
//! measured by this process's clock from when it saw the last sign of life, since the clocks of nodes differ.

mod apply;
pub mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::ObjectKey;
use client::recorder::reference;
use client::{Change, Error, EventType, Outcome, Reconcile, Recorder, WorkQueue, WrittenRevisions};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::Client;
use process::Clock;

use self::plan::{Disruption, Eviction, Observed, Patience, conditions_of, status_of};
use crate::context::Context;
use crate::stores::Stores;

const WORKERS: usize = 8;

/// Runs the controller; its keys are nodes.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    let signs = Signs::default();
    watch(&context.stores, &queue, &signs, &context.clock);
    let reconciler = NodeLifecycle {
        client: context.client.clone(),
        stores: context.stores.clone(),
        clock: context.clock,
        recorder: context.recorder("node-controller"),
        written: written.clone(),
        patience: Patience {
            grace: context.config.node_monitor_grace_period,
            startup: context.config.node_startup_grace_period,
        },
        signs,
        next_eviction: Mutex::default(),
    };
    context.run(reconciler, queue, written, WORKERS);
}

/// What this process remembers of a node.
#[derive(Debug, Clone)]
struct Sign {
    last_seen: Timestamp,
    was_ready: bool,
    reference: Option<ObjectReference>,
}

/// The last sign of life of each node; clones share it.
#[derive(Debug, Clone, Default)]
struct Signs(Arc<Mutex<BTreeMap<String, Sign>>>);

impl Signs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Sign>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self, node: &str, now: Timestamp) {
        let mut signs = self.lock();
        let sign = signs.entry(node.to_owned()).or_insert(Sign { last_seen: now, was_ready: false, reference: None });
        sign.last_seen = now;
    }
}

fn watch(stores: &Stores, queue: &WorkQueue<ObjectKey>, signs: &Signs, clock: &Clock) {
    let (seen, time) = (signs.clone(), *clock);
    stores.leases.on_change(move |change: Change<Lease>| {
        let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
        if let Change::Upsert { old, new } = &change
            && old.as_ref().is_none_or(|old| renewed(old) != renewed(new))
        {
            seen.seen(new.metadata.name.as_deref().unwrap_or_default(), time.now());
        }
    });
    let (keys, seen, time, nodes) = (queue.clone(), signs.clone(), *clock, stores.nodes.clone());
    stores.nodes.on_change(move |change: Change<Node>| {
        let node = change.object();
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let readiness = |node: &Node| status_of(conditions_of(node), "Ready").to_owned();
        let changed = match &change {
            Change::Upsert { old: Some(old), new } => {
                if heartbeat(old) != heartbeat(new) {
                    seen.seen(name, time.now());
                }
                readiness(old) != readiness(new)
            }
            Change::Upsert { old: None, .. } => {
                seen.seen(name, time.now());
                true
            }
            Change::Delete { .. } => true,
        };
        keys.add(ObjectKey::of(&node.metadata));
        if changed {
            // The zone fares better or worse: evictions of other nodes may be due, or be called off.
            let failing = nodes.list().into_iter().filter(|node| readiness(node) != "True");
            failing.for_each(|node| keys.add(ObjectKey::of(&node.metadata)));
        }
    });
}

/// When the kubelet last reported, in its own words.
fn heartbeat(node: &Node) -> Option<Timestamp> {
    let ready = conditions_of(node).iter().find(|condition| condition.type_ == "Ready")?;
    ready.last_heartbeat_time.as_ref().map(|time| time.0)
}

struct NodeLifecycle {
    client: Client,
    stores: Stores,
    clock: Clock,
    recorder: Recorder,
    written: WrittenRevisions<ObjectKey>,
    patience: Patience,
    signs: Signs,
    /// Per zone, when the next node may lose its pods.
    next_eviction: Mutex<BTreeMap<String, Timestamp>>,
}

impl Reconcile for NodeLifecycle {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "nodelifecycle"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(node) = self.stores.nodes.get(key) else {
            self.removed(&key.name);
            return Ok(Outcome::Done);
        };
        if node.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let now = self.clock.now();
        let sign = self.sign(&node, now);
        let observed =
            |eviction| Observed { node: &node, last_seen: sign.last_seen, was_ready: sign.was_ready, eviction };
        let mut plan = plan::plan(now, self.patience, &observed(Eviction::Allowed));
        let mut wait = None;
        if plan.fails() {
            let (eviction, held_for) = self.eviction(now, &node, plan.evicts);
            wait = held_for;
            plan = plan::plan(now, self.patience, &observed(eviction));
        }
        let (look_again, evicts) = (plan.look_again, plan.evicts);
        if let Err(error) = self.apply(key, &node, plan).await {
            if evicts {
                // It did not happen, so it does not count against the pace.
                self.next_eviction.lock().unwrap_or_else(PoisonError::into_inner).remove(&plan::zone_of(&node));
            }
            return Err(error);
        }
        self.remember(&node, now);
        Ok(look_again.into_iter().chain(wait).min().map_or(Outcome::Done, Outcome::After))
    }
}

impl NodeLifecycle {
    fn sign(&self, node: &Node, now: Timestamp) -> Sign {
        let name = node.metadata.name.clone().unwrap_or_default();
        let object = reference(node);
        let mut signs = self.signs.lock();
        let sign = signs.entry(name.clone()).or_insert(Sign { last_seen: now, was_ready: false, reference: None });
        if sign.reference.as_ref().is_none_or(|known| known.uid != object.uid) {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            self.recorder.event(&object, EventType::Normal, "RegisteredNode", message);
            sign.was_ready = status_of(conditions_of(node), "Ready") == "True";
            sign.reference = Some(object);
        }
        sign.clone()
    }

    fn removed(&self, name: &str) {
        let sign = self.signs.lock().remove(name);
        if let Some(object) = sign.and_then(|sign| sign.reference) {
            let message = format!("Node {name} event: Removing Node {name} from Controller");
            self.recorder.event(&object, EventType::Normal, "RemovingNode", message);
        }
    }

    fn remember(&self, node: &Node, now: Timestamp) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        // What the store shows now includes what was just written only later; the next look brings it up to date.
        let silent = self.is_silent(node, now);
        if let Some(sign) = self.signs.lock().get_mut(name) {
            sign.was_ready = !silent && status_of(conditions_of(node), "Ready") == "True";
        }
    }

    fn is_silent(&self, node: &Node, now: Timestamp) -> bool {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let last_seen = self.signs.lock().get(name).map_or(now, |sign| sign.last_seen);
        let observed = Observed { node, last_seen, was_ready: false, eviction: Eviction::Allowed };
        plan::is_silent(now, self.patience, &observed)
    }

    fn disruption(&self, now: Timestamp, zone: &str) -> Disruption {
        let ready = |node: &Node| status_of(conditions_of(node), "Ready") == "True" && !self.is_silent(node, now);
        let nodes: Vec<_> = self.stores.nodes.list().iter().map(|node| (plan::zone_of(node), ready(node))).collect();
        plan::disruption(zone, &nodes)
    }

    /// Whether the node may lose its pods now, and if only the pace forbids it, for how long.
    fn eviction(&self, now: Timestamp, node: &Node, newly: bool) -> (Eviction, Option<Duration>) {
        let zone = plan::zone_of(node);
        let disruption = self.disruption(now, &zone);
        match disruption.pause() {
            None if disruption == Disruption::Everywhere => (Eviction::Stopped, None),
            None => (Eviction::Held, None),
            Some(_) if !newly => (Eviction::Allowed, None),
            Some(pause) => {
                // Taken here already, so that another worker sees it.
                let mut next = self.next_eviction.lock().unwrap_or_else(PoisonError::into_inner);
                let free_at = next.get(&zone).copied().unwrap_or(now);
                if free_at > now {
                    return (Eviction::Held, Duration::try_from(free_at.duration_since(now)).ok());
                }
                next.insert(zone, now + jiff::SignedDuration::try_from(pause).unwrap_or_default());
                (Eviction::Allowed, None)
            }
        }
    }
}
