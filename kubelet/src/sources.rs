//! Where the pods of this node come from: the API, and a directory of manifests (static pods).
//!
//! Entry: [`follow_api`] and [`StaticPods::run`]. Invariant: a static pod runs whether or not the API answers; its mirror
//! in the API only shows it, and is made again when someone deletes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::well_known::annotations::{CONFIG_HASH, CONFIG_MIRROR, CONFIG_SEEN, CONFIG_SOURCE};
use client::{Change, Store};
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use nix::sys::inotify::AddWatchFlags;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::directory_watch::DirectoryWatch;
use crate::shared::{Shared, key};

const RETRY: Duration = Duration::from_secs(10);

/// True if the pod comes from a manifest of this node.
pub fn is_static(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(CONFIG_SOURCE)).is_some_and(|source| source != "api")
        && annotations.is_some_and(|all| !all.contains_key(CONFIG_MIRROR))
}

/// True if the record only shows a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(CONFIG_MIRROR))
}

/// The uid of the record in the API that shows a pod: its own, or its mirror's if there is one.
pub fn record_uid(pods: &Store<Pod>, pod: &Pod) -> Option<String> {
    if !is_static(pod) {
        return pod.metadata.uid.clone();
    }
    pods.get(&key(pod)).filter(|record| is_mirror(record))?.metadata.uid.clone()
}

/// Gives the pods of the API to their workers, from now on.
pub fn follow_api(shared: &Arc<Shared>, mirrors_changed: Arc<tokio::sync::Notify>) {
    let weak = Arc::downgrade(shared);
    shared.pods.on_change(move |change| {
        let Some(shared) = weak.upgrade() else { return };
        if is_mirror(change.object()) {
            mirrors_changed.notify_one();
            return;
        }
        match change {
            Change::Upsert { old, new } => {
                // Deleted and made again between two looks: the old one has to go.
                if let Some(old) = old.filter(|old| old.metadata.uid != new.metadata.uid) {
                    shared.workers.gone(old.metadata.uid.as_deref().unwrap_or_default());
                }
                shared.workers.update(&shared, new);
            }
            Change::Delete { old } => shared.workers.gone(old.metadata.uid.as_deref().unwrap_or_default()),
        }
    });
}

/// The pods of a directory of manifests.
pub struct StaticPods {
    shared: Arc<Shared>,
    directory: PathBuf,
    mirrors_changed: Arc<tokio::sync::Notify>,
    /// The uids last found.
    present: BTreeSet<String>,
}

impl StaticPods {
    /// Nothing has been read yet.
    pub fn new(shared: Arc<Shared>, directory: PathBuf, mirrors_changed: Arc<tokio::sync::Notify>) -> Self {
        Self { shared, directory, mirrors_changed, present: BTreeSet::new() }
    }

    /// Reads the directory and gives its pods to their workers.
    pub fn read(&mut self) {
        let pods = read_manifests(&self.directory, &self.shared.config.node_name);
        let uids: BTreeSet<String> = pods.keys().cloned().collect();
        for gone in self.present.difference(&uids) {
            self.shared.workers.gone(gone);
        }
        self.present = uids;
        for pod in pods.into_values() {
            self.shared.workers.update(&self.shared, Arc::new(pod));
        }
    }

