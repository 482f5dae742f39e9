//! What a controller gets when it is started, and who owns its tasks.
//!
//! Entry points: [`Context::new`], [`Context::run`], [`Context::finish`]. Invariant: every task belongs to the context; dropping it ends them all.

use std::pin::Pin;
use std::sync::Arc;

use client::{Controller, Informers, Reconcile, Recorder, WorkQueue, WrittenRevisions};
use kube::Client;
use kube::api::{DeleteParams, PatchParams, PostParams, Preconditions};
use process::{Clock, Rng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::daemon::NAME;
use crate::inventory::Inventory;
use crate::stores::Stores;

/// What a controller gets when it is started.
pub struct Context {
    /// The API.
    pub client: Client,
    /// What the flags said.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// What is known of the cluster.
    pub stores: Stores,
    /// The metadata of everything that can be deleted.
    pub inventory: Inventory,
    token: CancellationToken,
    informers: Informers,
    tasks: JoinSet<()>,
    /// Controllers that start when the stores are filled, and those that need the inventory, too.
    waiting: [Vec<Work>; 2],
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Context {
    /// Starts to follow the cluster; no controller runs yet.
    pub fn new(client: Client, config: Arc<Config>, clock: Clock, rng: Rng, token: CancellationToken) -> Self {
        let mut informers = Informers::new(rng.fork());
        let stores = Stores::start(&client, &mut informers);
        let inventory = Inventory::new(client.clone(), rng);
        Self {
            client,
            config,
            clock,
            stores,
            inventory,
            token,
            informers,
            tasks: JoinSet::new(),
            waiting: Default::default(),
        }
    }

    /// The events of one controller.
    pub fn recorder(&mut self, component: &str) -> Recorder {
        let (client, clock, token) = (self.client.clone(), self.clock, self.token.clone());
        Recorder::start(client, component, "", clock, &mut self.tasks, token)
    }

    /// Runs a controller as soon as the stores are filled.
    pub fn run<R: Reconcile>(
        &mut self,
        reconciler: R,
        queue: WorkQueue<R::Key>,
        written: WrittenRevisions<R::Key>,
        workers: usize,
    ) {
        let controller = Controller::new(reconciler, queue).written(written).workers(workers);
        self.waiting[0].push(Box::pin(controller.run(self.token.clone())));
    }

    /// Runs a controller as soon as the stores and the inventory are filled; it writes nothing that a store shows.
    pub fn run_on_inventory<R: Reconcile>(&mut self, reconciler: R, queue: WorkQueue<R::Key>, workers: usize) {
        let controller = Controller::new(reconciler, queue).workers(workers);
        self.waiting[1].push(Box::pin(controller.run(self.token.clone())));
    }

    /// Runs a controller as soon as the stores and the inventory are filled.
    pub fn run_on_both<R: Reconcile>(
        &mut self,
        reconciler: R,
        queue: WorkQueue<R::Key>,
        written: WrittenRevisions<R::Key>,
        workers: usize,
    ) {
        let controller = Controller::new(reconciler, queue).written(written).workers(workers);
        self.waiting[1].push(Box::pin(controller.run(self.token.clone())));
    }

    /// Works until the token is cancelled and every task has ended.
    ///
    /// One task waits and starts the controllers in the order of the table: waking many at once would not be the same
    /// in every run.
    pub async fn finish(mut self) {
        if let Some(task) = self.inventory.start(self.token.clone()) {
            self.tasks.spawn(task);
        }
        let [first, second] = std::mem::take(&mut self.waiting);
        let token = self.token.clone();
        let started = async {
            self.stores.synced().await;
            first.into_iter().for_each(|work| drop(self.tasks.spawn(work)));
            if !second.is_empty() {
                self.inventory.synced().await;
                second.into_iter().for_each(|work| drop(self.tasks.spawn(work)));
            }
        };
        tokio::select! {
            biased;
            () = token.cancelled() => {}
            () = started => {}
        }
        self.token.cancelled().await;
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the controllers broke");
            }
        }
        drop(self.informers);
    }
}

/// Parameters of creations and updates: the name under which our fields are managed.
pub fn writing() -> PostParams {
    PostParams { field_manager: Some(NAME.to_owned()), ..PostParams::default() }
}

/// Parameters of patches.
pub fn patching() -> PatchParams {
    PatchParams { field_manager: Some(NAME.to_owned()), ..PatchParams::default() }
}

/// Parameters of a deletion of exactly the object with this uid.
pub fn deleting(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}
