//! One task for each pod that is, or was, on this node.
//!
//! Entry: [`Workers::update`], [`Workers::gone`], [`Workers::runtime_changed`]: news for a pod's worker. Invariants: a
//! pod has at most one worker, and it lives until nothing of the pod is left; news are states, not messages: a worker
//! that is busy sees only the newest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::runtime::KnownPod;
use crate::shared::Shared;
use crate::view::PodView;
use crate::worker::Worker;

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct News {
    pub pod: Arc<Pod>,
    /// The pod's record (or manifest) is gone.
    pub gone: bool,
    /// The runtime may have something new of it.
    pub runtime_changed: bool,
    /// What its volumes are made of may have changed.
    pub objects_changed: bool,
}

/// Where a worker finds its news.
pub struct Inbox {
    news: Mutex<News>,
    /// What the worker last saw in the runtime.
    seen: Mutex<PodView>,
    pub changed: Arc<Notify>,
}

impl Inbox {
    fn change(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Notes what the worker sees in the runtime, so that an event that says no more does not wake it.
    pub fn saw(&self, view: &PodView) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = view.clone();
    }

    /// Takes the news; what was said once is not said again.
    pub fn take(&self) -> News {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = news.clone();
        news.runtime_changed = false;
        news.objects_changed = false;
        taken
    }

    /// Returns when the pod's end has become more urgent than in `known`. Notes in `heard` that there was news.
    pub async fn more_urgent(&self, known: &News, heard: &AtomicBool) {
        loop {
            self.changed.notified().await;
            heard.store(true, Ordering::Relaxed);
            let news = self.news.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if urgency(&news) < urgency(known) {
                return;
            }
        }
    }
}

/// Seconds until a pod is to be gone; less is more urgent.
fn urgency(news: &News) -> i64 {
    let meta = &news.pod.metadata;
    match (&meta.deletion_timestamp, news.gone) {
        (_, true) => -1,
        (Some(_), false) => meta.deletion_grace_period_seconds.unwrap_or(0),
        (None, false) => i64::MAX,
    }
}

struct Entry {
    inbox: Arc<Inbox>,
    admitted: bool,
}

/// All workers of one kubelet, by pod uid.
#[derive(Default)]
pub struct Workers {
    entries: Mutex<BTreeMap<String, Entry>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Workers {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This is how a pod should be now.
    pub fn update(&self, shared: &Arc<Shared>, pod: Arc<Pod>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut entries = self.lock();
        if let Some(entry) = entries.get(&uid) {
            entry.inbox.change(|news| {
                let (old, new) = (&news.pod.metadata, &pod.metadata);
                // Labels and annotations may be the contents of a volume.
                news.objects_changed |= old.labels != new.labels || old.annotations != new.annotations;
                news.pod = pod;
                news.gone = false;
            });
            return;
        }
        let news = News { pod, gone: false, runtime_changed: true, objects_changed: true };
        self.begin(shared, &mut entries, uid, news);
    }

    /// A pod's record or manifest is gone.
    pub fn gone(&self, uid: &str) {
        if let Some(entry) = self.lock().get(uid) {
            entry.inbox.change(|news| news.gone = true);
        }
    }

    /// The runtime has news of a pod.
    pub fn runtime_changed(&self, uid: &str) {
        if let Some(entry) = self.lock().get(uid) {
            entry.inbox.change(|news| news.runtime_changed = true);
        }
    }

    /// The runtime tells how a pod is.
    pub fn runtime_event(&self, uid: &str, event: &PodView) {
        if let Some(entry) = self.lock().get(uid) {
            let known = entry.inbox.seen.lock().unwrap_or_else(PoisonError::into_inner).knows(event);
            if !known {
                entry.inbox.change(|news| news.runtime_changed = true);
            }
        }
    }

    /// Objects that a pod refers to have changed.
    pub fn objects_changed(&self, uid: &str) {
        if let Some(entry) = self.lock().get(uid) {
            entry.inbox.change(|news| news.objects_changed = true);
        }
    }

    /// Something of a pod is here that nobody wants here: a worker ends it.
    pub fn adopt(&self, shared: &Arc<Shared>, stray: KnownPod) {
        let mut entries = self.lock();
        if entries.contains_key(&stray.uid) {
            return;
        }
        tracing::info!(pod = %format!("{}/{}", stray.namespace, stray.name), uid = stray.uid, "removing a stray pod");
        let metadata = ObjectMeta {
            name: Some(stray.name),
            namespace: Some(stray.namespace),
            uid: Some(stray.uid.clone()),
            ..ObjectMeta::default()
        };
        let pod = Arc::new(Pod { metadata, ..Pod::default() });
        let news = News { pod, gone: true, runtime_changed: true, objects_changed: false };
        self.begin(shared, &mut entries, stray.uid, news);
    }

    fn begin(&self, shared: &Arc<Shared>, entries: &mut BTreeMap<String, Entry>, uid: String, news: News) {
        let inbox = Arc::new(Inbox { news: Mutex::new(news), seen: Mutex::default(), changed: Arc::default() });
        entries.insert(uid.clone(), Entry { inbox: inbox.clone(), admitted: false });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(Worker::new(shared.clone(), uid, inbox).run());
    }

    /// Every pod admitted to this node, but one.
    pub fn admitted(&self, but: &str) -> Vec<Arc<Pod>> {
        let entries = self.lock();
        let others = entries.iter().filter(|(uid, entry)| entry.admitted && uid.as_str() != but);
        let pods = others.map(|(_, entry)| entry.inbox.news.lock().unwrap_or_else(PoisonError::into_inner).pod.clone());
        pods.filter(|pod| !api::pods::is_terminal(pod)).collect()
    }

    /// A pod counts as being on this node.
    pub fn admit(&self, uid: &str) {
        if let Some(entry) = self.lock().get_mut(uid) {
            entry.admitted = true;
        }
    }

    /// Every pod that has a worker and is wanted here.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let entries = self.lock();
        let news =
            entries.values().map(|entry| entry.inbox.news.lock().unwrap_or_else(PoisonError::into_inner).clone());
        news.filter(|news| !news.gone).map(|news| news.pod).collect()
    }

    /// A worker has nothing left to do; answers false if its pod came back meanwhile.
    pub fn finish(&self, uid: &str) -> bool {
        let mut entries = self.lock();
        let gone =
            entries.get(uid).is_none_or(|entry| entry.inbox.news.lock().unwrap_or_else(PoisonError::into_inner).gone);
        if gone {
            entries.remove(uid);
        }
        gone
    }

    /// Ends all tasks. What runs in the runtime goes on.
    pub fn stop(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
