//! The API server: the only component that opens the store, and the only way to cluster state.
//!
//! Entry points: [`run`] is the process; [`ApiServer::build`], [`ApiServer::start`] and [`http::in_process`] put a server into
//! another process, as tests and simulations do.

pub mod admission;
pub mod aggregation;
pub mod api_server;
pub mod args;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod cache;
pub mod cel;
pub mod component_statuses;
pub mod definitions;
mod draft;
pub mod flow_control;
pub mod http;
pub mod metrics;
pub mod object;
mod patterns;
pub mod read;
pub mod resources;
pub mod reviews;
pub mod server;
pub mod service_ip;
pub mod storage;
pub mod tokens;
pub mod view;
pub mod webhook;
pub mod write;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use process::{Clock, Rng};
use tokio_util::sync::CancellationToken;

pub use api_server::ApiServer;
pub use args::{Args, Config};
pub use authn::User;
pub use http::{in_process, router};

use args::StoreKind;
use storage::Storage;

/// The process: opens the store, serves until SIGTERM, lets requests end.
pub async fn run(args: Args) -> anyhow::Result<()> {
    args.verbosity.start("apiserver");
    let token = process::signals::shutdown_token();
    let config = args.config()?;
    let tls = server::tls(&args.tls_cert_file, &args.tls_private_key_file, &args.client_ca_file)?;
    let address = SocketAddr::new(args.bind_address, args.secure_port);
    let listener = server::listen(address).await?;
    let storage = open(&args).await?;
    let server = ApiServer::build(config, storage, Clock::system(), Rng::from_entropy())?;
    // What requests rely on ends after them.
    let work = CancellationToken::new();
    let mut tasks = server.start(&work).await?;
    tokens::make::begin(&server.tokens);
    tracing::info!(%address, store = ?args.store, "serving");
    let closing = CancellationToken::new();
    let close = close(&server, &token, args.shutdown_delay_duration, &closing);
    let serve = server::serve(listener, tls, router(Arc::clone(&server)), closing.clone());
    tokio::join!(close, serve);
    work.cancel();
    if let Some(audit) = &server.audit {
        audit.finish().await;
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// When the process is told to end, it says that it is not ready; after a delay, in which others turn away, it closes the doors
/// and ends watches.
async fn close(server: &ApiServer, told: &CancellationToken, delay: Duration, closing: &CancellationToken) {
    told.cancelled().await;
    server.checks.drain();
    tokio::time::sleep(delay).await;
    closing.cancel();
    server.draining.cancel();
}

async fn open(args: &Args) -> anyhow::Result<Arc<dyn Storage>> {
    match args.store {
        StoreKind::Memory => Ok(Arc::new(storage::memory::Memory::new())),
        StoreKind::Embedded => {
            let dir = args.data_dir.as_deref().context("--store=embedded needs --data-dir")?;
            Ok(Arc::new(storage::embedded::Embedded::open(dir, Clock::system())?))
        }
        StoreKind::Etcd => Ok(Arc::new(storage::etcd::Etcd::connect(&etcd_options(args)).await?)),
    }
}

fn etcd_options(args: &Args) -> storage::etcd::EtcdOptions {
    storage::etcd::EtcdOptions {
        endpoints: args.etcd_servers.clone(),
        ca_file: args.etcd_cafile.clone(),
        cert_file: args.etcd_certfile.clone(),
        key_file: args.etcd_keyfile.clone(),
    }
}
