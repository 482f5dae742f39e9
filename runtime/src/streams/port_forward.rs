//! Ports of a pod, in Kubernetes' two protocols.
//!
//! `v4.channel.k8s.io` over a WebSocket ([`serve`]): for each port a channel of data and one of errors, numbered in pairs; each
//! begins with its port, two bytes, the low one first. `portforward.k8s.io` over SPDY ([`serve_spdy`]): for each
//! connection a stream of errors and one of data, which belong together by their `requestid`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use bytes::BytesMut;
use cri::v1::NamespaceMode;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channels::message;
use super::spdy::{self, Connection};
use crate::linux::Linux;
use crate::network;

/// What clients may ask for over a WebSocket.
pub const PROTOCOLS: [&str; 2] = [spdy::TUNNEL, "v4.channel.k8s.io"];
/// And over SPDY.
pub const SPDY_PROTOCOL: &str = "portforward.k8s.io";
const QUEUE: usize = 64;
const READ_SIZE: usize = 32 * 1024;

/// Connects the client with the ports, until it hangs up.
pub async fn serve(linux: &Arc<Linux>, socket: WebSocket, sandbox_id: &str, ports: &[u16]) {
    let (mut sink, mut incoming) = socket.split();
    let (outgoing, mut queue) = mpsc::channel::<Message>(QUEUE);
    let mut tasks = JoinSet::new();
    let mut writers = Vec::new();
    for (pair, port) in (0u8..).step_by(2).zip(ports) {
        for channel in [pair, pair + 1] {
            // The queue is longer than all first messages of a sensible client.
            let _ = outgoing.try_send(message(channel, &port.to_le_bytes()));
        }
        match dial(linux, sandbox_id, *port).await {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                tasks.spawn(forward(reader, pair, outgoing.clone()));
                writers.push(Some(writer));
            }
            Err(error) => {
                let text = format!("error forwarding port {port} to pod {sandbox_id}: {error}");
                let _ = outgoing.try_send(message(pair + 1, text.as_bytes()));
                writers.push(None);
            }
        }
    }
    drop(outgoing);
    let send = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // The client may be gone already.
        // Clients take an end without a status for a broken connection.
        let _ = sink.send(super::normal_end()).await;
        let _ = sink.close().await;
    };
    let listen = async {
        while let Some(Ok(received)) = incoming.next().await {
            match received {
                Message::Binary(bytes) => pass_on(&bytes, &mut writers).await,
                Message::Close(_) => return,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = send => {}
        () = listen => {}
    }
}

/// Connects what the client opens with the ports it names, until it hangs up.
pub async fn serve_spdy(linux: &Arc<Linux>, mut connection: Connection, sandbox_id: &str) {
    let mut errors = BTreeMap::new();
    let mut forwards = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            stream = connection.next() => stream,
            Some(_) = forwards.join_next() => continue,
        };
        let Some(stream) = stream else { return };
        let header = |name: &str| stream.headers.get(name).cloned().unwrap_or_default();
        let request = header("requestid");
        match header("streamtype").as_str() {
            "error" => drop(errors.insert(request, stream.outgoing)),
            "data" => {
                let Some(error) = errors.remove(&request) else { continue };
                let (linux, sandbox_id, port) = (linux.clone(), sandbox_id.to_owned(), header("port"));
                forwards.spawn(async move {
                    if let Err(complaint) = connect(&linux, &sandbox_id, &port, stream).await {
                        let text = format!("error forwarding port {port} to pod {sandbox_id}: {complaint}");
                        error.send(text.into()).await;
                    }
                    error.end().await;
                });
            }
            _ => {}
        }
    }
}

/// One connection to a port, until both sides have said all.
async fn connect(linux: &Arc<Linux>, sandbox_id: &str, port: &str, stream: spdy::Stream) -> std::io::Result<()> {
    let spdy::Stream { mut incoming, outgoing, .. } = stream;
    let dialled = match port.parse() {
        Ok(port) => dial(linux, sandbox_id, port).await,
        Err(_) => Err(std::io::Error::other(format!("{port:?} is not a port"))),
    };
    let (mut reader, mut writer) = match dialled {
        Ok(dialled) => dialled.into_split(),
        Err(error) => {
            outgoing.end().await;
            return Err(error);
        }
    };
    let there = async {
        while let Some(data) = incoming.recv().await {
            if writer.write_all(&data).await.is_err() {
                return;
            }
        }
        // The server may have closed first.
        let _ = writer.shutdown().await;
    };
    let back = async {
        let mut buffer = BytesMut::with_capacity(READ_SIZE);
        while let Ok(1..) = reader.read_buf(&mut buffer).await {
            if !outgoing.send(buffer.split().freeze()).await {
                return;
            }
            buffer.reserve(READ_SIZE);
        }
        outgoing.end().await;
    };
    tokio::join!(there, back);
    Ok(())
}

async fn dial(linux: &Arc<Linux>, sandbox_id: &str, port: u16) -> std::io::Result<TcpStream> {
    let (linux, id) = (linux.clone(), sandbox_id.to_owned());
    let dialled = tokio::task::spawn_blocking(move || {
        let sandbox = linux.sandbox(&id).map_err(std::io::Error::other)?;
        let own = sandbox.namespaces().network() != NamespaceMode::Node;
        let namespace: Option<PathBuf> = own.then(|| linux.network_namespace(&id));
        let stream = network::dial(namespace.as_deref(), port)?;
        stream.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(stream)
    });
    TcpStream::from_std(dialled.await.map_err(std::io::Error::other)??)
}

async fn forward(mut reader: OwnedReadHalf, channel: u8, outgoing: mpsc::Sender<Message>) {
    let mut buffer = vec![0; READ_SIZE];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        if outgoing.send(message(channel, &buffer[..length])).await.is_err() {
            return;
        }
    }
}

async fn pass_on(bytes: &[u8], writers: &mut [Option<OwnedWriteHalf>]) {
    let Some((channel, data)) = bytes.split_first() else { return };
    if channel % 2 != 0 {
        return;
    }
    if let Some(slot) = writers.get_mut(usize::from(channel / 2))
        && let Some(writer) = slot
        && writer.write_all(data).await.is_err()
    {
        *slot = None;
    }
}
