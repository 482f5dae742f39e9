//! Container runtimes behind CRI: a real one for Linux, and one that runs nothing.
//!
//! As a process: [`run`]. Inside another one: [`serve`], or [`simulated::Simulated`] without any socket. A program that
//! embeds the real runtime calls [`maybe_run_hidden_subcommand`] first thing in `main`, because the shims beside
//! containers are that program, started again. A kubelet knows this crate only through CRI.

pub mod accounts;
pub mod addresses;
pub mod args;
pub mod capabilities;
pub mod cgroups;
pub mod control;
pub mod demo_web;
pub mod detect;
pub mod disk;
pub mod events;
pub mod images;
pub mod linux;
pub mod network;
pub mod record;
pub mod reference;
pub mod rootfs;
pub mod server;
pub mod shim;
pub mod signals;
pub mod simulated;
pub mod spec;
pub mod status;
pub mod streams;
pub mod transport;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use process::{Clock, Rng};
use tokio_util::sync::CancellationToken;

pub use args::{Args, Kind};
pub use detect::{Detected, detect};
pub use linux::{Config, Linux, LinuxError};
pub use transport::{Listener, TransportError};

/// What can end a served runtime.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The real runtime could not take over its state directory.
    #[error(transparent)]
    Linux(#[from] LinuxError),
    /// The endpoint for streams.
    #[error("endpoint for streams")]
    Streams(#[source] std::io::Error),
    /// The CRI socket.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The simulated runtime's pod range.
    #[error(transparent)]
    Cidr(#[from] addresses::CidrError),
}

/// The process: serves until it is told to end. Containers go on without it.
pub async fn run(args: Args) -> anyhow::Result<()> {
    process::logging::init("runtime", args.verbosity);
    let token = process::signals::shutdown_token();
    let kind = match args.runtime {
        Kind::Auto => {
            let detected = detect();
            tracing::info!("{}", detected.why);
            detected.runtime
        }
        chosen => chosen,
    };
    let listener = Listener::bind(&args.listen).await?;
    let (clock, rng) = (Clock::system(), Rng::from_entropy());
    match kind {
        Kind::Simulated => {
            let config = simulated::Config { node_name: args.node_name, pod_cidr: args.pod_cidr, write_logs: true };
            simulated::Simulated::new(config, clock, rng, token)?.serve(listener).await?;
        }
        Kind::Auto | Kind::Linux => {
            let program = PathBuf::from("/proc/self/exe");
            let config = Config { root: args.root, state: args.state, pod_cidr: args.pod_cidr, program };
            serve(config, listener, clock, rng, token).await?;
        }
    }
    Ok(())
}

/// Serves the real runtime until the token is cancelled.
pub async fn serve(
    config: Config,
    listener: Listener,
    clock: Clock,
    rng: Rng,
    token: CancellationToken,
) -> Result<(), ServeError> {
    let linux = Linux::open(config, clock, rng.clone(), token.clone()).await?;
    let streams = streams::Streams::open(linux.clone(), rng).await.map_err(ServeError::Streams)?;
    let server = Arc::new(server::Server::new(linux, streams));
    tracing::info!("serving CRI");
    Ok(transport::serve(transport::routes(server), listener, token).await?)
}

/// Removes every sandbox and container of a state directory, and the host's rules for its pods. For the end of a
/// cluster; no runtime may be serving it.
pub async fn purge(config: Config) -> Result<(), LinuxError> {
    let state = config.state.clone();
    if !state.exists() {
        return Ok(());
    }
    let token = CancellationToken::new();
    let linux = Linux::open(config, Clock::system(), Rng::from_entropy(), token.clone()).await?;
    for sandbox in linux.sandboxes() {
        linux.remove_sandbox(&sandbox.id).await?;
    }
    linux.restore_host().await;
    token.cancel();
    Ok(())
}

/// Runs a shim, a pause process or the demo's web server, if that is what this process was started for.
///
/// Must be called before any thread is started: a shim forks.
pub fn maybe_run_hidden_subcommand() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let (command, directory) = (args.next()?, args.next());
    match (command.to_str()?, directory) {
        ("shim", Some(directory)) => Some(shim::main(Path::new(&directory))),
        ("pause", Some(directory)) => Some(linux::pause(Path::new(&directory))),
        ("demo-web", None) => Some(demo_web::run()),
        _ => None,
    }
}
