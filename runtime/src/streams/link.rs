//! A client's connection as a session sees it, whichever protocol carries it.
//!
//! Entry: [`Link::over_web_socket`], [`Link::over_spdy`]. Invariant: every queue is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use super::channels::{ERROR, Protocol, RESIZE, STDERR, STDIN, STDOUT, Said, said};
use super::spdy::{Connection, Outgoing, Stream};

/// Messages that wait for a slow client.
const QUEUE: usize = 64;
/// How long a client may take to open the streams it asked for; the kubelet's default.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both ways to a client.
pub struct Link {
    /// What the client is told.
    pub outgoing: mpsc::Sender<Message>,
    /// What it says; ends when it hangs up.
    pub incoming: BoxStream<'static, Said>,
    /// Sends, until nobody has anything to say.
    pub writer: JoinHandle<()>,
}

impl Link {
    /// A WebSocket carries the messages as they are.
    pub fn over_web_socket(socket: WebSocket, protocol: Protocol) -> Self {
        let (mut sink, messages) = socket.split();
        let (outgoing, mut queue) = mpsc::channel::<Message>(QUEUE);
        let writer = tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            // The client may be gone already. One that is not takes an end without a status for a broken connection.
            let _ = sink.send(super::normal_end()).await;
            let _ = sink.close().await;
        });
        let incoming = messages.map(move |received| received.map_or(Said::Ends, |message| said(protocol, message)));
        let incoming = incoming.take_while(|said| std::future::ready(*said != Said::Ends));
        Self { outgoing, incoming: incoming.boxed(), writer }
    }

    /// SPDY has a stream for each channel; the client opens them. None if it does not in time.
    pub async fn over_spdy(mut connection: Connection, wanted: &[u8]) -> Option<Self> {
        let mut streams = BTreeMap::new();
        let all_open = async {
            while !wanted.iter().all(|channel| streams.contains_key(channel)) {
                let stream = connection.next().await?;
                let channel = channel_of(&stream)?;
                streams.insert(channel, stream);
            }
            Some(())
        };
        tokio::time::timeout(PATIENCE, all_open).await.ok()??;
        let (outgoing, queue) = mpsc::channel::<Message>(QUEUE);
        let (sender, incoming) = mpsc::channel(QUEUE);
        let mut back = BTreeMap::new();
        for (channel, stream) in streams {
            back.insert(channel, stream.outgoing);
            if matches!(channel, STDIN | RESIZE) {
                tokio::spawn(pass_on(channel, stream.incoming, sender.clone()));
            }
        }
        let writer = tokio::spawn(async move {
            let hung_up = async {
                while connection.next().await.is_some() {}
                drop(sender);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = write(queue, &back) => {}
                () = hung_up => {}
            }
        });
        Some(Self { outgoing, incoming: ReceiverStream::new(incoming).boxed(), writer })
    }
}

fn channel_of(stream: &Stream) -> Option<u8> {
    match stream.headers.get("streamtype")?.as_str() {
        "stdin" => Some(STDIN),
        "stdout" => Some(STDOUT),
        "stderr" => Some(STDERR),
        "error" => Some(ERROR),
        "resize" => Some(RESIZE),
        _ => None,
    }
}

async fn pass_on(channel: u8, mut data: mpsc::Receiver<Bytes>, to: mpsc::Sender<Said>) {
    while let Some(data) = data.recv().await {
        let said = if channel == STDIN { Said::Stdin(data.to_vec()) } else { Said::Resize(data.to_vec()) };
        if to.send(said).await.is_err() {
            return;
        }
    }
    if channel == STDIN {
        // A session that has ended needs no end of its input.
        let _ = to.send(Said::StdinEnds).await;
    }
}

async fn write(mut queue: mpsc::Receiver<Message>, back: &BTreeMap<u8, Outgoing>) {
    while let Some(message) = queue.recv().await {
        let Message::Binary(mut data) = message else { continue };
        if data.len() < 2 {
            continue;
        }
        let channel = data.split_to(1)[0];
        if let Some(stream) = back.get(&channel)
            && !stream.send(data).await
        {
            return;
        }
    }
    for stream in back.values() {
        stream.end().await;
    }
}
