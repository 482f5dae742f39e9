//! How a shim brings a process into the world, and how parent and child talk until it runs its program.
//!
//! The child says over a channel who it became, hands over its terminal, or says what went wrong; when the channel
//! ends without a complaint, the program runs. Invariant: only a single-threaded process calls [`clone`].

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::accounts::Identity;

/// The longest message of a child; longer complaints are cut.
const LONGEST: usize = 16 * 1024;

/// What a child has to say.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The controlling side of its terminal comes with this message.
    Terminal,
    /// A process executed in a container has this id.
    Pid(i32),
    /// Who it runs as.
    Identity(Identity),
    /// Why it will not run.
    Failed(String),
    /// From the parent: everything is prepared.
    Go,
}

/// One end of the channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends: messages stay whole, and neither end survives an exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends, with a descriptor if there is one.
    pub fn send(&self, message: &Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(message)?;
        bytes.truncate(LONGEST);
        let descriptors: Vec<RawFd> = descriptor.iter().map(|d| d.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let control = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// Receives; none when the other end is closed.
    pub fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = cmsg_space!([RawFd; 1]);
        let (length, descriptor) = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(received) => break (received.bytes, first_descriptor(received.cmsgs()?)),
            }
        };
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&bytes[..length])?, descriptor)))
    }
}

fn first_descriptor(messages: impl Iterator<Item = ControlMessageOwned>) -> Option<OwnedFd> {
    let descriptors = messages.filter_map(|m| match m {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
    descriptors.last().map(|d| unsafe { OwnedFd::from_raw_fd(d) })
}

/// Forks into new namespaces. Answers the child's id to the parent and none to the child.
///
/// With `CLONE_PARENT` the child becomes a child of this process' parent.
pub fn clone(flags: i32) -> io::Result<Option<i32>> {
    let signal = if flags & libc::CLONE_PARENT == 0 { libc::SIGCHLD } else { 0 };
    // SAFETY: an all-zero structure is valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags as u64;
    arguments.exit_signal = signal as u64;
    // SAFETY: without CLONE_VM this is a fork: the child gets a copy of all memory and of this only thread's stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// What became of a child.
#[derive(Debug)]
pub struct Born {
    /// Who it runs as.
    pub identity: Identity,
    /// The controlling side of its terminal.
    pub terminal: Option<OwnedFd>,
    /// Its id, when it was born through an intermediate process.
    pub pid: Option<i32>,
}

/// Listens to a child until it runs its program; the error is its complaint.
pub fn await_program(channel: &Channel) -> Result<Born, String> {
    let mut born = Born { identity: Identity::default(), terminal: None, pid: None };
    let mut identified = false;
    loop {
        match channel.receive() {
            Ok(Some((Message::Terminal, terminal))) => born.terminal = terminal,
            Ok(Some((Message::Pid(pid), _))) => born.pid = Some(pid),
            Ok(Some((Message::Identity(identity), _))) => {
                born.identity = identity;
                identified = true;
            }
            Ok(Some((Message::Failed(complaint), _))) => return Err(complaint),
            Ok(Some((Message::Go, _))) => {}
            Ok(None) if identified => return Ok(born),
            Ok(None) => return Err("the process ended before it could run its program".to_owned()),
            Err(error) => return Err(format!("listening to the new process: {error}")),
        }
    }
}
