//! The service proxy: traffic to a service's address goes to one of its endpoints, by rules in the kernel.
//!
//! Entry: [`start`]; [`rules::ruleset`] decides (pure). Invariants: our rules are one table of our own, replaced in one
//! transaction, so that no packet sees half of a change; nothing happens while services and endpoints stay as they are.

mod rules;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use client::{Informers, Store, WatchConfig};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// Changes that come together are applied together.
const GATHER: Duration = Duration::from_millis(10);
const RETRY: Duration = Duration::from_secs(5);

/// Why the kernel did not take the rules.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// There is no nft, or it broke off.
    #[error("nft cannot be run")]
    Run(#[source] std::io::Error),
    /// The kernel or nft says no.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// Keeps the kernel's rules equal to the API's services, from now on.
pub(crate) fn start(
    shared: &Arc<Shared>,
    informers: &mut Informers,
    tasks: &mut JoinSet<()>,
    token: CancellationToken,
) {
    let slices = informers.start::<EndpointSlice>(Api::all(shared.client.clone()), WatchConfig::default(), Vec::new());
    let changed = Arc::new(Notify::new());
    let (of_services, of_slices) = (changed.clone(), changed.clone());
    shared.services.on_change(move |_| of_services.notify_one());
    slices.on_change(move |_| of_slices.notify_one());
    let shared = shared.clone();
    tasks.spawn(async move {
        tokio::select! {
            biased;
            () = token.cancelled() => {}
            () = keep(shared, slices, changed) => {}
        }
    });
}

async fn keep(shared: Arc<Shared>, slices: Store<EndpointSlice>, changed: Arc<Notify>) {
    shared.services.synced().await;
    slices.synced().await;
    let table = rules::table_name(&shared.config.node_name);
    let mut applied = None;
    loop {
        let services = rules::services(&shared.services.list(), &slices.list());
        let text = rules::ruleset(&table, &services);
        if applied.as_ref() != Some(&text) {
            match apply(&text).await {
                Ok(()) => applied = Some(text),
                Err(error) => {
                    tracing::warn!(error = %error, "service rules not applied");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        changed.notified().await;
        tokio::time::sleep(GATHER).await;
    }
}

/// Takes a node's rules away. Services stay reachable while a kubelet restarts, so this is for the node's end only.
pub async fn remove(node: &str) -> Result<(), ProxyError> {
    let table = rules::table_name(node);
    // Adding a table that exists changes nothing; so deleting it works either way.
    match apply(&format!("table ip {table}\ndelete table ip {table}\n")).await {
        // Without nft there never were rules.
        Err(ProxyError::Run(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

async fn apply(text: &str) -> Result<(), ProxyError> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(ProxyError::Run)?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(text.as_bytes()).await.map_err(ProxyError::Run)?;
    }
    let output = nft.wait_with_output().await.map_err(ProxyError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    Err(ProxyError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
