//! Another process in a running container (`kubectl exec`, probes).
//!
//! A helper joins the container's cgroups and namespaces and makes the process a child of the shim, so that the shim
//! learns its exit code.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};

use super::birth::{self, Born, Channel, Message};
use super::enter::{self, Streams};
use crate::spec::Process;

/// The container to enter.
pub struct Target<'a> {
    /// Its first process.
    pub init: i32,
    /// Its cgroup directories.
    pub cgroups: &'a [PathBuf],
}

/// Starts a process and answers its id; without streams it gets a terminal.
pub fn start(target: &Target<'_>, process: &Process, streams: Streams) -> Result<(i32, Born), String> {
    let (ours, theirs) = Channel::pair().map_err(|e| format!("channel: {e}"))?;
    let child = birth::clone(0).map_err(|e| format!("clone: {e}"))?;
    if child.is_none() {
        drop(ours);
        let complaint = join_and_run(target, process, streams, &theirs);
        // Where the shim is gone, nobody is left to complain to.
        let _ = theirs.send(&Message::Failed(complaint), None);
        // SAFETY: ends this child without running the shim's exit handlers.
        unsafe { libc::_exit(1) }
    }
    drop((theirs, streams));
    let born = birth::await_program(&ours)?;
    let pid = born.pid.ok_or("the process has no id")?;
    Ok((pid, born))
}

fn join_and_run(target: &Target<'_>, process: &Process, streams: Streams, channel: &Channel) -> String {
    if let Err(error) = join(target) {
        return format!("joining the container: {error}");
    }
    match birth::clone(libc::CLONE_PARENT) {
        Err(error) => format!("clone: {error}"),
        Ok(Some(pid)) => {
            // SAFETY: ends this helper without running the shim's exit handlers.
            match channel.send(&Message::Pid(pid), None) {
                Ok(()) => unsafe { libc::_exit(0) },
                Err(error) => format!("telling the shim: {error}"),
            }
        }
        Ok(None) => enter::run_program(process, streams, channel, false),
    }
}

fn join(target: &Target<'_>) -> io::Result<()> {
    for directory in target.cgroups {
        std::fs::write(directory.join("cgroup.procs"), "0")?;
    }
    // SAFETY: a plain system call; its answer is a descriptor that only we know.
    let pidfd = match unsafe { libc::syscall(libc::SYS_pidfd_open, target.init, 0) } {
        -1 => return Err(io::Error::last_os_error()),
        descriptor => unsafe { OwnedFd::from_raw_fd(descriptor as i32) },
    };
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    Ok(setns(pidfd, all)?)
}
