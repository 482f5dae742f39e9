//! Garbage collection: objects go when the last of their owners is gone, in the background, in the foreground, or not at all.
//!
//! Entry point: [`start`]. The graph tells what to look at; what happens is decided in `plan` from a live look at the object and its
//! owners. Invariant: every deletion carries the uid and the resourceVersion of what was looked at.

mod apply;
pub mod graph;
pub mod plan;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::well_known::finalizers::FOREGROUND;
use client::{Change, Error, Outcome, Reconcile, WorkQueue};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;

use self::graph::{Graph, Identity, Node, Work};
use self::plan::Owner;
use crate::context::Context;
use crate::inventory::{Inventory, Kind, Metadata};

const WORKERS: usize = 20;
/// How long to wait before asking again about an object of a kind that discovery does not know.
const UNKNOWN_KIND: Duration = Duration::from_secs(30);

/// Runs the controller; its keys are uids and what to do about them.
pub fn start(context: &mut Context) {
    let queue = WorkQueue::new();
    let graph = Arc::new(Mutex::new(Graph::default()));
    let (keys, shared) = (queue.clone(), graph.clone());
    context.inventory.subscribe(move |kind: &Kind, change: &Change<Metadata>| {
        let mut graph = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let work = match change {
            Change::Upsert { new, .. } => {
                graph.upsert(Node::of(&kind.resource.api_version, &kind.resource.kind, &new.metadata))
            }
            Change::Delete { old } => graph.mark_absent(old.metadata.uid.as_deref().unwrap_or_default()),
        };
        work.into_iter().for_each(|work| keys.add(work));
    });
    let reconciler =
        Collector { client: context.client.clone(), inventory: context.inventory.clone(), graph, queue: queue.clone() };
    context.run_on_inventory(reconciler, queue, WORKERS);
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Delete(uid) => write!(f, "delete {uid}"),
            Work::Orphan(uid) => write!(f, "orphan dependents of {uid}"),
        }
    }
}

struct Collector {
    client: Client,
    inventory: Inventory,
    graph: Arc<Mutex<Graph>>,
    queue: WorkQueue<Work>,
}

/// What a live look found.
enum Look {
    /// The object, as it is.
    Found(Box<ObjectMeta>),
    /// There is none with this uid.
    Gone,
    /// Its kind is not known, so nothing can be said.
    Unknown,
}

impl Reconcile for Collector {
    type Key = Work;

    fn name(&self) -> &'static str {
        "garbagecollector"
    }

    async fn reconcile(&self, work: &Work) -> Result<Outcome, Error> {
        match work {
            Work::Delete(uid) => self.attempt_to_delete(uid).await,
            Work::Orphan(uid) => self.orphan_dependents(uid).await,
        }
    }
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, work: Vec<Work>) {
        work.into_iter().for_each(|work| self.queue.add(work));
    }

    fn gone(&self, uid: &str) {
        let work = self.graph().mark_absent(uid);
        self.add(work);
    }

    async fn attempt_to_delete(&self, uid: &str) -> Result<Outcome, Error> {
        let (node, dependents) = {
            let graph = self.graph();
            let Some(node) = graph.get(uid).cloned() else { return Ok(Outcome::Done) };
            (node, graph.dependents(uid).into_iter().cloned().collect::<Vec<_>>())
        };
        if node.observed && node.owners.is_empty() && !node.foreground {
            return Ok(Outcome::Done);
        }
        let meta = match self.look(&node.identity).await? {
            Look::Found(meta) => meta,
            Look::Gone => {
                self.gone(uid);
                return Ok(Outcome::Done);
            }
            Look::Unknown => {
                self.inventory.refresh();
                return Ok(Outcome::After(UNKNOWN_KIND));
            }
        };
        let mut owners = Vec::new();
        for reference in meta.owner_references.iter().flatten() {
            match self.owner(&node.identity, reference).await? {
                Some(owner) => owners.push((reference.clone(), owner)),
                None => return Ok(Outcome::After(UNKNOWN_KIND)),
            }
        }
        let dependents: Vec<&Node> = dependents.iter().collect();
        let plan = plan::plan(&meta, &owners, &dependents);
        self.apply(&node.identity, &meta, plan).await?;
        Ok(Outcome::Done)
    }

    /// Reads an object's metadata; another object of the same name is not it.
    async fn look(&self, identity: &Identity) -> Result<Look, Error> {
        let Some(kind) = self.inventory.kind(&identity.api_version, &identity.kind) else { return Ok(Look::Unknown) };
        let found = kind.api(&self.client, &identity.namespace).get_metadata_opt(&identity.name).await?;
        Ok(match found {
            Some(object) if object.metadata.uid.as_deref() == Some(&identity.uid) => {
                Look::Found(Box::new(object.metadata))
            }
            Some(_) | None => Look::Gone,
        })
    }

    /// How an owner fares; `None` if its kind is not known or it cannot be reached from here.
    async fn owner(&self, dependent: &Identity, reference: &OwnerReference) -> Result<Option<Owner>, Error> {
        let in_namespace =
            self.inventory.kind(&reference.api_version, &reference.kind).is_some_and(|kind| kind.namespaced);
        if in_namespace && dependent.namespace.is_empty() {
            // An object of the cluster cannot have an owner in a namespace: that is a mistake, not an absence.
            return Ok(Some(Owner::Solid));
        }
        if self.graph().is_absent(&reference.uid) {
            return Ok(Some(Owner::Absent));
        }
        let identity = Identity {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            namespace: dependent.namespace.clone(),
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        };
        Ok(match self.look(&identity).await? {
            Look::Unknown => {
                self.inventory.refresh();
                None
            }
            Look::Gone => Some(Owner::Absent),
            Look::Found(meta) => {
                let waits = meta.finalizers.iter().flatten().any(|finalizer| finalizer == FOREGROUND);
                Some(if meta.deletion_timestamp.is_some() && waits { Owner::Waiting } else { Owner::Solid })
            }
        })
    }
}
