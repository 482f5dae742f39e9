//! The shim's loop: output to the log and to those who attached, requests, ended processes.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use nix::fcntl::{FcntlArg, Flock, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::kill;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::connection::{Connection, Role};
use super::enter::Streams;
use super::execution::{self, Target};
use super::log::{Log, Stream};
use super::protocol::{Channel, Reply, Request, TerminalSize};
use super::{has_own_processes, time};
use crate::cgroups::Hierarchies;
use crate::spec::Spec;

/// How long output may still come after the first process has ended.
const DRAIN: u16 = 300;
/// How long a slow client is waited for at the very end.
const PATIENCE: Duration = Duration::from_millis(200);
/// Input that the container has not read yet; more is not taken from clients.
const STDIN_BACKLOG: usize = 64 * 1024;
const READ_SIZE: usize = 64 * 1024;
const MAX_CONNECTIONS: usize = 128;

/// The container and what the shim holds of it.
pub struct Container {
    /// What it should be.
    pub spec: Spec,
    /// Its first process.
    pub pid: i32,
    /// Where its cgroups are.
    pub hierarchies: Hierarchies,
    /// Its log.
    pub log: Log,
    /// The reading ends of its output; a terminal is one.
    pub outputs: Vec<(Stream, OwnedFd)>,
    /// The writing end of its input.
    pub stdin: Option<OwnedFd>,
}

/// The loop's state.
pub struct Watchman {
    container: Container,
    socket: UnixListener,
    signals: SignalFd,
    connections: Vec<Connection>,
    input: VecDeque<u8>,
    ended: Option<i32>,
    _lock: Flock<File>,
}

/// What a poll entry stands for.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Socket,
    Output(usize),
    Stdin,
    Connection(usize),
}