    /// Follows the directory and keeps the mirrors, until the token is cancelled.
    pub async fn run(mut self, token: CancellationToken) {
        let watch = match directory_watch(&self.directory) {
            Ok(watch) => watch,
            Err(error) => {
                tracing::error!(directory = %self.directory.display(), %error, "manifests cannot be followed");
                return;
            }
        };
        self.shared.pods.synced().await;
        loop {
            self.read();
            let settled = self.keep_mirrors().await;
            let retry = async { if settled { std::future::pending().await } else { tokio::time::sleep(RETRY).await } };
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                changed = watch.changed() => if let Err(error) = changed {
                    tracing::error!(%error, "manifests are not followed any more");
                    return;
                },
                () = self.mirrors_changed.notified() => {}
                () = retry => {}
            }
        }
    }

    /// Makes the mirrors that are missing and removes those whose pod is gone; false if that did not work out.
    async fn keep_mirrors(&self) -> bool {
        let node = Api::<Node>::all(self.shared.client.clone()).get_opt(&self.shared.config.node_name).await;
        let Ok(Some(node)) = node else { return false };
        let statics: Vec<_> = self.shared.workers.pods().into_iter().filter(|pod| is_static(pod)).collect();
        let mut settled = true;
        for pod in &statics {
            let record = self.shared.pods.get(&key(pod));
            let wanted = pod.metadata.uid.as_deref();
            let current = record.as_ref().and_then(|record| record.metadata.annotations.as_ref()?.get(CONFIG_MIRROR));
            settled &= match (&record, current.map(String::as_str) == wanted) {
                (Some(_), true) => true,
                (Some(record), false) => {
                    // Its deletion is news, after which the right one is made.
                    self.remove(record).await;
                    false
                }
                (None, _) => self.create(pod, &node).await,
            };
        }
        for record in self.shared.pods.list().iter().filter(|record| is_mirror(record)) {
            if !statics.iter().any(|pod| key(pod) == key(record)) {
                settled &= self.remove(record).await;
            }
        }
        settled
    }

    async fn create(&self, pod: &Pod, node: &Node) -> bool {
        let mut mirror = pod.clone();
        let hash = mirror.metadata.uid.take().unwrap_or_default();
        mirror.metadata.annotations.get_or_insert_default().insert(CONFIG_MIRROR.into(), hash);
        mirror.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: node.metadata.name.clone().unwrap_or_default(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
        let namespace = mirror.metadata.namespace.clone().unwrap_or_default();
        let made = Api::<Pod>::namespaced(self.shared.client.clone(), &namespace)
            .create(&PostParams::default(), &mirror)
            .await;
        // The worker reports once there is a record to report to.
        if made.is_ok() {
            self.shared.workers.runtime_changed(pod.metadata.uid.as_deref().unwrap_or_default());
        }
        made.is_ok()
    }

    async fn remove(&self, record: &Pod) -> bool {
        let namespace = record.metadata.namespace.clone().unwrap_or_default();
        let preconditions = Preconditions { uid: record.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams::default().grace_period(0).preconditions(preconditions);
        let api = Api::<Pod>::namespaced(self.shared.client.clone(), &namespace);
        match api.delete(&key(record).name, &parameters).await.map_err(client::Error::from) {
            Ok(_) => true,
            Err(error) => error.is_not_found(),
        }
    }
}

fn directory_watch(directory: &Path) -> std::io::Result<DirectoryWatch> {
    std::fs::create_dir_all(directory)?;
    let wanted = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    DirectoryWatch::new(directory, wanted)
}

/// The pods in a directory, by uid. A file that is no pod is reported and skipped.
fn read_manifests(directory: &Path, node: &str) -> BTreeMap<String, Pod> {
    let mut pods = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(directory) else { return pods };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let hidden = file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if hidden || !file.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        match serde_yaml::from_str::<Pod>(&text) {
            Ok(pod) => {
                let pod = static_pod(pod, &text, node);
                pods.insert(pod.metadata.uid.clone().unwrap_or_default(), pod);
            }
            Err(error) => tracing::warn!(file = %file.display(), %error, "not a pod"),
        }
    }
    pods
}

/// A pod of a manifest, made complete: its node, its name on it, and a uid that changes with its contents.
fn static_pod(mut pod: Pod, text: &str, node: &str) -> Pod {
    let mut hasher = Sha256::new();
    hasher.update(node.as_bytes());
    hasher.update(text.as_bytes());
    let uid: String = hasher.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{}-{node}", meta.name.as_deref().unwrap_or_default()));
    meta.namespace.get_or_insert_with(|| "default".into());
    meta.uid = Some(uid.clone());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(CONFIG_SOURCE.into(), "file".into());
    annotations.insert(CONFIG_HASH.into(), uid.clone());
    annotations.remove(CONFIG_SEEN);
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    let everything =
        Toleration { operator: Some("Exists".into()), effect: Some("NoExecute".into()), ..Toleration::default() };
    spec.tolerations.get_or_insert_default().push(everything);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_become_pods() {
        let dir = std::env::temp_dir().join(format!("kubelet-manifests-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";
        std::fs::write(dir.join("web.yaml"), text).expect("written");
        std::fs::write(dir.join("junk.yaml"), "- 1").expect("written");
        std::fs::write(dir.join(".hidden"), text).expect("written");
        let pods = read_manifests(&dir, "n1");
        std::fs::remove_dir_all(&dir).expect("removed");
        let pod = pods.values().next().expect("a pod");
        assert_eq!((pods.len(), pod.metadata.name.as_deref()), (1, Some("web-n1")));
        assert!(is_static(pod) && !is_mirror(pod));
    }
}
