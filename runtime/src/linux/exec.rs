//! Commands executed in running containers.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::{Linux, LinuxError, Result};
use crate::control::{self, ControlError, Execution};

/// The most output that ExecSync answers; more is dropped, as CRI demands.
const LARGEST_OUTPUT: usize = 16 << 20;
/// How long output may still come after the command has ended.
const DRAIN: Duration = Duration::from_millis(500);

/// A command that runs, with the server's ends of its streams.
pub struct Running {
    /// Its end.
    pub execution: Execution,
    /// Its input.
    pub stdin: Option<pipe::Sender>,
    /// Its output; everything, on a terminal.
    pub stdout: Option<pipe::Receiver>,
    /// Its other output.
    pub stderr: Option<pipe::Receiver>,
    /// Its terminal, to be resized.
    pub terminal: Option<OwnedFd>,
}

/// What a command left.
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its other output.
    pub stderr: Vec<u8>,
}

impl Linux {
    /// Starts a command.
    pub async fn execute(self: &Arc<Self>, id: &str, command: &[String], tty: bool, stdin: bool) -> Result<Running> {
        let known = self.known_container(id)?;
        if !known.container.is_running() {
            return Err(LinuxError::WrongState(format!("container {id:?} is not running")));
        }
        let mut process = known.process;
        process.args = command.to_vec();
        process.tty = tty;
        let directory = self.container_directory(id);
        if tty {
            process.env.retain(|e| !e.starts_with("TERM="));
            process.env.push("TERM=xterm".to_owned());
            let mut execution = control::execute(&directory, process, &[]).await.map_err(explain)?;
            let terminal = execution.terminal.take().ok_or(ControlError::Unexpected)?;
            let end = || -> std::io::Result<OwnedFd> { non_blocking(terminal.try_clone()?) };
            let stdout = pipe::Receiver::from_owned_fd_unchecked(end().map_err(ControlError::Io)?);
            let stdin = pipe::Sender::from_owned_fd_unchecked(end().map_err(ControlError::Io)?);
            return Ok(Running {
                execution,
                stdin: Some(stdin.map_err(ControlError::Io)?),
                stdout: Some(stdout.map_err(ControlError::Io)?),
                stderr: None,
                terminal: Some(terminal),
            });
        }
        let streams = Streams::new(stdin).map_err(ControlError::Io)?;
        let theirs = streams.theirs.each_ref().map(|d| d.as_fd());
        let execution = control::execute(&directory, process, &theirs).await.map_err(explain)?;
        Ok(Running {
            execution,
            stdin: streams.stdin,
            stdout: Some(streams.stdout),
            stderr: Some(streams.stderr),
            terminal: None,
        })
    }

    /// Runs a command to its end.
    pub async fn execute_to_end(
        self: &Arc<Self>,
        id: &str,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<Finished> {
        let running = self.execute(id, command, false, false).await?;
        let Running { mut execution, stdout, stderr, .. } = running;
        let (kept_stdout, kept_stderr) = (Kept::default(), Kept::default());
        let (mut out, mut err) = (std::pin::pin!(kept_stdout.fill(stdout)), std::pin::pin!(kept_stderr.fill(stderr)));
        let (mut out_ended, mut err_ended) = (false, false);
        let code = {
            let limit = timeout.unwrap_or(Duration::MAX);
            let mut code = std::pin::pin!(tokio::time::timeout(limit, execution.exit_code()));
            loop {
                tokio::select! {
                    biased;
                    code = &mut code => break code,
                    () = &mut out, if !out_ended => out_ended = true,
                    () = &mut err, if !err_ended => err_ended = true,
                }
            }
        };
        let code = code.map_err(|_| LinuxError::Timeout(format!("command {command:?} timed out")))??;
        let drain = async {
            if !out_ended {
                out.await;
            }
            if !err_ended {
                err.await;
            }
        };
        // A child of the command may keep the streams open for ever.
        let _ = tokio::time::timeout(DRAIN, drain).await;
        Ok(Finished { code, stdout: kept_stdout.take(), stderr: kept_stderr.take() })
    }
}

fn explain(error: ControlError) -> LinuxError {
    match error {
        ControlError::Refused(complaint) => ControlError::Refused(format!(
            "failed to exec in container: unable to start container process: {complaint}"
        ))
        .into(),
        other => other.into(),
    }
}

/// Output as far as it has come.
#[derive(Default)]
struct Kept(Mutex<Vec<u8>>);

impl Kept {
    async fn fill(&self, stream: Option<pipe::Receiver>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let room = LARGEST_OUTPUT - kept.len();
            kept.extend_from_slice(&buffer[..length.min(room)]);
        }
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Streams {
    theirs: [OwnedFd; 3],
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Streams {
    fn new(with_stdin: bool) -> std::io::Result<Self> {
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC);
        let (stdin_theirs, stdin) = if with_stdin {
            let (read, write) = pipe()?;
            (read, Some(pipe::Sender::from_owned_fd(non_blocking(write)?)?))
        } else {
            (std::fs::File::open("/dev/null")?.into(), None)
        };
        let (stdout, stdout_theirs) = pipe()?;
        let (stderr, stderr_theirs) = pipe()?;
        Ok(Self {
            theirs: [stdin_theirs, stdout_theirs, stderr_theirs],
            stdin,
            stdout: pipe::Receiver::from_owned_fd(non_blocking(stdout)?)?,
            stderr: pipe::Receiver::from_owned_fd(non_blocking(stderr)?)?,
        })
    }
}

fn non_blocking(descriptor: OwnedFd) -> std::io::Result<OwnedFd> {
    nix::fcntl::fcntl(&descriptor, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(descriptor)
}