impl Watchman {
    /// Ready to watch.
    pub fn new(container: Container, socket: UnixListener, signals: SignalFd, lock: Flock<File>) -> io::Result<Self> {
        for descriptor in container.outputs.iter().map(|(_, d)| d).chain(&container.stdin) {
            fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let (connections, input) = (Vec::new(), VecDeque::new());
        Ok(Self { container, socket, signals, connections, input, ended: None, _lock: lock })
    }

    /// Watches until the container has ended: its exit code, and whether it was for lack of memory.
    pub fn watch(&mut self) -> (i32, bool) {
        // It may have ended before signals were watched.
        self.reap();
        loop {
            let timeout = match (self.ended, self.container.outputs.is_empty()) {
                (Some(code), true) => return self.finish(code),
                (Some(_), false) => PollTimeout::from(DRAIN),
                (None, _) => PollTimeout::NONE,
            };
            match self.wait(timeout) {
                Ok(sources) if sources.is_empty() && self.ended.is_some() => self.container.outputs.clear(),
                Ok(sources) => self.serve(&sources),
                Err(nix::errno::Errno::EINTR) => {}
                // Without poll there is nothing left to do but to wait for the end.
                Err(_) => self.reap(),
            }
        }
    }

    fn finish(&mut self, code: i32) -> (i32, bool) {
        let Container { spec, hierarchies, log, .. } = &mut self.container;
        log.finish(time());
        let out_of_memory = hierarchies.out_of_memory_kills(&spec.cgroup) > 0;
        if !has_own_processes(spec) {
            hierarchies.kill(&spec.cgroup);
        }
        (code, out_of_memory)
    }

    /// Tells the clients, after the exit file is written: the end of a connection means that it is there.
    pub fn say_goodbye(&mut self, code: i32) {
        self.reap();
        for connection in &mut self.connections {
            if matches!(connection.role, Role::Exec(_)) {
                connection.reply(&Reply::Exited(code), None);
            }
            connection.finish(PATIENCE);
        }
    }

    fn wait(&self, timeout: PollTimeout) -> nix::Result<Vec<(Source, PollFlags)>> {
        let (read, write) = (PollFlags::POLLIN, PollFlags::POLLOUT);
        let mut sources =
            vec![(Source::Signals, self.signals.as_fd(), read), (Source::Socket, self.socket.as_fd(), read)];
        let outputs = self.container.outputs.iter().enumerate();
        sources.extend(outputs.map(|(i, (_, d))| (Source::Output(i), d.as_fd(), read)));
        if let Some(stdin) = self.container.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            sources.push((Source::Stdin, stdin.as_fd(), write));
        }
        for (i, connection) in self.connections.iter().enumerate() {
            let takes_input = connection.role != Role::Attach || self.input.len() < STDIN_BACKLOG;
            let reads = takes_input && !connection.input_ended;
            let flags = if reads { read } else { PollFlags::empty() };
            let flags = if connection.has_output() { flags | write } else { flags };
            sources.push((Source::Connection(i), connection.descriptor(), flags));
        }
        let mut entries: Vec<PollFd<'_>> = sources.iter().map(|(_, d, flags)| PollFd::new(*d, *flags)).collect();
        poll(&mut entries, timeout)?;
        let ready =
            sources.iter().zip(&entries).map(|((source, ..), e)| (*source, e.revents().unwrap_or(PollFlags::empty())));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn serve(&mut self, sources: &[(Source, PollFlags)]) {
        let mut ended_outputs = Vec::new();
        for (source, flags) in sources {
            match *source {
                Source::Signals => self.reap(),
                Source::Socket => self.accept(),
                Source::Output(i) => {
                    if self.read_output(i) {
                        ended_outputs.push(i);
                    }
                }
                Source::Stdin => self.write_input(),
                Source::Connection(i) => self.serve_connection(i, *flags),
            }
        }
        for i in ended_outputs.into_iter().rev() {
            self.container.outputs.remove(i);
        }
        self.connections.retain(|connection| {
            let leaves = connection.broken
                || (connection.input_ended && !connection.has_output() && connection.role != Role::Attach);
            if let (true, Role::Exec(pid)) = (leaves, &connection.role) {
                // Whoever executed it is gone. It is our child and not reaped yet, so the id is still its own.
                let _ = kill(Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
            }
            !leaves
        });
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if pid.as_raw() == self.container.pid {
                self.ended = Some(code);
            }
            for connection in self.connections.iter_mut().filter(|c| c.role == Role::Exec(pid.as_raw())) {
                connection.role = Role::Watch;
                connection.reply(&Reply::Exited(code), None);
                connection.input_ended = true;
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.socket.accept() {
            if self.connections.len() < MAX_CONNECTIONS {
                self.connections.extend(Connection::new(stream));
            }
        }
    }

    /// Passes output on; true when there will be no more.
    fn read_output(&mut self, index: usize) -> bool {
        let (stream, descriptor) = &self.container.outputs[index];
        let stream = *stream;
        let mut bytes = [0; READ_SIZE];
        match nix::unistd::read(descriptor, &mut bytes) {
            Ok(0) => return true,
            Ok(length) => {
                let data = &bytes[..length];
                self.container.log.write(stream, data, time());
                let channel = match stream {
                    Stream::Stdout => Channel::Stdout,
                    Stream::Stderr => Channel::Stderr,
                };
                self.connections.iter_mut().filter(|c| c.role == Role::Attach).for_each(|c| c.show(channel, data));
            }
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            // A terminal whose last user has gone says EIO.
            Err(_) => return true,
        }
        false
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.container.stdin else { return };
        while !self.input.is_empty() {
            let (front, _) = self.input.as_slices();
            match nix::unistd::write(stdin, front) {
                Ok(written) => drop(self.input.drain(..written)),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return,
                Err(_) => {
                    self.input.clear();
                    self.container.stdin = None;
                    return;
                }
            }
        }
    }

    fn serve_connection(&mut self, index: usize, flags: PollFlags) {
        if flags.contains(PollFlags::POLLOUT) {
            self.connections[index].flush();
        }
        let gone = flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
        if flags.contains(PollFlags::POLLIN) || gone {
            self.connections[index].fill();
            self.connections[index].broken |= gone && !flags.contains(PollFlags::POLLIN);
        }
        if self.connections[index].role == Role::New {
            if let Some(request) = self.connections[index].request() {
                self.answer(index, request);
            }
            return;
        }
        while let Some((channel, data)) = self.attached_frame(index) {
            match channel {
                Channel::Stdin => self.input.extend(data),
                Channel::Resize => self.resize(&data),
                Channel::Stdout | Channel::Stderr => self.connections[index].broken = true,
            }
        }
        self.write_input();
        let connection = &mut self.connections[index];
        if connection.role == Role::Attach && connection.input_ended && self.container.spec.stdin_once {
            self.container.stdin = None;
        }
    }

    fn attached_frame(&mut self, index: usize) -> Option<(Channel, Vec<u8>)> {
        let connection = &mut self.connections[index];
        if connection.role == Role::Attach { connection.frame() } else { None }
    }

    fn resize(&self, data: &[u8]) {
        let Ok(size) = serde_json::from_slice::<TerminalSize>(data) else { return };
        if let (true, Some(terminal)) = (self.container.spec.process.tty, &self.container.stdin) {
            let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            // SAFETY: the structure outlives the call. A terminal that refuses keeps its size.
            unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        }
    }

    fn answer(&mut self, index: usize, request: Result<(Request, Vec<OwnedFd>), String>) {
        let reply = match request {
            Err(complaint) => Reply::Failed(complaint),
            Ok((Request::Watch, _)) => {
                self.connections[index].role = Role::Watch;
                return;
            }
            Ok((Request::Signal(signal), _)) => self.signal(signal),
            Ok((Request::ReopenLog, _)) => match self.container.log.reopen() {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(format!("log file: {error}")),
            },
            Ok((Request::Attach, _)) => {
                self.connections[index].role = Role::Attach;
                Reply::Done
            }
            Ok((Request::Exec(process), descriptors)) => return self.execute(index, &process, descriptors),
        };
        self.connections[index].reply(&reply, None);
    }

    fn signal(&self, signal: i32) -> Reply {
        if self.ended.is_some() {
            return Reply::Done;
        }
        // The first process is our child and not reaped yet, so the id is still its own.
        match nix::errno::Errno::result(unsafe { libc::kill(self.container.pid, signal) }) {
            Ok(_) | Err(nix::errno::Errno::ESRCH) => Reply::Done,
            Err(error) => Reply::Failed(format!("signal {signal}: {error}")),
        }
    }

    fn execute(&mut self, index: usize, process: &crate::spec::Process, descriptors: Vec<OwnedFd>) {
        let Container { spec, pid, hierarchies, .. } = &self.container;
        let cgroups = hierarchies.directories(&spec.cgroup, spec.limits.has_cpuset());
        let streams = match (process.tty, <[OwnedFd; 3]>::try_from(descriptors)) {
            (true, _) => Ok(Streams::Terminal),
            (false, Ok(descriptors)) => Ok(Streams::Given(descriptors)),
            (false, Err(_)) => Err("three streams are needed".to_owned()),
        };
        let started = match self.ended {
            Some(_) => Err("the container is not running".to_owned()),
            None => streams.and_then(|s| execution::start(&Target { init: *pid, cgroups: &cgroups }, process, s)),
        };
        let connection = &mut self.connections[index];
        match started {
            Ok((pid, born)) => {
                connection.role = Role::Exec(pid);
                connection.reply(&Reply::Started, born.terminal.as_ref().map(AsFd::as_fd));
            }
            Err(complaint) => connection.reply(&Reply::Failed(complaint), None),
        }
    }
}
