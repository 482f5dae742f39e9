//! What a controller gets when it is started, and who owns its tasks.
//!
//! Entry points: [`Context::new`], [`Context::run`], [`Context::finish`]. Invariant: every task belongs to the context; dropping it ends them all.

use std::sync::Arc;

use client::{Controller, Informers, Reconcile, Recorder, WorkQueue, WrittenRevisions};
use kube::Client;
use kube::api::{DeleteParams, PatchParams, PostParams, Preconditions};
use process::{Clock, Rng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::inventory::Inventory;
use crate::daemon::NAME;
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
}

impl Context {
    /// Starts to follow the cluster; no controller runs yet.
    pub fn new(client: Client, config: Arc<Config>, clock: Clock, rng: Rng, token: CancellationToken) -> Self {
        let mut informers = Informers::new(rng.fork());
        let stores = Stores::start(&client, &mut informers);
        let inventory = Inventory::new(client.clone(), rng);
        Self { client, config, clock, stores, inventory, token, informers, tasks: JoinSet::new() }
    }

    /// The events of one controller.
    pub fn recorder(&mut self, component: &str) -> Recorder {
        let (client, clock, token) = (self.client.clone(), self.clock.clone(), self.token.clone());
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
        let (stores, token) = (self.stores.clone(), self.token.clone());
        let controller = Controller::new(reconciler, queue).written(written).workers(workers);
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                () = stores.synced() => {}
            }
            controller.run(token).await;
        });
    }

    /// Runs something beside the controllers.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Works until the token is cancelled and every task has ended.
    pub async fn finish(mut self) {
        if let Some(task) = self.inventory.start(self.token.clone()) {
            self.tasks.spawn(task);
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
