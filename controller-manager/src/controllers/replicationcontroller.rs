//! ReplicationController: keeps so many pods of a template alive.
//!
//! Entry point: [`start`]. The decisions are in [`crate::replicas`]; here are what they are made from (`observe`) and how they are carried
//! out (`apply`). Invariant: a pod is adopted only after a live look confirmed that the controller is not being deleted.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::ObjectKey;
use client::recorder::reference;
use client::{Change, Error, EventType, Outcome, Reconcile, Recorder, Store, WorkQueue, WrittenRevisions};
use futures::StreamExt;
use futures::stream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Pod, PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Patch;
use kube::{Api, Client};
use process::Clock;
use serde_json::json;

use crate::context::{Context, deleting, patching, writing};
use crate::pods;
use crate::replicas::{self, Count, Plan, Workload};
use crate::slow_start::{MOST_IN_FLIGHT, slow_start};
use crate::stores::{BY_CONTROLLER, ORPHANS, Stores};

const WORKERS: usize = 5;
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Runs the controller.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    watch(&context.stores, &queue);
    let reconciler = ReplicationControllers {
        client: context.client.clone(),
        stores: context.stores.clone(),
        clock: context.clock,
        recorder: context.recorder("replication-controller"),
        written: written.clone(),
    };
    context.run(reconciler, queue, written, WORKERS);
}

fn watch(stores: &Stores, queue: &WorkQueue<ObjectKey>) {
    let keys = queue.clone();
    stores.replication_controllers.on_change(move |change| keys.add(ObjectKey::of(&change.object().metadata)));
    let (keys, controllers) = (queue.clone(), stores.replication_controllers.clone());
    stores.pods.on_change(move |change: Change<Pod>| {
        let states = match &change {
            Change::Upsert { old, new } => [old.as_ref(), Some(new)],
            Change::Delete { old } => [Some(old), None],
        };
        for pod in states.into_iter().flatten() {
            for key in interested(&controllers, pod) {
                keys.add(key);
            }
        }
    });
}

/// Who is concerned by a pod: its controller, or those that could adopt it.
fn interested(controllers: &Store<ReplicationController>, pod: &Pod) -> Vec<ObjectKey> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match api::owners::controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "ReplicationController" => vec![ObjectKey::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let matching = |rc: &Arc<ReplicationController>| {
                rc.spec
                    .as_ref()
                    .and_then(|spec| spec.selector.as_ref())
                    .is_some_and(|selector| replicas::selects(selector, pod))
            };
            controllers
                .in_namespace(namespace)
                .iter()
                .filter(|rc| matching(rc))
                .map(|rc| ObjectKey::of(&rc.metadata))
                .collect()
        }
    }
}

struct ReplicationControllers {
    client: Client,
    stores: Stores,
    clock: Clock,
    recorder: Recorder,
    written: WrittenRevisions<ObjectKey>,
}

impl Reconcile for ReplicationControllers {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "replicationcontroller"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some((rc, pods)) = self.observe(key) else { return Ok(Outcome::Done) };
        let workload = workload(&rc);
        let plan = replicas::plan(self.clock.now(), &workload, &pods);
        self.apply(key, &rc, &workload, plan).await
    }
}

/// What a replication controller asks for, in the words of the shared core.
fn workload(rc: &ReplicationController) -> Workload {
    let spec = rc.spec.clone().unwrap_or_default();
    let template = spec.template.and_then(|template| template.metadata);
    Workload {
        uid: rc.metadata.uid.clone().unwrap_or_default(),
        deleting: rc.metadata.deletion_timestamp.is_some(),
        replicas: usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or_default(),
        min_ready_seconds: spec.min_ready_seconds.unwrap_or_default().into(),
        selector: spec.selector.unwrap_or_default(),
        template_labels: template.and_then(|meta| meta.labels).unwrap_or_default(),
    }
}

/// How creating and deleting went.
#[derive(Default)]
struct Carried {
    created: Vec<Arc<Pod>>,
    deleted: BTreeSet<String>,
    failure: Option<(&'static str, Error)>,
}

impl ReplicationControllers {
    fn observe(&self, key: &ObjectKey) -> Option<(Arc<ReplicationController>, Vec<Arc<Pod>>)> {
        let rc = self.stores.replication_controllers.get(key)?;
        let uid = rc.metadata.uid.as_deref().unwrap_or_default();
        let mut pods = self.stores.pods.by_index(BY_CONTROLLER, uid);
        pods.extend(self.stores.pods.by_index(ORPHANS, key.namespace()));
        Some((rc, pods))
    }

