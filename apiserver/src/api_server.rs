//! [`ApiServer`]: everything that requests share. Entry points: [`ApiServer::build`], then [`ApiServer::start`].
//!
//! Built on any store and any clock; nothing here needs a socket, so a whole cluster can run in one thread on virtual time.

use std::sync::Arc;
use std::time::Duration;

use process::metrics::Registry;
use process::{Clock, Rng};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::lookup::{CacheLookup, Written};
use crate::admission::{Chain, Lookup};
use crate::aggregation::{Remote, Remotes};
use crate::args::Config;
use crate::audit::{Audit, AuditError};
use crate::authn::Authenticators;
use crate::authz::Authorizers;
use crate::cache::{Cache, ResourceSpec};
use crate::flow_control::FlowControl;
use crate::http::health::{Check, Checks, Step, Steps};
use crate::http::openapi::Documents;
use crate::metrics::Requests;
use crate::resources::{ResourceInfo, Resources, table};
use crate::service_ip::{Cidr, CidrError, Services};
use crate::storage::{self, Storage};
use crate::tokens::Tokens;
use crate::tokens::keys::KeyError;
use crate::view::View;
use crate::webhook;
use crate::write::claims::Claims;
use crate::write::recent::Recent;

/// How long the cache may take to load when the server starts.
const LOAD_PATIENCE: Duration = Duration::from_secs(60);
/// How long requests wait for the last steps of the start, which may fail.
const STEPS_PATIENCE: Duration = Duration::from_secs(1);
/// History older than this is forgotten.
const COMPACT_EVERY: Duration = Duration::from_secs(300);

