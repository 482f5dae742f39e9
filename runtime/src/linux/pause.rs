//! The process that keeps a pod's process namespace, where its containers share one (`shareProcessNamespace`).
//!
//! It is process 1 there: it does nothing but reap, and with its end all containers of the pod end. It is found again
//! by its cgroup, not by its number. Other pods have none.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, waitpid};

use super::sandbox::cgroup_parent;
use super::{Linux, LinuxError, Result, at};
use crate::cgroups::{Hierarchies, Limits};
use crate::network;
use crate::record::Sandbox;

/// File that keeps the namespace, below the sandbox's directory.
pub(super) const PID: &str = "pid";
/// File with the path of the pause process' cgroup.
const CGROUP: &str = "pause-cgroup";

impl Linux {
    pub(super) fn start_pause(&self, sandbox: &Sandbox, directory: &Path) -> Result<()> {
        let cgroup = format!("{}/{}", cgroup_parent(&sandbox.config), sandbox.id);
        fs::write(directory.join(CGROUP), &cgroup).map_err(at(directory))?;
        let output = Command::new(&self.config.program)
            .arg("pause")
            .arg(directory)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(at(&self.config.program))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(LinuxError::Start(format!("pause: {}", String::from_utf8_lossy(&output.stderr).trim()))),
        }
    }

    /// Ends it and lets the namespace go. Idempotent.
    pub(super) fn stop_pause(&self, _id: &str, directory: &Path) -> Result<()> {
        let Ok(cgroup) = fs::read_to_string(directory.join(CGROUP)) else { return Ok(()) };
        self.hierarchies.kill(&cgroup);
        self.hierarchies.remove(&cgroup)?;
        let file = directory.join(PID);
        network::unmount_all(&file).map_err(at(&file))
    }
}

/// The process: `pause <directory of the sandbox>`. Answers when the namespace exists and is kept.
pub fn pause(directory: &Path) -> ExitCode {
    match start(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start(directory: &Path) -> io::Result<()> {
    let cgroup = fs::read_to_string(directory.join(CGROUP))?;
    let hierarchies = Hierarchies::detect()?;
    hierarchies.create(&cgroup, &Limits::default()).map_err(io::Error::other)?;
    for group in hierarchies.directories(&cgroup, false) {
        fs::write(group.join("cgroup.procs"), "0")?;
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let Some(pid) = crate::shim::clone(libc::CLONE_NEWPID)? else { reap_for_ever(&null) };
    let file = directory.join(PID);
    File::create(&file)?;
    let none: Option<&str> = None;
    Ok(mount(Some(format!("/proc/{pid}/ns/pid").as_str()), &file, none, MsFlags::MS_BIND, none)?)
}

fn reap_for_ever(null: &File) -> ! {
    // Nothing here can fail in a way that somebody could hear of.
    let _ = nix::unistd::setsid();
    for descriptor in 0..3 {
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(null), descriptor) };
    }
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    let _ = ended.thread_block();
    loop {
        let _ = ended.wait();
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|s| s.pid().is_some()) {}
    }
}
