//! The endpoint behind the URLs that CRI's Exec, Attach and PortForward answer.
//!
//! A small HTTP server on the loopback interface: `/exec/TOKEN`, `/attach/TOKEN`, `/portforward/TOKEN`, each token good
//! for one connection within a minute. It speaks Kubernetes' own WebSocket subprotocols, so a kubelet has only to pass
//! bytes through. Invariant: a token that was used or is too old opens nothing.

mod channels;
mod port_forward;
mod session;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use process::Rng;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::linux::Linux;
use channels::Protocol;

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
    },
    /// See a container's own streams.
    Attach {
        /// Which.
        container_id: String,
        /// With input.
        stdin: bool,
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
            .route("/{kind}/{token}", get(connect))
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

async fn connect(
    State(endpoint): State<Endpoint>,
    Path((_kind, token)): Path<(String, String)>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(stream) = endpoint.streams.redeem(&token) else {
        return (StatusCode::NOT_FOUND, "no such stream, or its token was used already\n").into_response();
    };
    let upgrade = upgrade.max_message_size(LARGEST_MESSAGE).protocols(match stream {
        Stream::Exec { .. } | Stream::Attach { .. } => Protocol::NAMES.to_vec(),
        Stream::PortForward { .. } => port_forward::PROTOCOLS.to_vec(),
    });
    let protocol = Protocol::of(upgrade.selected_protocol().and_then(|p| p.to_str().ok()));
    let linux = endpoint.linux;
    upgrade.on_upgrade(move |socket| async move {
        let token = linux.token().clone();
        let session = async {
            match stream {
                Stream::Exec { container_id, command, tty, stdin } => {
                    session::execute(&linux, socket, protocol, &container_id, &command, tty, stdin).await;
                }
                Stream::Attach { container_id, stdin } => {
                    session::attach(&linux, socket, protocol, &container_id, stdin).await;
                }
                Stream::PortForward { sandbox_id, ports } => {
                    port_forward::serve(&linux, socket, &sandbox_id, &ports).await;
                }
            }
        };
        token.run_until_cancelled(session).await;
    })
}

/// How a stream that did its work ends.
fn normal_end() -> Message {
    Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: axum::extract::ws::Utf8Bytes::default() }))
}
