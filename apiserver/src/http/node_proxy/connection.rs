//! Connects a request with who answers it. Entry points: [`request`] for answers that are bodies, [`upgrade`] for connections that
//! become something else.
//!
//! Each request has a connection of its own, which ends with the answer's body; an upgraded one lasts until one side closes or
//! the server ends.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::Response;
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::tls::client_config;
use super::target::{Location, Scheme};
use crate::ApiServer;

mod tls;

/// How long the other end may take to accept a connection.
const DIAL: Duration = Duration::from_secs(10);
/// Headers that are about one connection only.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What is sent on.
pub(super) struct Forward {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// Why nobody answered; in Go's words, which clients and their users know.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// There are no kubelets for a server that has no certificate to show them, or it can't be used.
    Credentials(String),
    /// No connection.
    Dial(String, io::Error),
    /// No TLS.
    Tls(io::Error),
    /// The connection broke before there was an answer.
    Broken(hyper::Error),
    /// The client's connection can't become another protocol's.
    NoUpgrade,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credentials(why) => f.write_str(why),
            Self::Dial(authority, error) => write!(f, "dial tcp {authority}: {}", in_gos_words(error)),
            Self::Tls(error) => write!(f, "tls: {error}"),
            Self::Broken(error) if error.is_incomplete_message() => f.write_str("EOF"),
            Self::Broken(error) => error.fmt(f),
            Self::NoUpgrade => f.write_str("the client's connection can not be upgraded"),
        }
    }
}

impl ConnectError {
    /// As Go's HTTP client puts it.
    pub(super) fn of_get(&self, location: &Location) -> String {
        let scheme = if location.scheme == Scheme::Http { "http" } else { "https" };
        let url = format!("{scheme}://{}{}", location.authority(), location.path_and_query());
        format!("Get {}: {self}", api::field::go_quote(&url))
    }
}

fn in_gos_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        io::ErrorKind::TimedOut => "i/o timeout".into(),
        _ => error.to_string(),
    }
}

/// Whether the client wants the connection to become something else.
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    headers.contains_key(header::UPGRADE)
        && connection.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

/// Sends a request on and streams the answer.
pub(super) async fn request(
    server: &ApiServer,
    location: &Location,
    forward: Forward,
) -> Result<Response, ConnectError> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(dial(server, location).await?)).await.map_err(ConnectError::Broken)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let mut headers = forward.headers;
    remove_hop_by_hop(&mut headers);
    let answer = sender
        .send_request(outgoing(location, forward.method, headers, forward.body))
        .await
        .map_err(ConnectError::Broken)?;
    let (mut head, body) = answer.into_parts();
    remove_hop_by_hop(&mut head.headers);
    let body = body.map_frame(move |frame| {
        // The connection lives as long as the body.
        let _ = &connection;
        frame
    });
    Ok(Response::from_parts(head, Body::new(body)))
}

/// Sends a request for an upgrade on; if it is granted, the two connections become one.
pub(super) async fn upgrade(
    server: &ApiServer,
    location: &Location,
    forward: Forward,
    parts: &Parts,
) -> Result<Response, ConnectError> {
    let client = parts.extensions.get::<OnUpgrade>().cloned().ok_or(ConnectError::NoUpgrade)?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(dial(server, location).await?)).await.map_err(ConnectError::Broken)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let mut answer = sender
        .send_request(outgoing(location, forward.method, forward.headers, forward.body))
        .await
        .map_err(ConnectError::Broken)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (mut head, body) = answer.into_parts();
        remove_hop_by_hop(&mut head.headers);
        let body = body.map_frame(move |frame| {
            let _ = &connection;
            frame
        });
        return Ok(Response::from_parts(head, Body::new(body)));
    }
    let backend = hyper::upgrade::on(&mut answer);
    tokio::spawn(splice(client, backend, connection, server.draining.clone()));
    let (head, _) = answer.into_parts();
    Ok(Response::from_parts(head, Body::empty()))
}

async fn splice(
    client: OnUpgrade,
    backend: OnUpgrade,
    connection: AbortOnDropHandle<hyper::Result<()>>,
    draining: CancellationToken,
) {
    let spliced = async {
        let (client, backend) = tokio::try_join!(client, backend)?;
        // How it ends is for the two ends to know.
        let _ = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(backend)).await;
        Ok::<(), hyper::Error>(())
    };
    tokio::select! {
        biased;
        spliced = spliced => {
            if let Err(error) = spliced {
                tracing::debug!(%error, "connection was not upgraded");
            }
        }
        () = draining.cancelled() => {}
    }
    drop(connection);
}

/// The beginning of a body as text.
pub(super) async fn text(body: Body, limit: usize) -> String {
    let mut text = Vec::new();
    let mut body = Limited::new(body, limit);
    while let Some(Ok(frame)) = body.frame().await {
        text.extend_from_slice(frame.data_ref().map(|data| &data[..]).unwrap_or_default());
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn outgoing(location: &Location, method: Method, mut headers: HeaderMap, body: Body) -> Request<Body> {
    let ours: Vec<HeaderName> = headers.keys().filter(|name| is_about_the_caller(name)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    if let Ok(host) = HeaderValue::from_str(&location.authority()) {
        headers.insert(header::HOST, host);
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    *request.uri_mut() = location.path_and_query().parse().unwrap_or_else(|_| axum::http::Uri::from_static("/"));
    request
}

/// What a caller showed to us is not for others.
fn is_about_the_caller(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION
        || name.as_str().starts_with("impersonate-")
        || name.as_str().starts_with("x-remote-")
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn dial(server: &ApiServer, location: &Location) -> Result<Box<dyn Stream>, ConnectError> {
    let config: Option<ClientConfig> = match location.scheme {
        Scheme::Http => None,
        Scheme::Https => Some(tls::trusting_anyone()?),
        Scheme::Kubelet => Some(client_config(server.config.kubelet_tls.as_ref())?),
    };
    let failed = |error| ConnectError::Dial(location.authority(), error);
    let connected = timeout(DIAL, TcpStream::connect((location.host.as_str(), location.port))).await;
    let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let Some(config) = config else { return Ok(Box::new(stream)) };
    let name =
        ServerName::try_from(location.host.clone()).map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
    let handshake = timeout(DIAL, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    Ok(Box::new(handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(ConnectError::Tls)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_secrets_stay_here() {
        let headers = [
            ("authorization", "Bearer secret"),
            ("impersonate-user", "root"),
            ("x-remote-user", "root"),
            ("accept", "text/plain"),
            ("host", "api"),
        ];
        let headers = headers
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let location = Location {
            scheme: Scheme::Http,
            host: "10.0.0.1".into(),
            port: 80,
            path: "/a".into(),
            query: "b=c".into(),
        };
        let request = outgoing(&location, Method::GET, headers, Body::empty());
        let mut left: Vec<String> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or_default()))
            .collect();
        left.sort();
        assert_eq!(left, ["accept=text/plain", "host=10.0.0.1:80"]);
        assert_eq!(request.uri(), "/a?b=c");
    }

    #[test]
    fn refusals_in_gos_words() {
        let location = Location {
            scheme: Scheme::Kubelet,
            host: "10.0.0.1".into(),
            port: 10250,
            path: "/containerLogs/a/b/c".into(),
            query: "follow=true".into(),
        };
        let error = ConnectError::Dial(location.authority(), io::ErrorKind::ConnectionRefused.into());
        assert_eq!(
            error.of_get(&location),
            "Get \"https://10.0.0.1:10250/containerLogs/a/b/c?follow=true\": dial tcp 10.0.0.1:10250: connect: connection refused"
        );
    }
}
