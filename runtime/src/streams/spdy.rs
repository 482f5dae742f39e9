//! SPDY/3.1 as Kubernetes' clients use it for exec, attach and port-forward: many streams over one upgraded connection.
//!
//! Entry: [`accept`], over any two-way byte stream: an upgraded HTTP connection, or a WebSocket that carries the frames
//! ([`tunnel`], KEP-4006). Only the server's side, and only what these clients send. Invariants: a stream's data keeps its order;
//! a stream nobody reads holds up its connection, and memory stays bounded; the connection's end ends every stream.

mod frame;
mod headers;

use std::collections::BTreeMap;
use std::io;

use axum::extract::ws::{Message, WebSocket};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use frame::{Frame, GOAWAY_OK, REFUSED_STREAM};
pub use headers::Headers;

/// The token of HTTP's `Upgrade` header.
pub const TOKEN: &str = "SPDY/3.1";
/// What a port-forward over a WebSocket is called (KEP-4006).
pub const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Frames, and pieces of one stream, that wait for a slow reader.
const QUEUE: usize = 16;
const READ_SIZE: usize = 32 * 1024;
const PIPE: usize = 64 * 1024;
/// Streams of one connection at a time.
const MOST_STREAMS: usize = 1024;

/// A stream that the client opened.
#[derive(Debug)]
pub struct Stream {
    /// What the client says of it, names in lower case.
    pub headers: Headers,
    /// Its data; ends when the client will send no more.
    pub incoming: mpsc::Receiver<Bytes>,
    /// The way back.
    pub outgoing: Outgoing,
}

/// The way back of one stream.
#[derive(Clone, Debug)]
pub struct Outgoing {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl Outgoing {
    /// Sends data; false once the connection has ended.
    pub async fn send(&self, data: Bytes) -> bool {
        self.frames.send(Frame::Data { id: self.id, last: false, data }).await.is_ok()
    }

    /// No more will be sent on this stream.
    pub async fn end(&self) {
        // A connection that has ended needs no ends of streams.
        let _ = self.frames.send(Frame::Data { id: self.id, last: true, data: Bytes::new() }).await;
    }
}

/// A connection; dropping it ends it, after what is queued has been sent.
#[derive(Debug)]
pub struct Connection {
    opened: mpsc::Receiver<Stream>,
    _end: DropGuard,
}

impl Connection {
    /// The next stream that the client opens; None once it hangs up.
    pub async fn next(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }
}

/// Serves a connection in the background.
pub fn accept<T: AsyncRead + AsyncWrite + Send + 'static>(io: T) -> Connection {
    let (opened, streams) = mpsc::channel(QUEUE);
    let (frames, queue) = mpsc::channel(QUEUE);
    let end = CancellationToken::new();
    let ending = end.clone();
    tokio::spawn(async move {
        let (reader, writer) = tokio::io::split(io);
        let listening = Listening { frames, opened, streams: BTreeMap::new(), headers: headers::Reader::new() };
        let ended = tokio::select! {
            biased;
            ended = write_frames(writer, queue, ending) => ended,
            ended = listening.run(reader) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "SPDY connection ended");
        }
    });
    Connection { opened: streams, _end: end.drop_guard() }
}

/// Everything that is sent goes through here, so that headers are compressed in the order in which they are sent.
async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Frame>,
    end: CancellationToken,
) -> io::Result<()> {
    let mut headers = headers::Writer::new()?;
    let mut bytes = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            next = queue.recv() => next,
            () = end.cancelled() => None,
        };
        let Some(next) = next else { break };
        next.encode(&mut headers, &mut bytes)?;
        while let Ok(frame) = queue.try_recv() {
            frame.encode(&mut headers, &mut bytes)?;
        }
        writer.write_all(&bytes).await?;
        bytes.clear();
    }
    Frame::GoAway { last: 0, status: GOAWAY_OK }.encode(&mut headers, &mut bytes)?;
    writer.write_all(&bytes).await?;
    writer.shutdown().await
}

/// The reading side.
struct Listening {
    frames: mpsc::Sender<Frame>,
    opened: mpsc::Sender<Stream>,
    /// Where the data of a stream goes, until the client ends it.
    streams: BTreeMap<u32, mpsc::Sender<Bytes>>,
    headers: headers::Reader,
}

impl Listening {
    async fn run(mut self, mut reader: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = BytesMut::with_capacity(READ_SIZE);
        loop {
            while let Some(frame) = Frame::decode(&mut buffer, &mut self.headers)? {
                if !self.take(frame).await {
                    return Ok(());
                }
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    /// False at the end of the connection.
    async fn take(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Open { id, last, headers } => self.open(id, last, headers).await,
            Frame::Data { id, last, data } => {
                if let Some(stream) = self.streams.get(&id)
                    && (data.is_empty() || stream.send(data).await.is_ok())
                    && !last
                {
                    return true;
                }
                self.streams.remove(&id);
                true
            }
            Frame::Reset { id, .. } => {
                self.streams.remove(&id);
                true
            }
            // Odd numbers are the client's own questions; they come back as they are.
            Frame::Ping { id } if id % 2 == 1 => self.frames.send(Frame::Ping { id }).await.is_ok(),
            Frame::GoAway { .. } => false,
            Frame::Reply { .. } | Frame::Ping { .. } | Frame::Other => true,
        }
    }

    async fn open(&mut self, id: u32, last: bool, headers: Headers) -> bool {
        if self.streams.len() >= MOST_STREAMS || self.streams.contains_key(&id) {
            return self.frames.send(Frame::Reset { id, status: REFUSED_STREAM }).await.is_ok();
        }
        let (sender, incoming) = mpsc::channel(QUEUE);
        if !last {
            self.streams.insert(id, sender);
        }
        let outgoing = Outgoing { id, frames: self.frames.clone() };
        self.frames.send(Frame::Reply { id }).await.is_ok()
            && self.opened.send(Stream { headers, incoming, outgoing }).await.is_ok()
    }
}

/// The bytes that a WebSocket carries in its binary messages.
pub fn tunnel(socket: WebSocket) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let (mut reader, mut writer) = tokio::io::split(theirs);
    let (mut sink, mut messages) = socket.split();
    tokio::spawn(async move {
        let receive = async {
            while let Some(Ok(message)) = messages.next().await {
                match message {
                    Message::Binary(bytes) if writer.write_all(&bytes).await.is_err() => return,
                    Message::Close(_) => break,
                    Message::Binary(_) | Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
                }
            }
            // The other side may have ended first.
            let _ = writer.shutdown().await;
        };
        let send = async {
            let mut buffer = BytesMut::with_capacity(READ_SIZE);
            while let Ok(1..) = reader.read_buf(&mut buffer).await {
                if sink.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                    return;
                }
                buffer.reserve(READ_SIZE);
            }
            // Clients take an end without a status for a broken connection.
            let _ = sink.send(super::normal_end()).await;
            let _ = sink.close().await;
        };
        tokio::join!(receive, send);
    });
    ours
}

#[cfg(test)]
mod tests;
