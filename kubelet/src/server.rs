//! What the kubelet serves: logs, exec, attach, port-forward, statistics; to the API server and whoever it lets in.
//!
//! Entry: [`bind`], then [`Server::run`]; [`routes`] is every path on one screen. Invariant: TLS with a client
//! certificate of the cluster's authority always; nothing is served to a client that `authorize` did not let in.

mod authorize;
mod log_file;
mod logs;
mod stats;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router, middleware};
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::Pod;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::ServerConfig;
use crate::shared::Shared;

/// How many connections are served at a time.
const CONNECTIONS: usize = 1024;

/// Why the server cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("{path}: {detail}")]
    File { path: PathBuf, detail: String },
    #[error("TLS: {0}")]
    Tls(String),
}

/// An error as a client sees it: plain text, as the kubelet of Kubernetes answers.
pub(crate) struct Refusal(pub StatusCode, pub String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// A bound server.
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Router,
}

/// Reads the certificates and binds the address.
pub async fn bind(shared: Arc<Shared>, config: &ServerConfig) -> Result<Server, ServerError> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(config)?));
    let address = format!("{}:{}", config.address, config.port);
    let listener = TcpListener::bind(&address).await;
    let listener = listener.map_err(|source| ServerError::Listen { address, source })?;
    Ok(Server { listener, acceptor, router: routes(shared) })
}

fn tls(config: &ServerConfig) -> Result<rustls::ServerConfig, ServerError> {
    let unreadable = |path: &PathBuf| {
        let path = path.clone();
        move |error: rustls::pki_types::pem::Error| ServerError::File { path, detail: error.to_string() }
    };
    let read = |path: &PathBuf| -> Result<Vec<CertificateDer<'static>>, ServerError> {
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(unreadable(path))
    };
    let chain = read(&config.certificate_file)?;
    let key = PrivateKeyDer::from_pem_file(&config.private_key_file).map_err(unreadable(&config.private_key_file))?;
    let mut roots = rustls::RootCertStore::empty();
    for authority in read(&config.client_ca_file)? {
        roots.add(authority).map_err(|error| ServerError::Tls(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| ServerError::Tls(error.to_string()))?;
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .map_err(|error| ServerError::Tls(error.to_string()))
}

/// Every path.
fn routes(shared: Arc<Shared>) -> Router {
    let guard = middleware::from_fn_with_state(shared.clone(), authorize::authorize);
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(pods))
        .route("/pods/", get(pods))
        .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::serve))
        .route("/exec/{namespace}/{pod}/{container}", any(streams::exec))
        .route("/exec/{namespace}/{pod}/{uid}/{container}", any(streams::exec_with_uid))
        .route("/attach/{namespace}/{pod}/{container}", any(streams::attach))
        .route("/attach/{namespace}/{pod}/{uid}/{container}", any(streams::attach_with_uid))
        .route("/portForward/{namespace}/{pod}", any(streams::port_forward))
        .route("/portForward/{namespace}/{pod}/{uid}", any(streams::port_forward_with_uid))
        .route("/stats/summary", get(stats::summary))
        .route("/metrics", get(stats::metrics))
        .layer(guard)
        .with_state(shared)
}

impl Server {
    /// Serves until the token is cancelled.
    pub async fn run(self, token: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = token.cancelled() => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, self.acceptor.clone(), self.router.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::task::yield_now().await;
                    }
                },
            }
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, router: Router) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let certificates = stream.get_ref().1.peer_certificates();
    let Some(user) = certificates.and_then(|all| all.first()).and_then(|leaf| authorize::User::of(leaf)) else {
        return;
    };
    let service = TowerToHyperService::new(router.layer(axum::Extension(user)));
    // A connection that breaks concerns its client only.
    let _ = Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

async fn pods(State(shared): State<Arc<Shared>>) -> Response {
    let pods: Vec<Pod> = shared.workers.pods().iter().map(|pod| Pod::clone(pod)).collect();
    Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})).into_response()
}

/// A pod of this node by its name.
pub(crate) fn find_pod(shared: &Shared, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
    let all = shared.workers.pods();
    let is_it = |pod: &&Arc<Pod>| {
        pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
    };
    let not_found = || Refusal(StatusCode::NOT_FOUND, format!("pod \"{name}\" not found"));
    all.iter().find(is_it).cloned().ok_or_else(not_found)
}
