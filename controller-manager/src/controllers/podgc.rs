//! Pod garbage collection: removes pods that nobody else will remove.
//!
//! Entry point: [`start`]. Invariant: a pod of a missing node is failed and deleted only after a live look confirmed that the node
//! does not exist.

pub mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::ObjectKey;
use client::{Change, Error, Outcome, Reconcile, WorkQueue, WrittenRevisions};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Patch;
use kube::{Api, Client};
use process::Clock;
use serde_json::json;

use self::plan::Plan;
use crate::context::{Context, deleting, patching};
use crate::pods;
use crate::stores::{BY_NODE, ENDED, Stores};

const WORKERS: usize = 4;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// One pod that may have nobody.
    Pod(ObjectKey),
    /// The number of ended pods.
    Ended,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Pod(key) => key.fmt(f),
            Key::Ended => f.write_str("ended pods"),
        }
    }
}

/// Runs the controller.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    watch(&context.stores, &queue);
    let reconciler = PodCollector {
        client: context.client.clone(),
        stores: context.stores.clone(),
        clock: context.clock,
        written: written.clone(),
        threshold: context.config.terminated_pod_gc_threshold,
        missing: Mutex::default(),
    };
    context.run(reconciler, queue, written, WORKERS);
}

fn watch(stores: &Stores, queue: &WorkQueue<Key>) {
    let (keys, nodes) = (queue.clone(), stores.nodes.clone());
    stores.pods.on_change(move |change: Change<Pod>| {
        let Change::Upsert { old, new } = &change else { return };
        let node = pods::node_of(new);
        let unbound_and_leaving = node.is_empty() && new.metadata.deletion_timestamp.is_some();
        let homeless = !node.is_empty() && nodes.get(&ObjectKey::cluster(node)).is_none();
        if unbound_and_leaving || homeless {
            keys.add(Key::Pod(ObjectKey::of(&new.metadata)));
        }
        if pods::is_terminal(new) && !old.as_ref().is_some_and(|old| pods::is_terminal(old)) {
            keys.add(Key::Ended);
        }
    });
    let (keys, pods) = (queue.clone(), stores.pods.clone());
    stores.nodes.on_change(move |change: Change<Node>| {
        let name = change.object().metadata.name.clone().unwrap_or_default();
        if matches!(change, Change::Delete { .. } | Change::Upsert { old: None, .. }) {
            pods.by_index(BY_NODE, &name).iter().for_each(|pod| keys.add(Key::Pod(ObjectKey::of(&pod.metadata))));
        }
    });
}

struct PodCollector {
    client: Client,
    stores: Stores,
    clock: Clock,
    written: WrittenRevisions<Key>,
    threshold: i64,
    /// Since when a node with pods has been missing.
    missing: Mutex<BTreeMap<String, Timestamp>>,
}

impl Reconcile for PodCollector {
    type Key = Key;

    fn name(&self) -> &'static str {
        "podgc"
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        match key {
            Key::Ended => {
                for pod in plan::surplus(self.threshold, &self.stores.pods.by_index(ENDED, ENDED)) {
                    self.delete(key, &pod).await?;
                }
                Ok(Outcome::Done)
            }
            Key::Pod(name) => match self.stores.pods.get(name) {
                None => Ok(Outcome::Done),
                Some(pod) => self.look_after(key, &pod).await,
            },
        }
    }
}

impl PodCollector {
    async fn look_after(&self, key: &Key, pod: &Pod) -> Result<Outcome, Error> {
        let now = self.clock.now();
        match plan::plan(now, pod, self.missing_since(pods::node_of(pod), now)) {
            Plan::Keep => Ok(Outcome::Done),
            Plan::WaitUntil(at) => Ok(Outcome::After(Duration::try_from(at.duration_since(now)).unwrap_or_default())),
            Plan::NeverBound => {
                self.fail(key, pod, None).await?;
                self.delete(key, pod).await?;
                Ok(Outcome::Done)
            }
            Plan::Orphaned => {
                let nodes: Api<Node> = Api::all(self.client.clone());
                if nodes.get_opt(pods::node_of(pod)).await?.is_some() {
                    return Ok(Outcome::Done);
                }
                self.fail(key, pod, Some(self.orphaned())).await?;
                self.delete(key, pod).await?;
                Ok(Outcome::Done)
            }
        }
    }

    fn missing_since(&self, node: &str, now: Timestamp) -> Option<Timestamp> {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if node.is_empty() || self.stores.nodes.get(&ObjectKey::cluster(node)).is_some() {
            missing.remove(node);
            return None;
        }
        // Nodes whose pods are all gone need no longer be remembered.
        missing.retain(|name, _| name == node || !self.stores.pods.by_index(BY_NODE, name).is_empty());
        Some(*missing.entry(node.to_owned()).or_insert(now))
    }

    fn orphaned(&self) -> serde_json::Value {
        json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": Time(self.clock.now_seconds()),
        })
    }

    /// Marks a pod as failed, so that whoever waits for its end sees one.
    async fn fail(&self, key: &Key, pod: &Pod, condition: Option<serde_json::Value>) -> Result<(), Error> {
        if pods::is_terminal(pod) {
            return Ok(());
        }
        let mut status = json!({"phase": "Failed"});
        if let Some(condition) = condition {
            status["conditions"] = json!([condition]);
        }
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
        match self.pods_of(pod).patch_status(name, &patching(), &Patch::Strategic(patch)).await.map_err(Error::from) {
            Ok(pod) => self.written.object(key, &self.stores.pods, &pod),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(self.written.failed(key, &self.stores.pods, error)),
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, pod: &Pod) -> Result<(), Error> {
        let (name, uid) =
            (pod.metadata.name.as_deref().unwrap_or_default(), pod.metadata.uid.as_deref().unwrap_or_default());
        match self.pods_of(pod).delete(name, &deleting(uid).grace_period(0)).await.map_err(Error::from) {
            Ok(answer) => {
                self.written.deletion(key, &self.stores.pods, &ObjectKey::of(&pod.metadata), uid, &answer);
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(self.written.failed(key, &self.stores.pods, error)),
        }
    }

    fn pods_of(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default())
    }
}
