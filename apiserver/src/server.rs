//! The listener: TLS only, HTTP/1.1 and HTTP/2, a task a connection, and an end that lets requests finish.
//!
//! Entry point: [`serve`]. Invariant: a request carries in its extensions the client certificates that its connection proved to own
//! ([`ClientCertificates`]) and the peer's address ([`Peer`]); nothing else decides who it is from.

mod prompt;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpUserTimeout;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use self::prompt::{Prompt, Rule};
use crate::authn::certificate::{self, Leaf};

/// HTTP/2 streams of one connection, as upstream.
const MAX_STREAMS: u32 = 1000;
/// Streams that a client opened and took back and that were not looked at yet; with more the connection ends (CVE-2023-44487).
const MAX_RESETS: usize = 100;
/// Streams that the server had to reset for a client's mistakes; with more the connection ends.
const MAX_MISTAKES: usize = 100;
/// The headers of a request over HTTP/2, as Go counts them.
const MAX_HEADERS: u32 = 256 * 1024;
/// The head of a request over HTTP/1.1; hyper takes 100 headers and 64 KiB of URL at most.
const MAX_HEAD: usize = 512 * 1024;
/// An HTTP/2 connection on which nothing comes is asked for a sign of life this often.
const PING_EVERY: Duration = Duration::from_secs(30);

/// How much a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// How long a client may take for its TLS handshake.
    pub handshake: Duration,
    /// How long a client may take to send the head of a request.
    pub header: Duration,
    /// How long a connection over HTTP/1.1 may be there without a request.
    pub idle: Duration,
    /// How long a client may not read what is sent to it.
    pub unread: Duration,
    /// How long requests may take to end after the server was told to.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(32),
            idle: Duration::from_secs(90),
            unread: Duration::from_secs(60),
            drain: Duration::from_secs(8),
        }
    }
}

/// The verified certificates of the connection's client, its own first; empty if it showed none.
#[derive(Clone, Debug, Default)]
pub struct ClientCertificates(pub Arc<Vec<CertificateDer<'static>>>, Arc<OnceLock<Option<Leaf>>>);

impl ClientCertificates {
    /// The certificates of a connection.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Self {
        Self(Arc::new(certificates), Arc::default())
    }

    /// What the client's own certificate says; read once for all requests of the connection.
    pub fn leaf(&self) -> Option<&Leaf> {
        self.1.get_or_init(|| self.0.first().and_then(certificate::read)).as_ref()
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Why the server can't serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken, or not ours to take.
    #[error("can't listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
    /// A certificate or key file can't be read.
    #[error("can't read {0}")]
    Read(PathBuf, #[source] rustls::pki_types::pem::Error),
    /// A folder or file can't be read.
    #[error("can't read {0}")]
    File(PathBuf, #[source] std::io::Error),
    /// A certificate or key can't be used.
    #[error("the certificate or key in {0} can't be used")]
    Unusable(PathBuf, #[source] rustls::Error),
    /// The client authority can't be used.
    #[error("the client authority in {0} can't be used")]
    ClientAuthority(PathBuf, #[source] rustls::server::VerifierBuilderError),
}

/// TLS as the server offers it: its certificate, and clients' certificates if they have one that `client_ca` signed.
pub fn tls(cert: &Path, key: &Path, client_ca: &Path) -> Result<Arc<ServerConfig>, ServeError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |error| ServeError::Unusable(path, error)
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(client_ca)? {
        roots.add(certificate).map_err(unusable(client_ca))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).allow_unauthenticated().build();
    let verifier = verifier.map_err(|error| ServeError::ClientAuthority(client_ca.to_owned(), error))?;
    let private =
        PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| ServeError::Read(key.to_owned(), error))?;
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(unusable(cert))?;
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(cert)?, private)
        .map_err(unusable(cert))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, ServeError> {
    fs::read(path).map_err(|error| ServeError::File(path.to_owned(), error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    parsed.map_err(|error| ServeError::Read(path.to_owned(), error))
}

/// Takes the port.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen(address, error))
}

/// Serves with the usual limits until the token is cancelled, then lets requests end for a while.
pub async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, router: Router, token: CancellationToken) {
    serve_within(Limits::default(), listener, tls, router, token).await;
}

/// Serves within limits until the token is cancelled: then nobody new is let in, connections are told to close after the requests
/// that run on them, and what has not ended in time is cut off.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    token: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let http = http(limits);
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            biased;
            () = token.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, say: the connections that are there will free some.
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, http, router, watcher) = (acceptor.clone(), http.clone(), router.clone(), graceful.watcher());
        connections.spawn(async move {
            let handshake = tokio::time::timeout(limits.handshake, acceptor.accept(prepared(stream, limits)));
            match handshake.await {
                Ok(Ok(stream)) => connection(limits, stream, peer, http, router, watcher).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests did not end in time");
    }
    connections.shutdown().await;
}

fn http(limits: Limits) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(MAX_HEAD);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_MISTAKES)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_EVERY)
        .enable_connect_protocol();
    http
}

fn prepared(stream: TcpStream, limits: Limits) -> TcpStream {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    // What a client does not read is kept for it only so long: otherwise one that sleeps would hold its answer for ever.
    let unread = u32::try_from(limits.unread.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = setsockopt(&stream, TcpUserTimeout, &unread) {
        tracing::debug!(%error, "clients that do not read are not noticed");
    }
    stream
}

async fn connection(
    limits: Limits,
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    peer: SocketAddr,
    http: Builder<TokioExecutor>,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let (_, session) = stream.get_ref();
    let certificates =
        session.peer_certificates().unwrap_or_default().iter().map(|certificate| certificate.clone().into_owned());
    let certificates = ClientCertificates::new(certificates.collect());
    // What was agreed on in the handshake counts: nobody waits for the first bytes to find out.
    let (http, rule) = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => (http.http2_only(), Rule::Preface(limits.header)),
        Some(_) | None => (http.http1_only(), Rule::Requests(limits.idle)),
    };
    let (stream, requests) = Prompt::new(stream, rule);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(certificates.clone());
        request.extensions_mut().insert(Peer(peer));
        let (router, counted) = (router.clone(), requests.begin());
        async move { router.oneshot(request).await.map(|response| prompt::counted(response, counted)) }
    });
    let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
