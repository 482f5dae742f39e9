//! Disruption: says for each PodDisruptionBudget how many of its pods are healthy and how many may be evicted.
//!
//! Entry point: [`start`]. The API server charges evictions; here is counted. Invariant: whenever the figures can't be known,
//! no eviction is allowed.

pub mod plan;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::ObjectKey;
use client::recorder::reference;
use client::{Change, Error, EventType, Outcome, Reconcile, Recorder, WorkQueue, WrittenRevisions};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::api::Patch;
use kube::{Api, Client};
use process::Clock;
use serde_json::json;

use self::plan::Plan;
use crate::context::{Context, patching, writing};
use crate::inventory::Inventory;
use crate::stores::Stores;

const WORKERS: usize = 1;

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A budget.
    Budget(ObjectKey),
    /// A pod that somebody meant to disrupt.
    Pod(ObjectKey),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Budget(key) => key.fmt(f),
            Key::Pod(key) => write!(f, "pod {key}"),
        }
    }
}

/// Runs the controller.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    watch(&context.stores, &queue);
    let reconciler = Budgets {
        client: context.client.clone(),
        stores: context.stores.clone(),
        inventory: context.inventory.clone(),
        clock: context.clock,
        recorder: context.recorder("controllermanager"),
        written: written.clone(),
    };
    context.run_on_both(reconciler, queue, written, WORKERS);
}

fn watch(stores: &Stores, queue: &WorkQueue<Key>) {
    let keys = queue.clone();
    stores.budgets.on_change(move |change: Change<PodDisruptionBudget>| {
        keys.add(Key::Budget(ObjectKey::of(&change.object().metadata)));
    });
    let (keys, budgets) = (queue.clone(), stores.budgets.clone());
    stores.pods.on_change(move |change: Change<Pod>| {
        let states = match &change {
            Change::Upsert { old, new } => [old.as_ref(), Some(new)],
            Change::Delete { old } => [Some(old), None],
        };
        let namespace = change.object().metadata.namespace.as_deref().unwrap_or_default();
        for budget in budgets.in_namespace(namespace) {
            if states.into_iter().flatten().any(|pod| plan::selects(&budget, pod)) {
                keys.add(Key::Budget(ObjectKey::of(&budget.metadata)));
            }
        }
        if let Change::Upsert { new, .. } = &change
            && plan::is_marked(new)
        {
            keys.add(Key::Pod(ObjectKey::of(&new.metadata)));
        }
    });
}

struct Budgets {
    client: Client,
    stores: Stores,
    inventory: Inventory,
    clock: Clock,
    recorder: Recorder,
    written: WrittenRevisions<Key>,
}

impl Reconcile for Budgets {
    type Key = Key;

    fn name(&self) -> &'static str {
        "disruption"
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, Error> {
        match key {
            Key::Budget(name) => match self.stores.budgets.get(name) {
                Some(budget) => self.count(key, &budget).await,
                None => Ok(Outcome::Done),
            },
            Key::Pod(name) => match self.stores.pods.get(name) {
                Some(pod) => self.unmark(key, &pod).await,
                None => Ok(Outcome::Done),
            },
        }
    }
}

impl Budgets {
    async fn count(&self, key: &Key, budget: &PodDisruptionBudget) -> Result<Outcome, Error> {
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let mut pods = self.stores.pods.in_namespace(namespace);
        pods.retain(|pod| plan::selects(budget, pod));
        let scales = match plan::needs_scales(budget) {
            true => self.scales(namespace, &pods).await?,
            false => Ok(BTreeMap::new()),
        };
        let Plan { status, recheck, stuck } = plan::plan(self.clock.now(), budget, &pods, &scales);
        self.tell(budget, &pods, &scales, &stuck);
        if let Some(status) = status {
            self.write(key, budget, status).await?;
        }
        Ok(recheck.map_or(Outcome::Done, Outcome::After))
    }