    async fn apply(
        &self,
        key: &ObjectKey,
        rc: &ReplicationController,
        workload: &Workload,
        plan: Plan,
    ) -> Result<Outcome, Error> {
        self.adopt(key, rc, &plan.adopt).await?;
        for pod in &plan.release {
            self.release(key, workload, pod).await?;
        }
        let mut carried = self.create(key, rc, plan.create).await;
        self.delete(key, rc, &plan.delete, &mut carried).await;
        let after =
            plan.kept.iter().filter(|pod| !carried.deleted.contains(pod.metadata.uid.as_deref().unwrap_or_default()));
        let count = replicas::count(self.clock.now(), workload, after.chain(&carried.created));
        let failure = carried.failure.as_ref().map(|(reason, error)| (*reason, error.to_string()));
        self.write_status(key, rc, status(self.clock.now(), rc, &count, failure)).await?;
        match (carried.failure, count.next_available) {
            (Some((_, error)), _) => Err(error),
            (None, Some(wait)) => Ok(Outcome::After(wait)),
            (None, None) => Ok(Outcome::Done),
        }
    }

    fn pods_of(&self, key: &ObjectKey) -> Api<Pod> {
        Api::namespaced(self.client.clone(), key.namespace())
    }

    async fn adopt(&self, key: &ObjectKey, rc: &ReplicationController, pods: &[Arc<Pod>]) -> Result<(), Error> {
        if pods.is_empty() {
            return Ok(());
        }
        let api: Api<ReplicationController> = Api::namespaced(self.client.clone(), key.namespace());
        let live = api.get(&key.name).await?;
        if live.metadata.uid != rc.metadata.uid {
            return Err(Error::Undecided(format!("original ReplicationController {key} is gone")));
        }
        if live.metadata.deletion_timestamp.is_some() {
            return Err(Error::Undecided(format!("{key} has just been deleted")));
        }
        let owner = api::owners::owner_reference(rc, true, true);
        for pod in pods {
            self.patch_owners(key, pod, json!([owner])).await?;
        }
        Ok(())
    }

    async fn release(&self, key: &ObjectKey, workload: &Workload, pod: &Pod) -> Result<(), Error> {
        match self.patch_owners(key, pod, json!([{"$patch": "delete", "uid": workload.uid}])).await {
            // Invalid: another object of the same name by now, or nobody's already.
            Err(Error::Api(error)) if error.is_invalid() => Ok(()),
            other => other,
        }
    }

