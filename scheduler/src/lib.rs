//! The scheduler: chooses a node for every pod that has none.
//!
//! Entry points: [`start`] in-process, [`run`] as a process. The flow of one pod: [`queue`] -> [`cycle`] on the
//! [`snapshot`] with the [`plugins`] -> assumed in the [`cache`] -> [`bind`]; if it fits nowhere, [`preemption`], a
//! condition, an event, and back into the queue until a change helps. Invariant: `cycle`, `preemption`, `queue` and
//! `state` do no I/O; only `bind` writes.

pub mod args;
pub mod bind;
pub mod cache;
pub mod cycle;
pub mod node_info;
pub mod plugins;
pub mod preemption;
pub mod queue;
pub mod scheduler;
pub mod snapshot;
pub mod state;

#[cfg(test)]
mod fixtures;

use std::net::SocketAddr;

use anyhow::Context;
use client::LeaderElection;
use client::leader::Ended;
use process::health::Readiness;
use process::metrics::Registry;
use process::{Clock, Rng, health, signals};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use args::Args;
pub use scheduler::Scheduler;

/// Schedules until the token is cancelled, without leader election and ports: for a cluster in one process.
pub async fn start(client: kube::Client, clock: Clock, rng: Rng, token: CancellationToken) {
    let scheduler = Scheduler { client, clock, rng, host: String::new(), metrics: Registry::new() };
    scheduler.run(token).await;
}

/// The process.
pub async fn run(args: Args) -> anyhow::Result<()> {
    args.verbosity.start("scheduler");
    let (token, clock, rng) = (signals::shutdown_token(), Clock::system(), Rng::from_entropy());
    let client = client::kube_client(&args.kubeconfig, "kube-scheduler").await?;
    let (metrics, readiness, host) = (Registry::new(), Readiness::new(), process::host_name());
    let mut side = JoinSet::new();
    if args.secure_port != 0 {
        let address = SocketAddr::new(args.bind_address, args.secure_port);
        let listener = health::listen(address).await?;
        side.spawn(health::serve_on(listener, readiness.clone(), metrics.clone(), token.clone()));
    }
    readiness.set(true);
    let scheduler = Scheduler { client: client.clone(), clock, rng: rng.clone(), host: host.clone(), metrics };
    if !args.leader_elect {
        scheduler.run(token).await;
        return Ok(());
    }
    let election = LeaderElection {
        client,
        namespace: api::well_known::namespaces::SYSTEM.to_owned(),
        name: "kube-scheduler".to_owned(),
        identity: args.leader_elect_identity.unwrap_or_else(|| format!("{host}_{}", rng.uuid())),
        clock,
        rng,
    };
    match election.run(token, |term| scheduler.run(term)).await {
        Ended::Shutdown | Ended::WorkDone => Ok(()),
        Ended::Lost => Err(anyhow::anyhow!("the lease was lost")).context("leader election"),
    }
}
