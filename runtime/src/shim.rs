//! A small single-threaded process beside each container: it starts it, keeps its log and notes how it ended.
//!
//! `<program> shim <directory>` reads the container's spec there, makes the container, says on stdout what became of
//! it, and stays until the container ends. It outlives the server that started it and is found again through its
//! directory: a locked file while it lives, a control socket, an exit file afterwards. Entry: [`main`].
//! Invariant: the shim never waits for anything but its poll; a client that is slow or gone costs the container nothing.

mod birth;
mod connection;
mod enter;
mod execution;
mod init;
mod log;
pub mod protocol;
mod watchman;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cgroups::Hierarchies;
use crate::record::Exit;
use crate::spec::{PidNamespace, Spec};
use birth::{Born, Channel, Message};
use enter::Streams;
use log::{Log, Stream};
use protocol::{EXIT_FILE, LOCK_FILE, Outcome, SOCKET_FILE, SPEC_FILE, STARTED_FILE, Started};
use watchman::{Container, Watchman};

pub(crate) use birth::clone;

/// The process: `shim <directory>`.
pub fn main(directory: &Path) -> ExitCode {
    match start(directory) {
        Ok(mut watchman) => {
            let (code, out_of_memory) = watchman.watch();
            let exit = Exit::of_process(now(), code, out_of_memory);
            if let Err(error) = write_json(directory, EXIT_FILE, &exit) {
                eprintln!("exit file: {error}");
                return ExitCode::FAILURE;
            }
            watchman.say_goodbye(code);
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            say(&Outcome::Failed(complaint));
            ExitCode::FAILURE
        }
    }
}

/// Makes the container and everything needed to watch over it.
fn start(directory: &Path) -> Result<Watchman, String> {
    let told = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    // Already the leader of a session when started by hand: then there is nothing to do.
    let _ = nix::unistd::setsid();
    let lock = File::options().create(true).truncate(false).write(true).open(directory.join(LOCK_FILE));
    let lock = lock.map_err(told("lock file"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock);
    let mut lock = lock.map_err(|_| "another shim has this container".to_owned())?;
    write!(lock, "{}", std::process::id()).map_err(told("lock file"))?;
    let spec: Spec = fs::read(directory.join(SPEC_FILE))
        .and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
        .map_err(told("spec"))?;
    let socket = listen(directory).map_err(told("control socket"))?;
    let log = Log::open(spec.log_path.as_deref()).map_err(told("log file"))?;
    let hierarchies = Hierarchies::detect().map_err(told("cgroups"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|e| format!("subreaper: {e}"))?;
    let (pid, born, pipes) = make_container(&spec, directory, &hierarchies)?;
    let started = Started {
        pid,
        started_at: now(),
        uid: born.identity.uid,
        gid: born.identity.gid,
        groups: born.identity.groups.clone(),
    };
    write_json(directory, STARTED_FILE, &started).map_err(told("started file"))?;
    let signals = signals().map_err(told("signals"))?;
    let (outputs, stdin) = streams_of(born, pipes);
    say(&Outcome::Started(started));
    let container = Container { spec, pid, hierarchies, log, outputs, stdin };
    Watchman::new(container, socket, signals, lock).map_err(told("control socket"))
}

/// Blocks SIGCHLD only now, after the container's creation: the mask is inherited.
fn signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// A socket's path must fit in 108 bytes; a path through an open directory always does.
fn listen(directory: &Path) -> io::Result<UnixListener> {
    let _ = fs::remove_file(directory.join(SOCKET_FILE));
    let open = File::open(directory)?;
    let socket = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET_FILE}", open.as_raw_fd()))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The shim's ends of the container's standard streams.
struct Pipes {
    stdin: Option<OwnedFd>,
    outputs: Vec<(Stream, OwnedFd)>,
}

fn make_container(spec: &Spec, directory: &Path, hierarchies: &Hierarchies) -> Result<(i32, Born, Pipes), String> {
    hierarchies.create(&spec.cgroup, &spec.limits).map_err(|e| describe(&e))?;
    let (joined, flags) = init::namespaces(spec).map_err(|e| e.to_string())?;
    let (streams, pipes) = streams(spec).map_err(|e| format!("streams: {e}"))?;
    let (ours, theirs) = Channel::pair().map_err(|e| format!("channel: {e}"))?;
    let child = birth::clone(flags).map_err(|e| format!("clone: {e}"))?;
    let Some(pid) = child else {
        drop((ours, pipes));
        let complaint = init::run(spec, directory, &joined, streams, &theirs);
        // Where the shim is gone, nobody is left to complain to.
        let _ = theirs.send(&Message::Failed(complaint), None);
        // SAFETY: ends this child without running the shim's exit handlers.
        unsafe { libc::_exit(1) }
    };
    drop((theirs, streams, joined));
    init::leave_pid_namespace(spec).map_err(|e| format!("own process namespace: {e}"))?;
    let prepared = put_into_cgroups(spec, hierarchies, pid);
    let born = prepared.and_then(|()| {
        ours.send(&Message::Go, None).map_err(|e| format!("channel: {e}"))?;
        birth::await_program(&ours)
    });
    match born {
        Ok(born) => Ok((pid, born, pipes)),
        Err(complaint) => {
            hierarchies.kill(&spec.cgroup);
            // The first process may not have reached its cgroup.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            Err(complaint)
        }
    }
}

fn put_into_cgroups(spec: &Spec, hierarchies: &Hierarchies, pid: i32) -> Result<(), String> {
    for directory in hierarchies.directories(&spec.cgroup, spec.limits.has_cpuset()) {
        fs::write(directory.join("cgroup.procs"), pid.to_string())
            .map_err(|e| format!("joining cgroup {}: {e}", directory.display()))?;
    }
    // Lowering needs a capability that containers' hosts often lack; then it stays as it is.
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), spec.oom_score_adj.clamp(-1000, 1000).to_string());
    Ok(())
}

