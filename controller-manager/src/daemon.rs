//! Running the controllers: as a process that waits to be the leader, or inside another program.
//!
//! Entry points: [`run`] and [`start`]. Invariant: when the token is cancelled or the lease is lost, no task of a controller is
//! left running.

use std::net::SocketAddr;
use std::sync::Arc;

use client::LeaderElection;
use client::leader::Ended;
use process::health::{self, Readiness};
use process::metrics::Registry;
use process::{Clock, Rng};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::{Args, Config, controllers};

/// The name under which this component writes, and which its Lease has.
pub const NAME: &str = "kube-controller-manager";

/// Runs the controllers as a process until it is told to stop.
pub async fn run(args: Args) -> anyhow::Result<()> {
    args.verbosity.start(NAME);
    let config = args.config()?;
    let token = process::signals::shutdown_token();
    let client = client::kube_client(&args.kubeconfig, NAME).await?;
    let (clock, rng) = (Clock::system(), Rng::from_entropy());
    tracing::info!(cluster = %args.cluster_name, leader_elect = args.leader_elect, "controller-manager starts");
    let readiness = Readiness::new();
    readiness.set(true);
    let health = serve_health(&args, readiness, token.clone());
    let work = async {
        if args.leader_elect {
            lead(client, config, clock, rng, token.clone()).await
        } else {
            start(client, config, clock, rng, token.clone()).await;
            Ok(())
        }
    };
    tokio::pin!(health, work);
    tokio::select! {
        biased;
        result = &mut work => result,
        result = &mut health => {
            result?;
            work.await
        }
    }
}

async fn serve_health(args: &Args, readiness: Readiness, token: CancellationToken) -> Result<(), health::HealthError> {
    if args.secure_port == 0 {
        return Ok(());
    }
    health::serve(SocketAddr::new(args.bind_address, args.secure_port), readiness, Registry::new(), token).await
}

async fn lead(
    client: kube::Client,
    config: Config,
    clock: Clock,
    rng: Rng,
    token: CancellationToken,
) -> anyhow::Result<()> {
    let election = LeaderElection {
        client: client.clone(),
        namespace: api::well_known::namespaces::SYSTEM.to_owned(),
        name: NAME.to_owned(),
        identity: format!("{}_{}", host_name(), rng.uuid()),
        clock,
        rng: rng.fork(),
    };
    match election.run(token, |term| start(client, config, clock, rng, term)).await {
        Ended::Shutdown | Ended::WorkDone => Ok(()),
        Ended::Lost => anyhow::bail!("leaderelection lost"),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// Runs the controllers of the configuration until the token is cancelled.
pub async fn start(client: kube::Client, config: Config, clock: Clock, rng: Rng, token: CancellationToken) {
    let mut context = Context::new(client, Arc::new(config), clock, rng, token);
    for row in controllers::TABLE {
        if context.config.runs(row.name) {
            tracing::debug!(controller = row.name, "starting");
            (row.start)(&mut context);
        }
    }
    context.finish().await;
}
