//! A node as one process: a kubelet and the container runtime that it talks to over CRI.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use process::{Clock, Rng};
use runtime::{Config, Listener};
use tokio_util::sync::CancellationToken;

use crate::cluster::Runtime;

/// The kubelet's flags, and the runtime's.
#[derive(Debug, clap::Args)]
pub struct NodeArgs {
    #[command(flatten)]
    pub kubelet: kubelet::Args,
    /// How containers run
    #[arg(long, value_enum, default_value = "auto")]
    pub runtime: Runtime,
    /// Where images and containers are kept
    #[arg(long, default_value = "/var/lib/kubelab", value_name = "DIR")]
    pub runtime_root: PathBuf,
}

/// Runs both until the process is told to end. Containers go on without them.
pub async fn run(args: NodeArgs) -> Result<()> {
    args.kubelet.verbosity.start("kubelet");
    let token = process::signals::shutdown_token();
    let listener = Listener::bind(&args.kubelet.container_runtime_endpoint).await?;
    let simulated = match args.runtime {
        Runtime::Simulated => true,
        Runtime::Linux => false,
        Runtime::Auto => runtime::detect().runtime == runtime::Kind::Simulated,
    };
    let (serving, mut kubelet) = (serve(&args, simulated, listener, token.child_token()), args.kubelet.clone());
    kubelet.simulated = simulated;
    tokio::select! {
        biased;
        ended = serving => ended.context("the container runtime ended"),
        ended = kubelet::run(kubelet) => ended,
    }
}

async fn serve(args: &NodeArgs, simulated: bool, listener: Listener, token: CancellationToken) -> Result<()> {
    let (clock, rng) = (Clock::system(), Rng::from_entropy());
    if simulated {
        let node_name = args.kubelet.node_name.clone().unwrap_or_else(process::host_name);
        let config =
            runtime::simulated::Config { node_name, pod_cidr: args.kubelet.pod_cidr.clone(), write_logs: true };
        return Ok(runtime::simulated::Simulated::new(config, clock, rng, token)?.serve(listener).await?);
    }
    Ok(runtime::serve(config(&args.runtime_root), listener, clock, rng, token).await?)
}

/// The real runtime's configuration below a folder.
fn config(root: &Path) -> Config {
    Config {
        root: root.join("images"),
        state: root.join("state"),
        pod_cidr: None,
        program: PathBuf::from("/proc/self/exe"),
    }
}

/// Ends and removes all containers that a runtime left below this folder. No runtime may be serving it.
pub async fn purge(root: &Path) -> Result<()> {
    Ok(runtime::purge(config(root)).await?)
}
