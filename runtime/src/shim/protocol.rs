//! What is said on a shim's control socket, and the files beside it.
//!
//! One request a connection: a line of JSON, with file descriptors attached where the request needs them; then
//! [`Reply`] lines. After `Attach` both sides speak in frames. Closing the connection of an `Exec` kills its process;
//! the end of a `Watch` connection means that the shim is gone and the exit file, if any, is complete.

use serde::{Deserialize, Serialize};

use crate::spec::Process;

/// The spec that the shim reads.
pub const SPEC_FILE: &str = "spec.json";
/// Written once the first process runs: [`Started`].
pub const STARTED_FILE: &str = "started.json";
/// Written when it has ended: [`crate::record::Exit`].
pub const EXIT_FILE: &str = "exit.json";
/// Locked as long as the shim lives.
pub const LOCK_FILE: &str = "shim.lock";
/// The control socket.
pub const SOCKET_FILE: &str = "control.sock";
/// What the shim itself had to complain about.
pub const LOG_FILE: &str = "shim.log";
/// Directories of the root filesystem.
pub const ROOTFS: &str = "rootfs";
/// Where its changes go.
pub const UPPER: &str = "upper";
/// The kernel's own.
pub const WORK: &str = "work";

/// The most descriptors that travel with one request.
pub const MAX_DESCRIPTORS: usize = 3;
/// The largest frame of an attached stream.
pub const MAX_FRAME: usize = 64 * 1024;

/// What a client wants.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// To see the end.
    Watch,
    /// A signal for the first process.
    Signal(i32),
    /// The log file again by its name, after it was moved away.
    ReopenLog,
    /// The container's streams.
    Attach,
    /// Another process; stdin, stdout and stderr come along unless it gets a terminal.
    Exec(Process),
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// It is not, for this reason.
    Failed(String),
    /// The process runs; with a terminal, its controlling side comes along.
    Started,
    /// The process has ended with this code.
    Exited(i32),
}

/// The first process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Started {
    /// Its id on the host.
    pub pid: i32,
    /// Nanoseconds since the epoch.
    pub started_at: i64,
    /// Who it runs as.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// All its groups.
    pub groups: Vec<u32>,
}

/// What a shim says on its stdout, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// The container runs.
    Started(Started),
    /// It could not be started.
    Failed(String),
}

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// To the container.
    Stdin,
    /// From it; also everything a terminal shows.
    Stdout,
    /// From it.
    Stderr,
    /// The terminal's size, `{"Width":80,"Height":24}`.
    Resize,
}

impl Channel {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Stdin, Self::Stdout, Self::Stderr, Self::Resize].into_iter().find(|c| *c as u8 == byte)
    }
}

/// Appends a frame.
pub fn put_frame(out: &mut Vec<u8>, channel: Channel, data: &[u8]) {
    for part in data.chunks(MAX_FRAME) {
        out.push(channel as u8);
        out.extend_from_slice(&(part.len() as u32).to_be_bytes());
        out.extend_from_slice(part);
    }
}

/// A frame that is no frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed frame on an attached stream")]
pub struct MalformedFrame;

/// Takes one whole frame off the front; none when more bytes must come first.
pub fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<(Channel, Vec<u8>)>, MalformedFrame> {
    let Some((header, rest)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    let channel = Channel::from_byte(header[0]).ok_or(MalformedFrame)?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > MAX_FRAME {
        return Err(MalformedFrame);
    }
    if rest.len() < length {
        return Ok(None);
    }
    let data = rest[..length].to_vec();
    buffer.drain(..5 + length);
    Ok(Some((channel, data)))
}

/// A terminal's size as Kubernetes' clients send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_there_and_back() {
        let mut buffer = Vec::new();
        put_frame(&mut buffer, Channel::Stdin, b"abc");
        put_frame(&mut buffer, Channel::Resize, b"{}");
        let mut partial = buffer[..6].to_vec();
        assert_eq!(take_frame(&mut partial), Ok(None));
        assert_eq!(take_frame(&mut buffer), Ok(Some((Channel::Stdin, b"abc".to_vec()))));
        assert_eq!(take_frame(&mut buffer), Ok(Some((Channel::Resize, b"{}".to_vec()))));
        assert_eq!(take_frame(&mut buffer), Ok(None));
        assert_eq!(take_frame(&mut vec![9, 0, 0, 0, 0]), Err(MalformedFrame));
        assert_eq!(take_frame(&mut vec![0, 255, 0, 0, 0]), Err(MalformedFrame));
    }
}
