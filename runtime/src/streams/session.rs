//! A client's session with a command or with a container's own streams.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Message;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::channels::{Protocol, STDERR, STDOUT, Said, message};
use super::link::Link;
use crate::control;
use crate::linux::Linux;
use crate::shim::protocol::{Channel, TerminalSize, put_frame, take_frame};

const READ_SIZE: usize = 32 * 1024;
/// How long output may still come after the command has ended.
const DRAIN: Duration = Duration::from_millis(500);

type Outgoing = mpsc::Sender<Message>;

/// Executes a command and connects the client with it.
pub async fn execute(
    linux: &Arc<Linux>,
    link: Link,
    protocol: Protocol,
    container_id: &str,
    command: &[String],
    tty: bool,
    stdin: bool,
) {
    let Link { outgoing, incoming, writer } = link;
    let outcome = match linux.execute(container_id, command, tty, stdin).await {
        Err(error) => Some(Err(tonic::Status::from(error).message().to_owned())),
        Ok(running) => {
            let mut execution = running.execution;
            let outputs = tokio::spawn(forward_all(running.stdout, running.stderr, outgoing.clone()));
            let input = running.stdin.filter(|_| stdin);
            tokio::select! {
                biased;
                code = execution.exit_code() => {
                    let abort = outputs.abort_handle();
                    if tokio::time::timeout(DRAIN, outputs).await.is_err() {
                        abort.abort();
                    }
                    Some(code.map_err(|e| e.to_string()))
                }
                // The client hung up: dropping the execution kills the command.
                () = listen(incoming, input, running.terminal) => None,
            }
        }
    };
    if let Some(outcome) = outcome {
        finish(outgoing, writer, protocol.end(&outcome)).await;
    }
}

/// Connects the client with a container's own streams.
pub async fn attach(linux: &Arc<Linux>, link: Link, protocol: Protocol, container_id: &str, stdin: bool) {
    let Link { outgoing, mut incoming, writer } = link;
    let (stream, mut rest) = match control::attach(&linux.container_directory(container_id)).await {
        Ok(attached) => attached,
        Err(error) => return finish(outgoing, writer, protocol.end(&Err(error.to_string()))).await,
    };
    let (mut reader, mut container) = stream.into_split();
    let first = message(STDOUT, &[]);
    let show = async {
        let mut buffer = vec![0; READ_SIZE];
        if outgoing.send(first).await.is_err() {
            return;
        }
        loop {
            while let Ok(Some((channel, data))) = take_frame(&mut rest) {
                let channel = if channel == Channel::Stderr { STDERR } else { STDOUT };
                if outgoing.send(message(channel, &data)).await.is_err() {
                    return;
                }
            }
            match reader.read(&mut buffer).await {
                Ok(length @ 1..) => rest.extend_from_slice(&buffer[..length]),
                _ => return,
            }
        }
    };
    let listen = async {
        while let Some(said) = incoming.next().await {
            let mut frame = Vec::new();
            match said {
                Said::Stdin(data) if stdin => put_frame(&mut frame, Channel::Stdin, &data),
                Said::Resize(size) => put_frame(&mut frame, Channel::Resize, &size),
                Said::StdinEnds => drop(container.shutdown().await),
                Said::Ends => return,
                Said::Stdin(_) | Said::Nothing => {}
            }
            if !frame.is_empty() && container.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    let ended = tokio::select! {
        biased;
        () = show => true,
        () = listen => false,
    };
    if ended {
        finish(outgoing, writer, protocol.end(&Ok(0))).await;
    }
}

/// Says the last word and waits until it is sent.
async fn finish(outgoing: Outgoing, writer: tokio::task::JoinHandle<()>, last: Message) {
    // A client that is gone needs no last word.
    let _ = outgoing.send(last).await;
    drop(outgoing);
    let _ = writer.await;
}

async fn forward_all(stdout: Option<pipe::Receiver>, stderr: Option<pipe::Receiver>, outgoing: Outgoing) {
    // An empty message tells the client at once that the stream is open.
    if outgoing.send(message(STDOUT, &[])).await.is_ok() {
        tokio::join!(forward(stdout, STDOUT, &outgoing), forward(stderr, STDERR, &outgoing));
    }
}

async fn forward(stream: Option<pipe::Receiver>, channel: u8, outgoing: &Outgoing) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; READ_SIZE];
    // A terminal whose last user has gone says EIO: its end too.
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if outgoing.send(message(channel, &buffer[..length])).await.is_err() {
            return;
        }
    }
}

/// Passes on what the client says; ends when it hangs up.
async fn listen(mut incoming: BoxStream<'static, Said>, mut input: Option<pipe::Sender>, terminal: Option<OwnedFd>) {
    while let Some(said) = incoming.next().await {
        match said {
            Said::Stdin(data) => {
                if let Some(stdin) = &mut input
                    && stdin.write_all(&data).await.is_err()
                {
                    input = None;
                }
            }
            Said::StdinEnds => input = None,
            Said::Resize(size) => resize(terminal.as_ref(), &size),
            Said::Ends => return,
            Said::Nothing => {}
        }
    }
}

fn resize(terminal: Option<&OwnedFd>, size: &[u8]) {
    if let (Some(terminal), Ok(size)) = (terminal, serde_json::from_slice::<TerminalSize>(size)) {
        let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the structure outlives the call. A terminal that refuses keeps its size.
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }
}