    /// How many pods each controller of these wants, by its uid; or why that can't be known.
    async fn scales(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<Result<BTreeMap<String, i32>, String>, Error> {
        let mut scales = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for pod in pods {
            let Some(owner) = api::owners::controller_of(&pod.metadata) else { continue };
            if seen.insert(owner.uid.clone(), ()).is_some() {
                continue;
            }
            match self.scale_of(namespace, owner).await? {
                Some((uid, replicas)) => drop(scales.insert(uid, replicas)),
                None => {
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    return Ok(Err(format!("found no controllers for pod {}", api::field::go_quote(name))));
                }
            }
        }
        Ok(Ok(scales))
    }

    /// The scale of a controller; of the Deployment behind a ReplicaSet.
    async fn scale_of(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<(String, i32)>, Error> {
        let Some(kind) = self.inventory.kind(&owner.api_version, &owner.kind) else { return Ok(None) };
        let api = kind.api(&self.client, namespace);
        let Some(object) = api.get_metadata_opt(&owner.name).await? else { return Ok(None) };
        if object.metadata.uid.as_deref() != Some(&owner.uid) {
            return Ok(None);
        }
        let above = api::owners::controller_of(&object.metadata).filter(|above| above.kind == "Deployment");
        let (api, name, uid) = match above {
            Some(above) => match self.inventory.kind(&above.api_version, &above.kind) {
                Some(kind) => (kind.api(&self.client, namespace), above.name.clone(), above.uid.clone()),
                None => return Ok(None),
            },
            None => (api, owner.name.clone(), owner.uid.clone()),
        };
        let scale: Scale = match api.get_subresource("scale", &name).await.map_err(Error::from) {
            Ok(object) => serde_json::from_value(json!({"metadata": object.metadata, "spec": object.data["spec"]}))
                .map_err(|error| Error::Undecided(error.to_string()))?,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((scale.metadata.uid.as_deref() == Some(&uid))
            .then(|| (uid, scale.spec.and_then(|spec| spec.replicas).unwrap_or_default())))
    }

    fn tell(
        &self,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
        scales: &Result<BTreeMap<String, i32>, String>,
        stuck: &[Arc<Pod>],
    ) {
        let object = reference(budget);
        if pods.is_empty() {
            self.recorder.event(&object, EventType::Normal, "NoPods", "No matching pods found");
        }
        if let Err(why) = scales {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            self.recorder.event(&object, EventType::Warning, "CalculateExpectedPodCountFailed", message);
        }
        for pod in stuck {
            let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
            let message = format!("Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't");
            self.recorder.event(&reference(pod.as_ref()), EventType::Warning, "NotDeleted", message);
        }
    }

    async fn write(
        &self,
        key: &Key,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), Error> {
        let (name, namespace) = (budget.metadata.name.as_deref(), budget.metadata.namespace.as_deref());
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), namespace.unwrap_or_default());
        let wanted = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        match api.replace_status(name.unwrap_or_default(), &writing(), &wanted).await.map_err(Error::from) {
            Ok(new) => {
                self.written.object(key, &self.stores.budgets, &new);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(self.written.failed(key, &self.stores.budgets, error)),
        }
    }

    /// A pod that was to be disrupted and was not is no target any more.
    async fn unmark(&self, key: &Key, pod: &Pod) -> Result<Outcome, Error> {
        let now = self.clock.now();
        let Some(wait) = plan::stale_in(now, pod) else { return Ok(Outcome::Done) };
        if wait > Duration::ZERO {
            return Ok(Outcome::After(wait));
        }
        let (name, namespace) = (pod.metadata.name.as_deref(), pod.metadata.namespace.as_deref());
        let condition = json!({"type": plan::DISRUPTION_TARGET, "status": "False", "reason": null, "message": null,
            "lastTransitionTime": Time(self.clock.now_seconds())});
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace.unwrap_or_default());
        let answer = api.patch_status(name.unwrap_or_default(), &patching(), &Patch::Strategic(patch)).await;
        match answer.map_err(Error::from) {
            Ok(new) => self.written.object(key, &self.stores.pods, &new),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(self.written.failed(key, &self.stores.pods, error)),
        }
        Ok(Outcome::Done)
    }
}
