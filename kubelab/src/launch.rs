//! Processes that outlive the command that starts them: spawned in a session of their own with a log file, found again by their pid file.
//!
//! A pid file also holds the process's start time, so that a recycled pid is not mistaken for ours.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::components::{CommandLine, Component, command_line};

/// How often a process is looked at while waiting for its end.
const EXIT_CHECK: Duration = Duration::from_millis(5);

/// A process that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its pid.
    pub pid: i32,
    /// Its start time, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
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

fn pid_file(cluster: &Cluster, component: &str) -> PathBuf {
    cluster.dir.join("run").join(format!("{component}.json"))
}

/// The component's process, if it runs.
pub fn running(cluster: &Cluster, component: &str) -> Option<Running> {
    let text = fs::read(pid_file(cluster, component)).ok()?;
    serde_json::from_slice(&text).ok().filter(Running::is_alive)
}

/// Forgets a component that was stopped.
pub fn forget(cluster: &Cluster, component: &str) {
    let _ = fs::remove_file(pid_file(cluster, component));
}

/// Starts a component; its output goes to its log.
pub fn spawn(cluster: &Cluster, component: &Component) -> Result<Child> {
    let name = component.name();
    let CommandLine { program, args } = command_line(cluster, component);
    let own = program.is_none();
    let program = program.map_or_else(std::env::current_exe, Ok).context("can't find this program's own file")?;
    let log_path = cluster.log(&name);
    let log = fs::OpenOptions::new().create(true).append(true).mode(0o640).open(&log_path);
    let log = log.with_context(|| format!("can't write {}", log_path.display()))?;
    let mut command = Command::new(&program);
    command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/");
    command.env_remove("KUBECONFIG");
    if own {
        command.arg0("kubelab");
    }
    // SAFETY: setsid is async-signal-safe and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
    }
    let child = command.spawn().with_context(|| match own {
        true => format!("can't run {}", program.display()),
        false => format!(
            "{} was not found on PATH; install it (apt-get install etcd-server) or name servers with --etcd-servers",
            program.display()
        ),
    })?;
    let pid = i32::try_from(child.id()).expect("a pid fits");
    let process = Running { pid, started: start_time(pid).unwrap_or_default() };
    fs::write(pid_file(cluster, &name), serde_json::to_vec(&process)?)?;
    Ok(child)
}
