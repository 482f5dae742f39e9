//! What becomes of CustomResourceDefinitions: their names are accepted or found taken, their kinds are served, and when one is
//! deleted its objects go first. Upstream's naming, establishing and finalizing controllers and its registration, as one task.
//!
//! Entry points: [`begin`] before the server is ready, [`keep`] until it ends. Invariant: a definition that says `Established` is
//! served, in discovery and OpenAPI too; one that is gone is not.

mod finalizing;
pub mod names;
mod serving;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::error::ApiError;
use api::names::Revision;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::ApiServer;
use crate::audit::Annotations;
use crate::authn::User;
use crate::cache::{Entry, Selection, WatchFrom, Watcher};
use crate::http::health::Step;
use crate::http::options::Options;
use crate::read::storage_error;
use crate::resources::{Strategy, Subresource};
use crate::write::{self, Place, Replacement, Warnings};
use serving::Serving;

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";
/// How long to wait before trying again what failed, or what waits for objects that are kept by finalizers.
const RETRY: Duration = Duration::from_secs(1);
/// Who owns the fields that the server writes.
const MANAGER: &str = "kube-apiserver";

/// Serves what the store knows already. The cache must be loaded.
pub async fn begin(server: &Arc<ApiServer>) -> Result<Definitions, ApiError> {
    server.cache.fresh().await.map_err(storage_error)?;
    let mut definitions = Definitions::new(server);
    let known = definitions.read();
    definitions.serving.bring_to(&known).await?;
    Ok(definitions)
}

/// Reacts to every change until the server ends.
pub async fn keep(mut definitions: Definitions, token: CancellationToken) {
    let mut watcher = None;
    loop {
        if watcher.is_none() {
            watcher = definitions.watch();
        }
        let steps = Arc::clone(&definitions.server.steps);
        if watcher.is_some() {
            steps.done(&[Step::DefinitionInformers]);
        }
        let done = match definitions.reconcile().await {
            Ok(done) => {
                steps.done(&[Step::DefinitionControllers]);
                done
            }
            Err(error) => {
                tracing::warn!(%error, "custom resource definitions were not brought up to date");
                false
            }
        };
        let wake = (!done || watcher.is_none()).then(|| Instant::now() + RETRY);
        tokio::select! {
            biased;
            () = token.cancelled() => return,
            more = changed(&mut watcher) => if !more { watcher = None },
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
}

/// Waits for a change; false when the watch has ended.
async fn changed(watcher: &mut Option<Watcher>) -> bool {
    match watcher {
        Some(watcher) => watcher.next().await.is_some(),
        None => std::future::pending().await,
    }
}

/// What requests tell clients and auditors besides the answer; here nobody listens.
#[derive(Default)]
struct Notes {
    warnings: Warnings,
    annotations: Annotations,
}

/// The definitions as they are, and what is served of them.
pub struct Definitions {
    server: Arc<ApiServer>,
    user: User,
    serving: Serving,
    /// What was read already, and of which revision.
    known: BTreeMap<String, (Revision, Arc<CustomResourceDefinition>)>,
}

/// All definitions by name.
type All = BTreeMap<String, Arc<CustomResourceDefinition>>;

impl Definitions {
    fn new(server: &Arc<ApiServer>) -> Self {
        Self {
            server: Arc::clone(server),
            user: User::apiserver(),
            serving: Serving::new(server),
            known: BTreeMap::new(),
        }
    }

    fn watch(&self) -> Option<Watcher> {
        let resource = self.server.cache.resource(PREFIX)?;
        resource.watch(WatchFrom::After(resource.revision()), Selection::everything()).ok()
    }

    /// All definitions as they are; those that did not change are the same as before.
    fn read(&mut self) -> All {
        let Some(resource) = self.server.cache.resource(PREFIX) else { return All::new() };
        let (snapshot, everything) = (resource.snapshot(), Selection::everything());
        let before = std::mem::take(&mut self.known);
        let read = |entry: &Arc<Entry>| {
            let name = entry.name().to_owned();
            if let Some(same) = before.get(&name).filter(|(revision, _)| *revision == entry.revision) {
                return Some((name, same.clone()));
            }
            let read = serde_json::from_slice::<CustomResourceDefinition>(&entry.json());
            let read = read.inspect_err(|error| tracing::error!(key = &*entry.key, %error, "definition can't be read"));
            Some((name, (entry.revision, Arc::new(read.ok()?))))
        };
        self.known = snapshot.select(&everything, None).filter_map(read).collect();
        self.known.iter().map(|(name, (_, definition))| (name.clone(), Arc::clone(definition))).collect()
    }

    /// Brings everything up to date; false if something has to be looked at again though nothing changes.
    async fn reconcile(&mut self) -> Result<bool, ApiError> {
        let mut definitions = self.read();
        self.serving.bring_to(&definitions).await?;
        for name in definitions.keys().cloned().collect::<Vec<_>>() {
            let now = Time(self.server.clock.now_seconds());
            let Some(next) = names::accept(&name, &definitions, &now) else { continue };
            definitions.insert(name, Arc::new(next.clone()));
            // Whoever reads that a kind is established can use it.
            self.serving.bring_to(&definitions).await?;
            self.write(next).await?;
        }
        let mut done = true;
        for definition in definitions.into_values().filter(|definition| finalizing::is_wanted(definition)) {
            done &= self.finalize(definition.as_ref().clone()).await?;
        }
        Ok(done)
    }

    /// Writes a definition's status; if somebody else was faster, that change wakes us again.
    async fn write(&self, definition: CustomResourceDefinition) -> Result<Option<CustomResourceDefinition>, ApiError> {
        let Some(strategy) = self.server.resources.find(GROUP, "v1", PLURAL) else { return Ok(None) };
        let name = definition.metadata.name.clone().unwrap_or_default();
        let notes = Notes::default();
        let place =
            Place { subresource: Some(Subresource::Status), ..self.place(strategy.as_ref(), "", &name, &notes) };
        match write::update(&place, Replacement::Object(Box::new(definition))).await {
            Ok(updated) if updated.removed => Ok(None),
            Ok(updated) => Ok(serde_json::from_value(updated.object.to_value()).ok()),
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn place<'a>(
        &'a self,
        strategy: &'a dyn Strategy,
        namespace: &'a str,
        name: &'a str,
        notes: &'a Notes,
    ) -> Place<'a> {
        Place {
            server: &self.server,
            strategy,
            namespace,
            name,
            subresource: None,
            user: &self.user,
            manager: MANAGER,
            dry_run: false,
            warnings: &notes.warnings,
            annotations: &notes.annotations,
            options: Options::None,
        }
    }
}
