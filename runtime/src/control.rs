//! The server's side of a shim's control socket.
//!
//! Nothing here keeps state: every call connects anew, which is why a new server finds a running container as well as
//! the one that started it.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::UnixStream;

use crate::shim::protocol::{Reply, Request, SOCKET_FILE};
use crate::spec::Process;

/// A shim answers at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(20);
/// Replies are one short line, but a complaint may be longer.
const LONGEST_REPLY: usize = 64 * 1024;

/// What went wrong between server and shim.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The shim does not answer.
    #[error("the container's shim does not answer")]
    Io(#[from] io::Error),
    /// It does not answer in time.
    #[error("the container's shim does not answer in time")]
    Timeout,
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// It said something else than expected.
    #[error("the container's shim gave an unexpected answer")]
    Unexpected,
}

/// An executed process.
#[derive(Debug)]
pub struct Execution {
    stream: UnixStream,
    rest: Vec<u8>,
    /// The controlling side of its terminal.
    pub terminal: Option<OwnedFd>,
}

impl Execution {
    /// Waits for its end. Dropping it kills the process.
    pub async fn exit_code(&mut self) -> Result<i32, ControlError> {
        match read_reply(&self.stream, &mut self.rest).await?.0 {
            Reply::Exited(code) => Ok(code),
            Reply::Failed(complaint) => Err(ControlError::Refused(complaint)),
            Reply::Done | Reply::Started => Err(ControlError::Unexpected),
        }
    }
}

/// Sends a signal to the first process.
pub async fn signal(directory: &Path, signal: i32) -> Result<(), ControlError> {
    done(directory, &Request::Signal(signal)).await
}

/// Makes the shim open its log file by name again.
pub async fn reopen_log(directory: &Path) -> Result<(), ControlError> {
    done(directory, &Request::ReopenLog).await
}

/// A connection that ends when the shim is gone.
pub async fn watch(directory: &Path) -> io::Result<UnixStream> {
    let stream = connect(directory).await?;
    send(&stream, &Request::Watch, &[]).await?;
    Ok(stream)
}

/// Waits until the shim at the other end is gone.
pub async fn gone(mut stream: UnixStream) {
    let mut byte = [0];
    while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
}

/// A connection that carries the container's streams in frames.
pub async fn attach(directory: &Path) -> Result<(UnixStream, Vec<u8>), ControlError> {
    let stream = connect(directory).await?;
    send(&stream, &Request::Attach, &[]).await?;
    let mut rest = Vec::new();
    match prompt_reply(&stream, &mut rest).await?.0 {
        Reply::Done => Ok((stream, rest)),
        Reply::Failed(complaint) => Err(ControlError::Refused(complaint)),
        Reply::Started | Reply::Exited(_) => Err(ControlError::Unexpected),
    }
}

/// Starts another process. Streams are needed unless it gets a terminal.
pub async fn execute(
    directory: &Path,
    process: Process,
    streams: &[BorrowedFd<'_>],
) -> Result<Execution, ControlError> {
    let stream = connect(directory).await?;
    send(&stream, &Request::Exec(process), streams).await?;
    let mut rest = Vec::new();
    match prompt_reply(&stream, &mut rest).await? {
        (Reply::Started, terminal) => Ok(Execution { stream, rest, terminal }),
        (Reply::Failed(complaint), _) => Err(ControlError::Refused(complaint)),
        (Reply::Done | Reply::Exited(_), _) => Err(ControlError::Unexpected),
    }
}

async fn done(directory: &Path, request: &Request) -> Result<(), ControlError> {
    let stream = connect(directory).await?;
    send(&stream, request, &[]).await?;
    match prompt_reply(&stream, &mut Vec::new()).await?.0 {
        Reply::Done => Ok(()),
        Reply::Failed(complaint) => Err(ControlError::Refused(complaint)),
        Reply::Started | Reply::Exited(_) => Err(ControlError::Unexpected),
    }
}

/// A socket's path must fit in 108 bytes; a path through an open directory always does.
async fn connect(directory: &Path) -> io::Result<UnixStream> {
    let open = File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET_FILE}", open.as_raw_fd())).await
}

async fn send(stream: &UnixStream, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let raw: Vec<RawFd> = descriptors.iter().map(|d| d.as_raw_fd()).collect();
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let rights = [ControlMessage::ScmRights(&raw)];
            let control = if raw.is_empty() { &[][..] } else { &rights[..] };
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            Ok(sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&line)], control, flags, None)?)
        })
        .await?;
    let mut writer: &UnixStream = stream;
    write_all(&mut writer, &line[sent..]).await
}

async fn write_all(stream: &mut &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn prompt_reply(stream: &UnixStream, rest: &mut Vec<u8>) -> Result<(Reply, Option<OwnedFd>), ControlError> {
    tokio::time::timeout(PATIENCE, read_reply(stream, rest)).await.map_err(|_| ControlError::Timeout)?
}

/// Reads one line; what comes after it stays in `rest`.
async fn read_reply(stream: &UnixStream, rest: &mut Vec<u8>) -> Result<(Reply, Option<OwnedFd>), ControlError> {
    let mut descriptor = None;
    loop {
        if let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let reply = serde_json::from_slice(&line).map_err(|_| ControlError::Unexpected)?;
            return Ok((reply, descriptor));
        }
        let (bytes, received) = stream.async_io(Interest::READABLE, || receive(stream)).await?;
        if bytes.is_empty() || rest.len() > LONGEST_REPLY {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        rest.extend(bytes);
        descriptor = received.or(descriptor);
    }
}

fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = vec![0; 4096];
    let mut space = cmsg_space!([RawFd; 1]);
    let (length, descriptor) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let received = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        let rights = received.cmsgs()?.filter_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
        (received.bytes, rights.last().map(|d| unsafe { OwnedFd::from_raw_fd(d) }))
    };
    bytes.truncate(length);
    Ok((bytes, descriptor))
}
