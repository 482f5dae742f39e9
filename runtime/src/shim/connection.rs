//! One client of a shim's control socket. Nothing here waits: the shim's loop calls when the socket is ready.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::protocol::{self, Channel, MAX_DESCRIPTORS, Reply, Request};

/// A request longer than this is refused.
const LONGEST_REQUEST: usize = 4 << 20;
/// What an attached client may be behind before it is cut off.
const BACKLOG: usize = 4 << 20;
const READ_SIZE: usize = 64 * 1024;

/// What a connection is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// Its request is not complete yet.
    New,
    /// It waits for the shim's end.
    Watch,
    /// It executed this process.
    Exec(i32),
    /// It sees the container's streams.
    Attach,
}

/// A client.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// What it is for.
    pub role: Role,
    input: Vec<u8>,
    output: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    /// No more will come from the client.
    pub input_ended: bool,
    /// It is of no more use.
    pub broken: bool,
}

impl Connection {
    /// A client that just came.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            role: Role::New,
            input: Vec::new(),
            output: Vec::new(),
            descriptors: Vec::new(),
            input_ended: false,
            broken: false,
        })
    }

    /// For poll.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.stream)
    }

    /// Whether there is something to send.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Reads what has come.
    pub fn fill(&mut self) {
        match self.role {
            Role::New => self.fill_request(),
            Role::Watch | Role::Exec(_) | Role::Attach => {
                let mut bytes = [0; READ_SIZE];
                match self.stream.read(&mut bytes) {
                    Ok(0) => self.input_ended = true,
                    Ok(length) if self.role == Role::Attach => self.input.extend_from_slice(&bytes[..length]),
                    Ok(_) => {}
                    Err(error) if is_not_yet(&error) => {}
                    Err(_) => self.broken = true,
                }
            }
        }
    }

    fn fill_request(&mut self) {
        let mut bytes = [0; READ_SIZE];
        let mut space = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(
            self.stream.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
        );
        let (length, messages) = match received {
            Ok(received) => (received.bytes, received.cmsgs().map(Iterator::collect::<Vec<_>>).unwrap_or_default()),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return,
            Err(_) => {
                self.broken = true;
                return;
            }
        };
        for message in messages {
            if let ControlMessageOwned::ScmRights(descriptors) = message {
                // SAFETY: the kernel just made these descriptors for us; nobody else knows them.
                self.descriptors.extend(descriptors.into_iter().map(|d| unsafe { OwnedFd::from_raw_fd(d) }));
            }
        }
        self.input_ended = length == 0;
        self.input.extend_from_slice(&bytes[..length]);
        self.broken |= self.input.len() > LONGEST_REQUEST;
    }

    /// The request with its descriptors, once it is complete.
    pub fn request(&mut self) -> Option<Result<(Request, Vec<OwnedFd>), String>> {
        let end = self.input.iter().position(|b| *b == b'\n')?;
        let line: Vec<u8> = self.input.drain(..=end).collect();
        let request = serde_json::from_slice(&line).map_err(|e| format!("request: {e}"));
        Some(request.map(|request| (request, std::mem::take(&mut self.descriptors))))
    }

    /// The next whole frame of an attached client.
    pub fn frame(&mut self) -> Option<(Channel, Vec<u8>)> {
        match protocol::take_frame(&mut self.input) {
            Ok(frame) => frame,
            Err(_) => {
                self.broken = true;
                None
            }
        }
    }

    /// Answers, with a descriptor if there is one.
    pub fn reply(&mut self, reply: &Reply, descriptor: Option<BorrowedFd<'_>>) {
        let Ok(mut line) = serde_json::to_vec(reply) else { return };
        line.push(b'\n');
        match descriptor {
            None => self.output.extend_from_slice(&line),
            Some(descriptor) => {
                let descriptors = [descriptor.as_raw_fd()];
                let rights = [ControlMessage::ScmRights(&descriptors)];
                let sent = sendmsg::<()>(
                    self.stream.as_raw_fd(),
                    &[IoSlice::new(&line)],
                    &rights,
                    MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
                    None,
                );
                self.broken |= sent != Ok(line.len());
            }
        }
        self.flush();
    }

    /// Passes output of the container on. A client that is too far behind is cut off.
    pub fn show(&mut self, channel: Channel, data: &[u8]) {
        protocol::put_frame(&mut self.output, channel, data);
        self.broken |= self.output.len() > BACKLOG;
        self.flush();
    }

    /// Sends what the socket takes.
    pub fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(sent) => drop(self.output.drain(..sent)),
                Err(error) if is_not_yet(&error) => return,
                Err(_) => {
                    self.broken = true;
                    return;
                }
            }
        }
    }

    /// Sends what is left, waiting for a slow client only so long. For the shim's end.
    pub fn finish(&mut self, patience: std::time::Duration) {
        let prepared = self.stream.set_nonblocking(false).and_then(|()| self.stream.set_write_timeout(Some(patience)));
        if prepared.is_ok() {
            self.flush();
        }
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
