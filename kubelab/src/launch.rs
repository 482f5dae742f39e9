//! Processes that outlive the command that starts them: spawned in a session of their own with a log file, found again by their lock.
//!
//! Invariant: a component holds the record lock of its file in the cluster's `run` folder from before it is executed until it ends, and
//! the kernel says whose lock it is. So none is lost or started twice, whenever the command that starts it is killed.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::components::{CommandLine, Component, command_line};

/// How often a process is looked at while waiting for its end.
const EXIT_CHECK: Duration = Duration::from_millis(5);

/// A process that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its pid.
    pub pid: i32,
    /// Its start time, in clock ticks since boot (`/proc/PID/stat`, field 22): a recycled pid is another process.
    started: u64,
}

impl Running {
    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Resident memory that is not shared with others, in bytes (`Pss` where readable, else `VmRSS`).
    pub fn memory(&self) -> Option<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// Sends a signal; a process that is gone is no error.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits for its end; false after `limit`.
    pub async fn ended(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(EXIT_CHECK).await;
        }
        true
    }
}

/// State and start time of a live process; zombies count as ended.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn lock_file(cluster: &Cluster, component: &str) -> PathBuf {
    cluster.dir.join("run").join(format!("{component}.lock"))
}

/// A lock of the whole file.
fn whole_file() -> libc::flock {
    // SAFETY: all fields are integers, for which zero is a value; a length of zero means to the end.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock
}

/// The component's process, if it runs.
pub fn running(cluster: &Cluster, component: &str) -> Option<Running> {
    let file = fs::OpenOptions::new().write(true).open(lock_file(cluster, component)).ok()?;
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return None;
    }
    Some(Running { pid: lock.l_pid, started: start_time(lock.l_pid)? })
}

/// Locks the file for the process that calls this; to be called between fork and exec. The descriptor stays open past exec, because a
/// process that closes any descriptor of a file gives up its locks of it (fcntl(2), "Advisory record locking").
fn hold(file: BorrowedFd<'_>) -> nix::Result<()> {
    fcntl(file, FcntlArg::F_SETLK(&whole_file()))?;
    fcntl(file, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}

/// What a component inherited stays its own: the programs that it starts get none of it.
pub fn keep_inherited_files() {
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            // SAFETY: the flag of a descriptor is set; one that is closed meanwhile is an error that changes nothing.
            unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

fn appending(path: &Path) -> Result<fs::File> {
    let file = fs::OpenOptions::new().create(true).append(true).mode(0o640).open(path);
    file.with_context(|| format!("can't write {}", path.display()))
}

/// Starts a component; its output goes to its log.
pub fn spawn(cluster: &Cluster, component: &Component) -> Result<Child> {
    let name = component.name();
    let CommandLine { program, args } = command_line(cluster, component);
    let own = program.is_none();
    let program = program.map_or_else(std::env::current_exe, Ok).context("can't find this program's own file")?;
    let log = appending(&cluster.log(&name))?;
    let mut command = Command::new(&program);
    command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    command.env_remove("KUBECONFIG");
    if own {
        command.arg0("kubelab");
    }
    let lock = appending(&lock_file(cluster, &name))?;
    let file = lock.as_raw_fd();
    // SAFETY: setsid and fcntl are async-signal-safe and touch no memory of the parent; the file is open until the process is spawned.
    unsafe {
        command.pre_exec(move || {
            hold(BorrowedFd::borrow_raw(file))?;
            nix::unistd::setsid().map(drop).map_err(std::io::Error::from)
        });
    }
    // The lock's file is open until here; the child has its own descriptor of it.
    let child = command.spawn();
    drop(lock);
    child.with_context(|| match own {
        true => format!("can't run {}", program.display()),
        false => format!(
            "{} was not found on PATH; install it (apt-get install etcd-server) or name servers with --etcd-servers",
            program.display()
        ),
    })
}