/// Why a server can't be built or started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A key for service-account tokens can't be used.
    #[error("the keys of service-account tokens can't be used")]
    Keys(#[from] KeyError),
    /// The audit log can't be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The range of service addresses can't be used.
    #[error(transparent)]
    Services(#[from] CidrError),
    /// The cache did not load.
    #[error("the watch cache could not be loaded from the store")]
    Cache(#[from] crate::cache::Behind),
    /// What every cluster has could not be written.
    #[error("the cluster's first objects could not be written")]
    Bootstrap(#[source] api::ApiError),
}

/// See the module's documentation.
pub struct ApiServer {
    /// What is served.
    pub resources: Resources,
    /// Where it is kept.
    pub storage: Arc<dyn Storage>,
    /// Where it is read.
    pub cache: Arc<Cache>,
    /// Wall-clock time.
    pub clock: Clock,
    /// Names, uids, jitter.
    pub rng: Rng,
    /// Who asks.
    pub authenticators: Authenticators,
    /// May they.
    pub authorizers: Arc<Authorizers>,
    /// What else has a say in writes.
    pub admission: Chain,
    /// What plugins read.
    pub lookup: Arc<dyn Lookup>,
    /// The same without waiting.
    pub view: Arc<dyn View>,
    /// What plugins wait for.
    pub written: Arc<Written>,
    /// Service-account tokens.
    pub tokens: Arc<Tokens>,
    /// Addresses and ports of Services.
    pub services: Arc<dyn Claims>,
    /// What was written anew last.
    pub recent: Recent,
    /// Who charges which quota.
    pub quota_turns: crate::write::quota::Turns,
    /// How webhooks are called.
    pub webhooks: Arc<webhook::Client>,
    /// Who waits when there is too much to do.
    pub flow_control: FlowControl,
    /// The audit log, if there is one.
    pub audit: Option<Arc<Audit>>,
    /// Groups that other servers answer for.
    pub aggregation: Remotes,
    /// Counters and times.
    pub metrics: Registry,
    /// Those of requests.
    pub requests: Arc<Requests>,
    /// Behind `/livez` and `/readyz`.
    pub checks: Checks,
    /// How far the start has come.
    pub steps: Arc<Steps>,
    /// What is remembered of the OpenAPI documents.
    pub documents: Documents,
    /// Cancelled when the server ends: watches end too.
    pub draining: CancellationToken,
    /// Flags.
    pub config: Config,
}

impl ApiServer {
    /// A server over a store, which serves once [`Self::start`] has run.
    pub fn build(config: Config, storage: Arc<dyn Storage>, clock: Clock, rng: Rng) -> Result<Arc<Self>, StartError> {
        let resources = Resources::new(table());
        let cache = Cache::new(Arc::clone(&storage), specs(&resources));
        let written = Arc::new(Written::default());
        let lookup = Arc::new(CacheLookup::new(Arc::clone(&cache), Arc::clone(&written)));
        let tokens = Arc::new(Tokens::new(&config.issuer, &config.keys)?);
        let view: Arc<dyn View> = lookup.clone();
        let authorizers = Arc::new(Authorizers::new(Arc::clone(&view)));
        let advertised = std::net::SocketAddr::new(config.advertise_address, config.secure_port).to_string();
        let webhooks = Arc::new(webhook::Client::new(Arc::clone(&view), advertised));
        let audit = config.audit.as_ref().map(|audit| Audit::open(audit, clock, rng.clone())).transpose()?;
        let range = config.service_cidr.parse::<Cidr>()?;
        let services = Services::new(Arc::clone(&storage), clock, rng.clone(), range, config.node_ports.clone());
        let metrics = Registry::new();
        let steps = Arc::new(Steps::default());
        Ok(Arc::new(Self {
            flow_control: FlowControl::new(config.seats, metrics.clone()),
            resources,
            authenticators: Authenticators::new(Arc::clone(&tokens), Arc::clone(&view), clock),
            admission: crate::admission::chain(&rng, &authorizers, &view),
            authorizers,
            services: Arc::new(services),
            recent: Recent::default(),
            quota_turns: Default::default(),
            checks: checks(&cache, &steps),
            steps,
            lookup,
            view,
            written,
            storage,
            cache,
            clock,
            rng,
            tokens,
            webhooks,
            requests: Requests::new(&metrics),
            metrics,
            audit,
            aggregation: Remotes::default(),
            documents: Documents::default(),
            draining: CancellationToken::new(),
            config,
        }))
    }

    /// Starts what runs besides requests, and waits until the server can answer. The tasks end with the token.
    pub async fn start(self: &Arc<Self>, token: &CancellationToken) -> Result<JoinSet<()>, StartError> {
        let mut tasks = JoinSet::new();
        let (cache, ends) = (Arc::clone(&self.cache), token.clone());
        tasks.spawn(async move { cache.run(ends).await });
        self.cache.wait_for(api::names::Revision(0), LOAD_PATIENCE).await?;
        // Webhooks, policies and what else admission asks are read from the cache.
        self.steps.done(&[Step::Informers, Step::Admission]);
        crate::bootstrap::run(self).await.map_err(StartError::Bootstrap)?;
        let definitions = crate::definitions::begin(self).await.map_err(StartError::Bootstrap)?;
        self.steps.done(&[Step::Definitions]);
        tasks.spawn(crate::definitions::keep(definitions, token.clone()));
        let (server, ends) = (Arc::clone(self), token.clone());
        tasks.spawn(async move { crate::bootstrap::keep(server, ends).await });
        let watches = crate::bootstrap::flow_control::Watches::open(self);
        tasks.spawn(crate::bootstrap::flow_control::keep(Arc::clone(self), watches, token.clone()));
        tasks.spawn(crate::bootstrap::keep_api_services(Arc::clone(self), token.clone()));
        tasks.spawn(crate::bootstrap::policy_types::keep(Arc::clone(self), token.clone()));
        tasks.spawn(storage::compact_every(Arc::clone(&self.storage), COMPACT_EVERY, token.clone()));
        let (server, ends) = (Arc::clone(self), token.clone());
        tasks.spawn(async move {
            ends.cancelled().await;
            server.checks.drain();
            server.draining.cancel();
        });
        // Who asks after this finds the server ready, unless something keeps it from what it has to do.
        let _ = tokio::time::timeout(STEPS_PATIENCE, self.steps.finished()).await;
        Ok(tasks)
    }

    /// Groups that other servers answer for.
    pub fn remotes(&self) -> Arc<Vec<Remote>> {
        self.aggregation.current(self.view.as_ref())
    }

    /// Address and port at which members of the cluster reach this server.
    pub fn advertised(&self) -> String {
        std::net::SocketAddr::new(self.config.advertise_address, self.config.secure_port).to_string()
    }
}

/// What the cache holds: one entry for each place in the store, whoever serves it.
fn specs(resources: &Resources) -> Vec<ResourceSpec> {
    let served = resources.served();
    let mut specs: Vec<ResourceSpec> = Vec::new();
    for row in served.rows().iter().filter(|row| row.info().stored && row.served_as().is_none()) {
        let info = row.info();
        specs.push(spec(info));
    }
    for row in served.rows().iter().filter(|row| row.info().stored) {
        match specs.iter_mut().find(|spec| spec.prefix == row.info().key_prefix()) {
            Some(spec) => {
                for field in &row.info().fields {
                    if !spec.fields.iter().any(|known| known.name == field.name) {
                        spec.fields.push(field.clone());
                    }
                }
            }
            None => specs.push(spec(row.info())),
        }
    }
    specs
}

fn spec(info: &ResourceInfo) -> ResourceSpec {
    ResourceSpec {
        prefix: info.key_prefix(),
        api_version: info.api_version(),
        kind: info.kind.clone(),
        fields: info.fields.clone(),
        shown: None,
    }
}

fn checks(cache: &Arc<Cache>, steps: &Arc<Steps>) -> Checks {
    let check = |name, live, look: fn(&Cache) -> Result<(), String>| {
        let cache = Arc::clone(cache);
        Check { name, live, look: Box::new(move || look(&cache)) }
    };
    let loaded = |cache: &Cache| match cache.revision().0 {
        0 => Err("the watch cache is not loaded".to_owned()),
        _ => Ok(()),
    };
    let mut checks = vec![
        check("log", true, |_| Ok(())),
        check("etcd", true, loaded),
        check("etcd-readiness", false, loaded),
        check("informer-sync", false, loaded),
    ];
    checks.extend(steps.checks());
    Checks::new(checks)
}
