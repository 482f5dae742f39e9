//! The endpoint behind the URLs that CRI's Exec, Attach and PortForward answer.
//!
//! A small HTTP server on the loopback interface: `/exec/TOKEN`, `/attach/TOKEN`, `/portforward/TOKEN`, each token good
//! for one connection within a minute. It speaks Kubernetes' own WebSocket subprotocols and SPDY, so a kubelet has only to
//! pass bytes through. Invariant: a token that was used or is too old opens nothing.

mod channels;
mod link;
mod port_forward;
mod session;
mod spdy;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts as _, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use hyper_util::rt::TokioIo;
use process::Rng;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::linux::Linux;
use channels::Protocol;
use link::Link;

/// How long a token waits for its one connection.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest message of a client.
const LARGEST_MESSAGE: usize = 16 << 20;

/// What a token is good for.
#[derive(Clone, Debug)]
pub enum Stream {
    /// Execute a command.
    Exec {
        /// Where.
        container_id: String,
        /// Program and arguments.
        command: Vec<String>,
        /// On a terminal.
        tty: bool,
        /// With input.
        stdin: bool,
        /// With its output.
        stdout: bool,
        /// With its other output.
        stderr: bool,
    },
    /// See a container's own streams.
    Attach {
        /// Which.
        container_id: String,
        /// It has a terminal.
        tty: bool,
        /// With input.
        stdin: bool,
        /// With its output.
        stdout: bool,
        /// With its other output.
        stderr: bool,
    },
    /// Reach ports of a pod.
    PortForward {
        /// Which.
        sandbox_id: String,
        /// Which ports.
        ports: Vec<u16>,
    },
}

/// Tokens and where they lead.
pub struct Streams {
    address: SocketAddr,
    tokens: Mutex<BTreeMap<String, (Instant, Stream)>>,
    rng: Rng,
}

#[derive(Clone)]
struct Endpoint {
    linux: Arc<Linux>,
    streams: Arc<Streams>,
}

impl Streams {
    /// Opens the endpoint; it ends with the runtime.
    pub async fn open(linux: Arc<Linux>, rng: Rng) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let streams = Arc::new(Self { address, tokens: Mutex::default(), rng });
        let token = linux.token().clone();
        let router = Router::new()
            .route("/{kind}/{token}", any(connect))
            .with_state(Endpoint { linux, streams: streams.clone() });
        tokio::spawn(async move {
            let served = token.run_until_cancelled(axum::serve(listener, router).into_future()).await;
            if let Some(Err(error)) = served {
                tracing::error!(%error, "the endpoint for streams ended");
            }
        });
        Ok(streams)
    }

    /// A URL that opens the stream once.
    pub fn url(&self, stream: Stream) -> String {
        let kind = match &stream {
            Stream::Exec { .. } => "exec",
            Stream::Attach { .. } => "attach",
            Stream::PortForward { .. } => "portforward",
        };
        let token: String = self.rng.bytes(16).iter().map(|b| format!("{b:02x}")).collect();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        tokens.retain(|_, (until, _)| *until > now);
        tokens.insert(token.clone(), (now + PATIENCE, stream));
        format!("http://{}/{kind}/{token}", self.address)
    }

    fn redeem(&self, token: &str) -> Option<Stream> {
        let (until, stream) = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(token)?;
        (until > Instant::now()).then_some(stream)
    }
}

/// The header in which clients of SPDY say, and are told, how streams are used.
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

async fn connect(
    State(endpoint): State<Endpoint>,
    Path((_kind, token)): Path<(String, String)>,
    request: Request,
) -> Response {
    let Some(stream) = endpoint.streams.redeem(&token) else {
        return (StatusCode::NOT_FOUND, "no such stream, or its token was used already\n").into_response();
    };
    let upgrade = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if upgrade.eq_ignore_ascii_case(spdy::TOKEN) {
        return over_spdy(endpoint.linux, stream, request);
    }
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => over_web_socket(endpoint.linux, stream, upgrade),
        Err(refusal) => refusal.into_response(),
    }
}

