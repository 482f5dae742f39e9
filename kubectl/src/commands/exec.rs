//! `kubectl exec` and `attach`.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use futures::channel::mpsc;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, TerminalSize};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::logs::{choose, one_pod};
use crate::failure::{Failure, Result};
use crate::session::Session;
use crate::targets;

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// POD or TYPE/NAME
    target: String,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input to the container
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Standard input is a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// The command, after --
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Flags of `attach`.
#[derive(Debug, clap::Args)]
pub struct AttachArgs {
    /// POD or TYPE/NAME
    target: String,
    /// The container
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input to the container
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Standard input is a terminal
    #[arg(short = 't', long)]
    tty: bool,
}

/// Runs a command in a container; its exit code becomes ours.
pub async fn run(session: &Session, args: Args) -> Result<()> {
    let (name, container) = find(session, &args.target, args.container, "exec into").await?;
    let (params, tty) = streams(container, args.stdin, args.tty);
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let process = pods.exec(&name, args.command, &params).await.map_err(exec_failure)?;
    let _raw = if tty { Some(RawTerminal::enter()?) } else { None };
    attach(process, tty).await
}

/// Joins the streams of a container's main process.
pub async fn attach_to(session: &Session, args: AttachArgs) -> Result<()> {
    let (name, container) = find(session, &args.target, args.container, "attach to").await?;
    let (params, tty) = streams(container, args.stdin, args.tty);
    let pods: Api<Pod> = Api::namespaced(session.client.clone(), &session.namespace);
    let process = pods.attach(&name, &params).await.map_err(exec_failure)?;
    let _raw = if tty { Some(RawTerminal::enter()?) } else { None };
    eprintln!("If you don't see a command prompt, try pressing enter.");
    attach(process, tty).await
}

/// The pod and the container that are meant.
async fn find(session: &Session, asked: &str, container: Option<String>, doing: &str) -> Result<(String, String)> {
    let target = targets::one(session, &[asked.to_owned()], "pods").await?;
    let pod = one_pod(session, &target).await?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if let Some(phase) = pod["status"]["phase"].as_str().filter(|phase| ["Succeeded", "Failed"].contains(phase)) {
        return Err(Failure::usage(format!("cannot {doing} a container in a completed pod; current phase is {phase}")));
    }
    let names = |field: &str| -> Vec<String> {
        let list = pod["spec"][field].as_array();
        list.into_iter().flatten().filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    let container = choose(&pod, container, &names("containers"), &names("initContainers"))?;
    Ok((name.to_owned(), container))
}

fn streams(container: String, stdin: bool, wants_tty: bool) -> (AttachParams, bool) {
    let tty = wants_tty && std::io::stdin().is_terminal();
    if wants_tty && !tty {
        eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
    }
    (AttachParams::default().container(container).stdin(stdin).stdout(true).stderr(!tty).tty(tty), tty)
}

/// What the server answered instead of switching protocols.
fn exec_failure(error: kube::Error) -> Failure {
    match error {
        kube::Error::UpgradeConnection(error) => Failure::usage(format!("unable to upgrade connection: {error}")),
        error => error.into(),
    }
}

/// Copies until the process ends; standard input may still be open then.
async fn attach(mut process: AttachedProcess, tty: bool) -> Result<()> {
    let status = process.take_status();
    let size = if tty { process.terminal_size() } else { None };
    let (stdin, stdout, stderr) = (process.stdin(), process.stdout(), process.stderr());
    let input = tokio::spawn(async move {
        if let Some(writer) = stdin {
            copy(tokio::io::stdin(), writer).await;
        }
    });
    let sizes = tokio::spawn(follow_size(size));
    let out = async {
        if let Some(reader) = stdout {
            copy(reader, tokio::io::stdout()).await;
        }
    };
    let err = async {
        if let Some(reader) = stderr {
            copy(reader, tokio::io::stderr()).await;
        }
    };
    tokio::join!(out, err);
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    input.abort();
    sizes.abort();
    outcome(status.map(|status| serde_json::to_value(status).unwrap_or_default()))
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}

fn outcome(status: Option<serde_json::Value>) -> Result<()> {
    let Some(status) = status else { return Err(Failure::usage("the connection ended before the command did")) };
    if status["status"] == "Success" {
        return Ok(());
    }
    let causes = status["details"]["causes"].as_array();
    let code = causes
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode")
        .and_then(|cause| cause["message"].as_str()?.parse::<i32>().ok());
    match code {
        Some(code) => Err(Failure::Command(u8::try_from(code).unwrap_or(1))),
        None => Err(Failure::usage(format!(
            "Internal error occurred: {}",
            status["message"].as_str().unwrap_or("the command failed")
        ))),
    }
}

async fn follow_size(sender: Option<mpsc::Sender<TerminalSize>>) {
    use futures::SinkExt;
    let (Some(mut sender), Ok(mut changes)) = (sender, signal(SignalKind::window_change())) else { return };
    loop {
        if let Some((width, height)) = terminal_size()
            && sender.send(TerminalSize { width, height }).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

fn terminal_size() -> Option<(u16, u16)> {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills the struct, which lives through the call.
    unsafe { window_size(nix::libc::STDOUT_FILENO, &mut size) }.ok()?;
    Some((size.ws_col, size.ws_row))
}

/// The terminal passes every key on, until dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Result<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(stdin.as_fd()).map_err(std::io::Error::from)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw).map_err(std::io::Error::from)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}
