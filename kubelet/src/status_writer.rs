//! Writes the statuses of the node's pods to the API, and deletes the records of those that have left.
//!
//! Entry: [`StatusWriter::put`]; the task is [`StatusWriter::run`]. Invariants: the only writer of pods in this crate;
//! one write at a time, as in upstream's status manager, and only the newest status of a pod; a record is only touched
//! while its uid is the pod's; a record is deleted only after its last status has been written. The statuses of a pod
//! that is being started are gathered for a moment, since the next follows when its sandbox is there, and another when
//! its containers run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::ObjectKey;
use client::Store;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often one write starts over because the record changed meanwhile.
const ATTEMPTS: usize = 5;
const RETRY: Duration = Duration::from_secs(1);
/// How long the status of a pod that is being started waits for a newer one.
const GATHER: Duration = Duration::from_millis(100);

/// What is to be written for one pod.
#[derive(Clone, Debug)]
struct Wanted {
    key: ObjectKey,
    status: Option<PodStatus>,
    delete: bool,
    /// When it is written at the earliest.
    due: Instant,
}

#[derive(Debug, Default)]
struct State {
    wanted: BTreeMap<String, Wanted>,
    /// The newest answers, by uid: the stores may be behind them.
    answers: BTreeMap<String, Arc<Pod>>,
}

/// Clones share the queue.
#[derive(Clone)]
pub struct StatusWriter {
    client: Client,
    pods: Store<Pod>,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl StatusWriter {
    /// Nothing to write yet.
    pub fn new(client: Client, pods: Store<Pod>) -> Self {
        Self { client, pods, state: Arc::default(), changed: Arc::default() }
    }

    /// Have this status written.
    pub fn put(&self, key: ObjectKey, uid: &str, status: PodStatus) {
        let due = Instant::now() + if is_starting(&status) { GATHER } else { Duration::ZERO };
        self.change(key, uid, due, |wanted| wanted.status = Some(status));
    }

    /// Have the record deleted, after its status.
    pub fn delete(&self, key: ObjectKey, uid: &str) {
        self.change(key, uid, Instant::now(), |wanted| wanted.delete = true);
    }

    /// The pod's record is gone.
    pub fn forget(&self, uid: &str) {
        let mut state = self.lock();
        state.wanted.remove(uid);
        state.answers.remove(uid);
    }

    fn change(&self, key: ObjectKey, uid: &str, due: Instant, change: impl FnOnce(&mut Wanted)) {
        let mut state = self.lock();
        let wanted = state.wanted.entry(uid.to_owned()).or_insert(Wanted { key, status: None, delete: false, due });
        wanted.due = wanted.due.min(due);
        change(wanted);
        drop(state);
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until the token is cancelled.
    pub async fn run(self, token: CancellationToken) {
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let Some((uid, wanted)) = self.take() else { continue };
                    tokio::select! {
                        biased;
                        () = token.cancelled() => return,
                        () = self.carry_through(uid, wanted) => {}
                    }
                }
                () = self.changed.notified() => {}
            }
        }
    }

    /// When the next write is due.
    fn due(&self) -> Option<Instant> {
        self.lock().wanted.values().map(|wanted| wanted.due).min()
    }

    /// Takes what was due first.
    fn take(&self) -> Option<(String, Wanted)> {
        let mut state = self.lock();
        let uid = state.wanted.iter().min_by_key(|(_, wanted)| wanted.due).map(|(uid, _)| uid.clone())?;
        state.wanted.remove_entry(&uid)
    }

    /// What could not be written is wanted again, unless something newer is.
    async fn carry_through(&self, uid: String, wanted: Wanted) {
        let Err(error) = self.write(&uid, &wanted).await else { return };
        tracing::warn!(pod = %wanted.key, %error, "status not written");
        let mut state = self.lock();
        let newer = state.wanted.remove(&uid);
        let delete = wanted.delete || newer.as_ref().is_some_and(|newer| newer.delete);
        let status = newer.and_then(|newer| newer.status).or(wanted.status);
        state.wanted.insert(uid, Wanted { key: wanted.key, status, delete, due: Instant::now() + RETRY });
    }

    async fn write(&self, uid: &str, wanted: &Wanted) -> Result<(), client::Error> {
        let api = Api::<Pod>::namespaced(self.client.clone(), wanted.key.namespace.as_deref().unwrap_or_default());
        if let Some(status) = &wanted.status
            && !self.write_status(&api, uid, &wanted.key, status).await?
        {
            return Ok(());
        }
        if !wanted.delete {
            return Ok(());
        }
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let parameters = DeleteParams::default().grace_period(0).preconditions(preconditions);
        match api.delete(&wanted.key.name, &parameters).await.map_err(client::Error::from) {
            Ok(_) => Ok(()),
            // Another pod of the name took its place.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Answers whether the record still exists.
    async fn write_status(
        &self,
        api: &Api<Pod>,
        uid: &str,
        key: &ObjectKey,
        status: &PodStatus,
    ) -> Result<bool, client::Error> {
        let mut base = self.newest(uid, key);
        for _ in 0..ATTEMPTS {
            let pod = match base.take() {
                Some(pod) => pod,
                None => match api.get_opt(&key.name).await? {
                    Some(pod) => Arc::new(pod),
                    None => return Ok(false),
                },
            };
            if pod.metadata.uid.as_deref() != Some(uid) {
                return Ok(false);
            }
            let status = with_foreign_conditions(status, &pod);
            if pod.status.as_ref() == Some(&status) {
                return Ok(true);
            }
            let mut next = Pod::clone(&pod);
            next.status = Some(status);
            match api.replace_status(&key.name, &PostParams::default(), &next).await.map_err(client::Error::from) {
                Ok(answer) => {
                    self.lock().answers.insert(uid.to_owned(), Arc::new(answer));
                    return Ok(true);
                }
                Err(error) if error.is_not_found() => return Ok(false),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(client::Error::Undecided(format!("{key} keeps changing")))
    }

    /// The newest version known of a record.
    fn newest(&self, uid: &str, key: &ObjectKey) -> Option<Arc<Pod>> {
        let stored = self.pods.get(key).filter(|pod| pod.metadata.uid.as_deref() == Some(uid));
        let answered = self.lock().answers.get(uid).cloned();
        let revision = |pod: &Arc<Pod>| -> u64 {
            pod.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        [stored, answered].into_iter().flatten().max_by_key(revision)
    }
}

/// Whether all containers of the pod have yet to be made, and nothing is wrong with it.
fn is_starting(status: &PodStatus) -> bool {
    let waits = |container: &ContainerStatus| {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        matches!(waiting.and_then(|waiting| waiting.reason.as_deref()), Some("ContainerCreating" | "PodInitializing"))
    };
    let mut containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    status.phase.as_deref() == Some("Pending") && containers.all(waits)
}

/// The conditions of others are theirs to change: the newest version of them is kept.
pub(crate) fn with_foreign_conditions(status: &PodStatus, pod: &Pod) -> PodStatus {
    let mut merged = status.clone();
    let is_owned = |condition: &PodCondition| crate::status::OWNED_CONDITIONS.contains(&condition.type_.as_str());
    let conditions = merged.conditions.get_or_insert_default();
    conditions.retain(is_owned);
    let present = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.extend(present.filter(|condition| !is_owned(condition)).cloned());
    merged
}
