//! `/healthz`, `/livez`, `/readyz` and `/metrics` of a component (the API server has its own).
//!
//! Invariant: the port serves only these paths; it carries nothing secret and takes no input, which is why it listens
//! on the loopback address unless a component is told otherwise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Registry;

/// Whether a component can do its work; clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the component is ready.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why the health port could not be served.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// The address cannot be listened on.
    #[error("listening on {address} for health and metrics")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The listener broke.
    #[error("serving health and metrics")]
    Serve(#[source] std::io::Error),
}

/// The routes alone, for a component that serves them on a port of its own.
pub fn router(readiness: Readiness, metrics: Registry) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(scrape).with_state(metrics))
}

/// Takes the address, so that a taken port is an error at the start.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, HealthError> {
    TcpListener::bind(address).await.map_err(|source| HealthError::Listen { address, source })
}

/// Serves health and metrics until the token is cancelled.
pub async fn serve_on(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Registry,
    token: CancellationToken,
) -> Result<(), HealthError> {
    axum::serve(listener, router(readiness, metrics))
        .with_graceful_shutdown(token.cancelled_owned())
        .await
        .map_err(HealthError::Serve)
}

/// Both at once.
pub async fn serve(
    address: SocketAddr,
    readiness: Readiness,
    metrics: Registry,
    token: CancellationToken,
) -> Result<(), HealthError> {
    serve_on(listen(address).await?, readiness, metrics, token).await
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.is_ready() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") }
}

async fn scrape(State(metrics): State<Registry>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}
