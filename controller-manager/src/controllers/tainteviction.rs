//! Taint eviction: pods leave a node whose NoExecute taints they do not tolerate, or no longer.
//!
//! Entry point: [`start`]. Invariant: the time at which a pod leaves follows from the API's objects alone (see `plan`); what is remembered
//! here serves only to tell when an eviction was called off.

pub mod plan;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::ObjectKey;
use api::well_known::taints::NO_EXECUTE;
use client::recorder::reference;
use client::{Change, Error, EventType, Outcome, Reconcile, Recorder, Store, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Patch;
use kube::{Api, Client};
use process::Clock;
use serde_json::json;

use self::plan::Plan;
use crate::context::{Context, deleting, patching};
use crate::pods;
use crate::stores::{BY_NODE, Stores};

const WORKERS: usize = 8;

/// Runs the controller; its keys are pods.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    watch(&context.stores, &queue);
    let reconciler = TaintEviction {
        client: context.client.clone(),
        stores: context.stores.clone(),
        clock: context.clock,
        recorder: context.recorder("taint-eviction-controller"),
        written: written.clone(),
        marked: Mutex::default(),
    };
    context.run(reconciler, queue, written, WORKERS);
}

fn watch(stores: &Stores, queue: &WorkQueue<ObjectKey>) {
    let (keys, pods) = (queue.clone(), stores.pods.clone());
    stores.nodes.on_change(move |change: Change<Node>| {
        let before = match &change {
            Change::Upsert { old, .. } => old.as_ref().map(|old| executing(old)).unwrap_or_default(),
            Change::Delete { old } => executing(old),
        };
        let after = match &change {
            Change::Upsert { new, .. } => executing(new),
            Change::Delete { .. } => Vec::new(),
        };
        if before != after {
            let name = change.object().metadata.name.clone().unwrap_or_default();
            pods.by_index(BY_NODE, &name).iter().for_each(|pod| keys.add(ObjectKey::of(&pod.metadata)));
        }
    });
    let (keys, nodes) = (queue.clone(), stores.nodes.clone());
    stores.pods.on_change(move |change: Change<Pod>| {
        let pod = change.object();
        let tainted = node_of(&nodes, pod).is_some_and(|node| !executing(&node).is_empty());
        if tainted || matches!(change, Change::Delete { .. }) {
            keys.add(ObjectKey::of(&pod.metadata));
        }
    });
}

fn node_of(nodes: &Store<Node>, pod: &Pod) -> Option<std::sync::Arc<Node>> {
    nodes.get(&ObjectKey::cluster(pods::node_of(pod)))
}

fn executing(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
}

struct TaintEviction {
    client: Client,
    stores: Stores,
    clock: Clock,
    recorder: Recorder,
    written: WrittenRevisions<ObjectKey>,
    /// Pods whose eviction is due at some time.
    marked: Mutex<BTreeSet<ObjectKey>>,
}

impl Reconcile for TaintEviction {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "tainteviction"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.stores.pods.get(key) else {
            self.mark(key, false);
            return Ok(Outcome::Done);
        };
        let taints = node_of(&self.stores.nodes, &pod).map(|node| executing(&node)).unwrap_or_default();
        let now = self.clock.now();
        match plan::plan(now, &pod, &taints) {
            Plan::Stay => {
                if self.mark(key, false) && pods::is_active(&pod) {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.recorder.event(&reference(&*pod), EventType::Normal, "TaintManagerEviction", message);
                }
                Ok(Outcome::Done)
            }
            Plan::EvictAt(at) => {
                self.mark(key, true);
                Ok(Outcome::After(Duration::try_from(at.duration_since(now)).unwrap_or_default()))
            }
            Plan::Evict => {
                self.mark(key, false);
                self.evict(key, &pod).await?;
                Ok(Outcome::Done)
            }
        }
    }
}

impl TaintEviction {
    /// Remembers whether an eviction is due; answers whether one was.
    fn mark(&self, key: &ObjectKey, due: bool) -> bool {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        if due { !marked.insert(key.clone()) } else { marked.remove(key) }
    }

    async fn evict(&self, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
        let message = format!("Marking for deletion Pod {key}");
        self.recorder.event(&reference(pod), EventType::Normal, "TaintManagerEviction", message);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), key.namespace());
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(self.clock.now_seconds()),
        });
        let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
        match api.patch_status(&key.name, &patching(), &Patch::Strategic(patch)).await.map_err(Error::from) {
            Ok(pod) => self.written.object(key, &self.stores.pods, &pod),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(self.written.failed(key, &self.stores.pods, error)),
        }
        match api.delete(&key.name, &deleting(uid)).await.map_err(Error::from) {
            Ok(answer) => {
                self.written.deletion(key, &self.stores.pods, key, uid, &answer);
                Ok(())
            }
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(self.written.failed(key, &self.stores.pods, error)),
        }
    }
}