fn streams(spec: &Spec) -> io::Result<(Streams, Pipes)> {
    if spec.process.tty {
        return Ok((Streams::Terminal, Pipes { stdin: None, outputs: Vec::new() }));
    }
    let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC);
    let (stdin_theirs, stdin) = match spec.stdin {
        true => pipe().map(|(read, write)| (read, Some(write)))?,
        false => (File::open("/dev/null")?.into(), None),
    };
    let (stdout, stdout_theirs) = pipe()?;
    let (stderr, stderr_theirs) = pipe()?;
    let outputs = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
    Ok((Streams::Given([stdin_theirs, stdout_theirs, stderr_theirs]), Pipes { stdin, outputs }))
}

fn streams_of(born: Born, pipes: Pipes) -> (Vec<(Stream, OwnedFd)>, Option<OwnedFd>) {
    match born.terminal {
        Some(terminal) => {
            let stdin = terminal.try_clone().ok();
            (vec![(Stream::Stdout, terminal)], stdin)
        }
        None => (pipes.outputs, pipes.stdin),
    }
}

/// Says the outcome on stdout and closes it: the server waits for the end of that pipe.
fn say(outcome: &Outcome) {
    let line = serde_json::to_string(outcome).unwrap_or_default();
    // The server may be gone; then it reads the files.
    let _ = io::stdout().write_all(line.as_bytes()).and_then(|()| io::stdout().flush());
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        // SAFETY: both descriptors are open.
        unsafe { libc::dup2(null.as_fd().as_raw_fd(), 1) };
    }
}

/// Writes a file under another name first, so that it is whole or not there.
fn write_json<T: serde::Serialize>(directory: &Path, name: &str, value: &T) -> io::Result<()> {
    let partial = directory.join(format!("{name}.partial"));
    fs::write(&partial, serde_json::to_vec(value)?)?;
    fs::rename(partial, directory.join(name))
}

/// Nanoseconds since the epoch. The shim has no tokio runtime and runs for weeks: it asks the kernel each time.
fn now() -> i64 {
    i64::try_from(time().as_nanosecond()).unwrap_or(i64::MAX)
}

fn time() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether the container sees only its own processes, which then all end with the first.
fn has_own_processes(spec: &Spec) -> bool {
    spec.namespaces.pid == PidNamespace::Own
}