    async fn patch_owners(&self, key: &ObjectKey, pod: &Pod, owners: serde_json::Value) -> Result<(), Error> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}});
        match self.pods_of(key).patch(name, &patching(), &Patch::Strategic(patch)).await.map_err(Error::from) {
            Ok(pod) => {
                self.written.object(key, &self.stores.pods, &pod);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(self.written.failed(key, &self.stores.pods, error)),
        }
    }

    async fn create(&self, key: &ObjectKey, rc: &ReplicationController, count: usize) -> Carried {
        if count == 0 {
            return Carried::default();
        }
        let empty = PodTemplateSpec::default();
        let template = rc.spec.as_ref().and_then(|spec| spec.template.as_ref()).unwrap_or(&empty);
        let owner = api::owners::owner_reference(rc, true, true);
        let pod = pods::from_template(template, key.namespace(), &key.name, owner);
        let (api, params, object) = (self.pods_of(key), writing(), reference(rc));
        let (api, params, pod) = (&api, &params, &pod);
        let started = slow_start(count, |_| async move { api.create(params, pod).await.map_err(Error::from) }).await;
        let mut carried = Carried::default();
        for pod in started.done {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            self.recorder.event(&object, EventType::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
            self.written.object(key, &self.stores.pods, &pod);
            carried.created.push(Arc::new(pod));
        }
        for error in started.failed {
            // A namespace that is being deleted takes the controller with it: nothing to complain about.
            if !error.is_namespace_terminating() {
                self.recorder.event(&object, EventType::Warning, "FailedCreate", format!("Error creating: {error}"));
                carried.failure = Some(("FailedCreate", self.written.failed(key, &self.stores.pods, error)));
            }
        }
        carried
    }

    async fn delete(&self, key: &ObjectKey, rc: &ReplicationController, pods: &[Arc<Pod>], carried: &mut Carried) {
        let api = self.pods_of(key);
        let object = reference(rc);
        let delete = |pod: &Arc<Pod>| {
            let (api, pod) = (api.clone(), pod.clone());
            async move {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let name = pod.metadata.name.clone().unwrap_or_default();
                let answer = api.delete(&name, &deleting(&uid)).await.map_err(Error::from);
                (pod, uid, name, answer)
            }
        };
        let deletions: Vec<_> = pods.iter().map(delete).collect();
        let answers: Vec<_> = stream::iter(deletions).buffered(MOST_IN_FLIGHT).collect().await;
        for (pod, uid, name, answer) in answers {
            let pod_key = ObjectKey::of(&pod.metadata);
            match answer {
                Ok(answer) => {
                    self.recorder.event(&object, EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
                    self.written.deletion(key, &self.stores.pods, &pod_key, &uid, &answer);
                    carried.deleted.insert(uid);
                }
                // Gone already, or another pod of the same name.
                Err(error) if error.is_not_found() || error.is_conflict() => {
                    self.written.gone(key, &self.stores.pods, &pod_key, &uid);
                    carried.deleted.insert(uid);
                }
                Err(error) => {
                    self.recorder.event(
                        &object,
                        EventType::Warning,
                        "FailedDelete",
                        format!("Error deleting: {error}"),
                    );
                    carried.failure = Some(("FailedDelete", self.written.failed(key, &self.stores.pods, error)));
                }
            }
        }
    }

    async fn write_status(
        &self,
        key: &ObjectKey,
        rc: &ReplicationController,
        status: ReplicationControllerStatus,
    ) -> Result<(), Error> {
        if rc.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<ReplicationController> = Api::namespaced(self.client.clone(), key.namespace());
        let wanted = ReplicationController { status: Some(status), ..rc.clone() };
        match api.replace_status(&key.name, &writing(), &wanted).await.map_err(Error::from) {
            Ok(new) => {
                self.written.object(key, &self.stores.replication_controllers, &new);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(self.written.failed(key, &self.stores.replication_controllers, error)),
        }
    }
}

/// The status that says this; figures that are zero are left out, as Kubernetes does.
fn status(
    now: Timestamp,
    rc: &ReplicationController,
    count: &Count,
    failure: Option<(&str, String)>,
) -> ReplicationControllerStatus {
    let before = rc.status.clone().unwrap_or_default();
    let mut conditions = before.conditions.unwrap_or_default();
    let failing = conditions.iter().any(|condition| condition.type_ == REPLICA_FAILURE);
    match failure {
        Some((reason, message)) if !failing => conditions.push(ReplicationControllerCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
        None => conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
    }
    let some = |figure: i32| (figure != 0).then_some(figure);
    ReplicationControllerStatus {
        replicas: count.replicas,
        fully_labeled_replicas: some(count.fully_labeled),
        ready_replicas: some(count.ready),
        available_replicas: some(count.available),
        observed_generation: rc.metadata.generation.max(before.observed_generation),
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::fixtures::{ago, now};

    #[test]
    fn the_status_tells_figures_and_failures_and_settles() {
        let mut rc = ReplicationController::default();
        rc.metadata.generation = Some(2);
        let none = Count::default();
        let some = Count { replicas: 2, fully_labeled: 2, ready: 1, available: 1, next_available: None };
        let failure = || Some(("FailedCreate", "no".to_owned()));
        let first = status(now(), &rc, &some, failure());
        assert_eq!((first.replicas, first.ready_replicas, first.observed_generation), (2, Some(1), Some(2)));
        assert_eq!(first.conditions.as_ref().unwrap()[0].reason.as_deref(), Some("FailedCreate"));
        rc.status = Some(first.clone());
        assert_eq!(status(ago(-5).0, &rc, &some, failure()), first, "the same again");
        let calm = status(now(), &rc, &none, None);
        assert_eq!((calm.replicas, calm.ready_replicas, calm.conditions), (0, None, None));
    }
}
