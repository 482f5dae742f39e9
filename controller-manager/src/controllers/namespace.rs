//! Namespace: empties a namespace that is being deleted, then lets it go.
//!
//! Entry point: [`start`]. Pods go first, with their grace; the rest follows when no pod is left. Invariant: the finalizer goes only after
//! a round that found nothing in any kind that discovery knows.

pub mod plan;

use std::time::Duration;

use api::ObjectKey;
use api::well_known::finalizers::KUBERNETES;
use client::{Change, Error, Outcome, Reconcile, WorkQueue, WrittenRevisions};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};
use process::Clock;

use self::plan::{Content, Plan};
use crate::context::{Context, writing};
use crate::inventory::{self, Kind, Metadata};
use crate::stores::Stores;

const WORKERS: usize = 5;

/// Runs the controller.
pub fn start(context: &mut Context) {
    let (queue, written) = (WorkQueue::new(), WrittenRevisions::new());
    watch(context, &queue);
    let reconciler = Namespaces {
        client: context.client.clone(),
        stores: context.stores.clone(),
        clock: context.clock,
        written: written.clone(),
    };
    context.run(reconciler, queue, written, WORKERS);
}

fn watch(context: &mut Context, queue: &WorkQueue<ObjectKey>) {
    let keys = queue.clone();
    context.stores.namespaces.on_change(move |change: Change<Namespace>| {
        if let Change::Upsert { new, .. } = &change
            && new.metadata.deletion_timestamp.is_some()
        {
            keys.add(ObjectKey::of(&new.metadata));
        }
    });
    // What disappears from a namespace may have been the last thing in it.
    let (keys, namespaces) = (queue.clone(), context.stores.namespaces.clone());
    context.inventory.subscribe(move |_, change: &Change<Metadata>| {
        let Change::Delete { old } = change else { return };
        let key = ObjectKey::cluster(old.metadata.namespace.as_deref().unwrap_or_default());
        if namespaces.get(&key).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            keys.add(key);
        }
    });
}

struct Namespaces {
    client: Client,
    stores: Stores,
    clock: Clock,
    written: WrittenRevisions<ObjectKey>,
}

impl Reconcile for Namespaces {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "namespace"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(namespace) = self.stores.namespaces.get(key) else { return Ok(Outcome::Done) };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_none() || finalizers.is_empty() {
            return Ok(Outcome::Done);
        }
        let content = self.empty(&key.name).await;
        let before = namespace.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let plan = plan::plan(self.clock.now(), before, &content);
        self.apply(key, &namespace, plan, &content).await
    }
}

impl Namespaces {
    /// One round: deletes what can be deleted and tells what is left.
    async fn empty(&self, namespace: &str) -> Content {
        let mut content = Content::default();
        let kinds = match inventory::discover(&self.client).await {
            Ok(kinds) => kinds,
            Err(error) => {
                content.discovery_failure = Some(error.to_string());
                return content;
            }
        };
        let (pods, others): (Vec<_>, Vec<_>) =
            kinds.into_iter().filter(|kind| kind.namespaced).partition(|kind| kind.group_resource() == "pods.");
        for kind in &pods {
            self.empty_of(kind, namespace, &mut content).await;
        }
        content.pods_grace = self.longest_grace(namespace).await;
        if content.remaining.is_empty() && content.failures.is_empty() {
            for kind in &others {
                self.empty_of(kind, namespace, &mut content).await;
            }
        }
        content
    }

    async fn empty_of(&self, kind: &Kind, namespace: &str, content: &mut Content) {
        match self.delete_all(kind, namespace).await {
            Ok(left) => {
                if !left.is_empty() {
                    content.remaining.insert(kind.group_resource(), left.len());
                }
                for finalizer in left.iter().flat_map(|object| object.metadata.finalizers.iter().flatten()) {
                    *content.finalizers.entry(finalizer.clone()).or_default() += 1;
                }
            }
            Err(error) => content.failures.push(error.to_string()),
        }
    }

    /// Deletes all objects of a kind and answers those that are still there.
    async fn delete_all(&self, kind: &Kind, namespace: &str) -> Result<Vec<Metadata>, Error> {
        let api = kind.api(&self.client, namespace);
        let there = api.list_metadata(&ListParams::default()).await?.items;
        if there.iter().all(|object| object.metadata.deletion_timestamp.is_some()) {
            return Ok(there);
        }
        let background = DeleteParams::background();
        if kind.verbs.iter().any(|verb| verb == "deletecollection") {
            api.delete_collection(&background, &ListParams::default()).await?;
        } else {
            for object in &there {
                match api
                    .delete(object.metadata.name.as_deref().unwrap_or_default(), &background)
                    .await
                    .map_err(Error::from)
                {
                    Ok(_) => {}
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(api.list_metadata(&ListParams::default()).await?.items)
    }

    async fn longest_grace(&self, namespace: &str) -> Duration {
        let grace = |pod: &Pod| u64::try_from(pod.metadata.deletion_grace_period_seconds.unwrap_or_default()).ok();
        let pods = self.stores.pods.in_namespace(namespace);
        Duration::from_secs(pods.iter().filter_map(|pod| grace(pod)).max().unwrap_or_default())
    }

    async fn apply(
        &self,
        key: &ObjectKey,
        namespace: &Namespace,
        plan: Plan,
        content: &Content,
    ) -> Result<Outcome, Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let mut latest = namespace.clone();
        if let Some(conditions) = plan.conditions {
            latest.status.get_or_insert_default().conditions = Some(conditions);
            match api.replace_status(&key.name, &writing(), &latest).await.map_err(Error::from) {
                Ok(new) => {
                    self.written.object(key, &self.stores.namespaces, &new);
                    latest = new;
                }
                Err(error) if error.is_not_found() => return Ok(Outcome::Done),
                Err(error) => return Err(self.written.failed(key, &self.stores.namespaces, error)),
            }
        }
        if plan.finalize {
            self.finalize(key, latest).await?;
            return Ok(Outcome::Done);
        }
        match (plan.look_again, content.failures.first().or(content.discovery_failure.as_ref())) {
            (_, Some(failure)) => Err(Error::Undecided(failure.clone())),
            (Some(wait), None) => Ok(Outcome::After(wait)),
            (None, None) => Ok(Outcome::Done),
        }
    }

    async fn finalize(&self, key: &ObjectKey, mut namespace: Namespace) -> Result<(), Error> {
        if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != KUBERNETES);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        match api.replace_subresource("finalize", &key.name, &writing(), &namespace).await.map_err(Error::from) {
            Ok(_) => {
                let uid = namespace.metadata.uid.as_deref().unwrap_or_default();
                tracing::info!(namespace = %key.name, uid, "namespace emptied");
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(self.written.failed(key, &self.stores.namespaces, error)),
        }
    }
}
