//! Ports of a pod over a WebSocket: for each port a channel of data and one of errors, numbered in pairs.
//!
//! As Kubernetes does in `v4.channel.k8s.io`: each channel begins with its port, two bytes, the low one first.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use cri::v1::NamespaceMode;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::channels::message;
use crate::linux::Linux;
use crate::network;

/// What clients may ask for.
pub const PROTOCOLS: [&str; 1] = ["v4.channel.k8s.io"];
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