fn over_web_socket(linux: Arc<Linux>, stream: Stream, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE).protocols(match stream {
        Stream::Exec { .. } | Stream::Attach { .. } => Protocol::NAMES.to_vec(),
        Stream::PortForward { .. } => port_forward::PROTOCOLS.to_vec(),
    });
    let selected = upgrade.selected_protocol().and_then(|name| name.to_str().ok()).map(str::to_owned);
    upgrade.on_upgrade(async move |socket| {
        let token = linux.token().clone();
        let session = async {
            match stream {
                Stream::PortForward { sandbox_id, .. } if selected.as_deref() == Some(spdy::TUNNEL) => {
                    port_forward::serve_spdy(&linux, spdy::accept(spdy::tunnel(socket)), &sandbox_id).await;
                }
                Stream::PortForward { sandbox_id, ports } => {
                    port_forward::serve(&linux, socket, &sandbox_id, &ports).await;
                }
                command => {
                    let protocol = Protocol::of(selected.as_deref());
                    serve(&linux, command, Link::over_web_socket(socket, protocol), protocol).await;
                }
            }
        };
        token.run_until_cancelled(session).await;
    })
}

fn over_spdy(linux: Arc<Linux>, stream: Stream, mut request: Request) -> Response {
    let known: &[&'static str] = match stream {
        Stream::Exec { .. } | Stream::Attach { .. } => &Protocol::SPDY_NAMES,
        Stream::PortForward { .. } => &[port_forward::SPDY_PROTOCOL],
    };
    let Some(protocol) = agreed(request.headers(), known) else {
        let text = format!("unable to upgrade: unable to negotiate protocol: server supports {known:?}\n");
        return (StatusCode::FORBIDDEN, text).into_response();
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let token = linux.token().clone();
        let connection = spdy::accept(TokioIo::new(upgraded));
        let session = async {
            let Some(channels) = stream.channels() else {
                let Stream::PortForward { sandbox_id, .. } = stream else { return };
                return port_forward::serve_spdy(&linux, connection, &sandbox_id).await;
            };
            // A client that does not open its streams gets nothing.
            if let Some(link) = Link::over_spdy(connection, &channels).await {
                serve(&linux, stream, link, Protocol::of(Some(protocol))).await;
            }
        };
        token.run_until_cancelled(session).await;
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(spdy::TOKEN));
    headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
    response
}

/// The best protocol that the client offers; one that offers none speaks the last.
fn agreed(headers: &HeaderMap, known: &[&'static str]) -> Option<&'static str> {
    let offered = headers.get_all(STREAM_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|names| names.split(',')).map(str::trim).collect();
    match offered.is_empty() {
        true => known.last().copied(),
        false => known.iter().find(|name| offered.contains(name)).copied(),
    }
}

async fn serve(linux: &Arc<Linux>, stream: Stream, link: Link, protocol: Protocol) {
    match stream {
        Stream::Exec { container_id, command, tty, stdin, .. } => {
            session::execute(linux, link, protocol, &container_id, &command, tty, stdin).await;
        }
        Stream::Attach { container_id, stdin, .. } => {
            session::attach(linux, link, protocol, &container_id, stdin).await
        }
        Stream::PortForward { .. } => {}
    }
}

impl Stream {
    /// The channels that a client of SPDY opens for a command; None for ports.
    fn channels(&self) -> Option<Vec<u8>> {
        let (Self::Exec { tty, stdin, stdout, stderr, .. } | Self::Attach { tty, stdin, stdout, stderr, .. }) = self
        else {
            return None;
        };
        let asked = [
            (true, channels::ERROR),
            (*stdin, channels::STDIN),
            (*stdout, channels::STDOUT),
            (*stderr, channels::STDERR),
            (*tty, channels::RESIZE),
        ];
        Some(asked.into_iter().filter(|(asked, _)| *asked).map(|(_, channel)| channel).collect())
    }
}

/// How a stream that did its work ends.
fn normal_end() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: axum::extract::ws::Utf8Bytes::default() }))
}
