//! The last steps of a new process inside its container: terminal, user, capabilities, program.
//!
//! Runs in the child, for a container's first process and for executed ones. Entry: [`run_program`], which only
//! returns to say what went wrong. Invariant: nothing of the shim's descriptors, signals or rights survives.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid};

use super::birth::{Channel, Message};
use crate::accounts::Identity;
use crate::spec::Process;

/// Where the three standard streams come from.
pub enum Streams {
    /// Given descriptors.
    Given([OwnedFd; 3]),
    /// A new terminal of the container.
    Terminal,
}

/// Becomes the program; answers only what prevented it.
pub fn run_program(process: &Process, streams: Streams, channel: &Channel, make_cwd: bool) -> String {
    match prepare(process, streams, channel, make_cwd) {
        Ok(()) => {}
        Err((step, error)) => return format!("{step}: {error}"),
    }
    execute(process, channel)
}

type Step<T> = Result<T, (String, io::Error)>;

fn step<T, E: Into<io::Error>>(what: &str, done: Result<T, E>) -> Step<T> {
    done.map_err(|e| (what.to_owned(), e.into()))
}

fn prepare(process: &Process, streams: Streams, channel: &Channel, make_cwd: bool) -> Step<()> {
    step("new session", setsid())?;
    match streams {
        Streams::Given(descriptors) => step("standard streams", set_streams(&descriptors))?,
        Streams::Terminal => step("terminal", open_terminal(channel))?,
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    let identity = process.user.identity(&passwd, &group, &process.groups, process.image_groups);
    let identity = identity.map_err(|e| ("user".to_owned(), io::Error::other(e)))?;
    for descriptor in 0..3 {
        // SAFETY: plain numbers. A stream that cannot change hands (/dev/null) needs none.
        unsafe { libc::fchown(descriptor, identity.uid, identity.gid) };
    }
    if make_cwd && !Path::new(&process.cwd).exists() {
        step(&format!("making working directory {:?}", process.cwd), fs::create_dir_all(&process.cwd))?;
    }
    step(&format!("chdir to cwd ({:?})", process.cwd), std::env::set_current_dir(&process.cwd))?;
    become_user(process, &identity)?;
    step("telling the shim", channel.send(&Message::Identity(identity.clone()), None))
}

fn set_streams(descriptors: &[OwnedFd; 3]) -> io::Result<()> {
    for (descriptor, target) in descriptors.iter().zip(0..) {
        // SAFETY: both are open descriptors of this process.
        if unsafe { libc::dup2(descriptor.as_raw_fd(), target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Opens a terminal in the container's own /dev/pts and hands its controlling side to the shim.
fn open_terminal(channel: &Channel) -> io::Result<()> {
    let master = fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx")?;
    let unlocked: libc::c_int = 0;
    // SAFETY: the ioctls are given what they expect, and the descriptor they answer is ours alone.
    let slave = unsafe {
        if libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) {
            ..0 => return Err(io::Error::last_os_error()),
            slave => OwnedFd::from_raw_fd(slave),
        }
    };
    channel.send(&Message::Terminal, Some(master.as_fd()))?;
    let streams = [slave.try_clone()?, slave.try_clone()?, slave];
    set_streams(&streams)?;
    // SAFETY: descriptor 0 is the terminal now.
    match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn become_user(process: &Process, identity: &Identity) -> Step<()> {
    let capabilities = process.capabilities;
    step("dropping capabilities", capabilities.drop_bounding())?;
    let keep = capabilities.ambient != 0 && identity.uid != 0;
    step("keeping capabilities", nix::sys::prctl::set_keepcaps(keep))?;
    let groups: Vec<Gid> = identity.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    step("setgroups", setgroups(&groups))?;
    step("setgid", setresgid(gid, gid, gid))?;
    step("setuid", setresuid(uid, uid, uid))?;
    step("setting capabilities", capabilities.apply(identity.uid == 0))?;
    if process.no_new_privileges {
        step("no_new_privs", nix::sys::prctl::set_no_new_privs())?;
    }
    // The shim holds the container's streams: the process must not outlive it. A change of user clears this, so last.
    step("parent death signal", nix::sys::prctl::set_pdeathsig(Signal::SIGKILL))
}

fn execute(process: &Process, _channel: &Channel) -> String {
    let name = process.args.first().map_or("", String::as_str);
    let environment = environment(process);
    let found = match candidates(name, &process.env) {
        Ok(found) => found,
        Err(error) => return error,
    };
    let text = |s: &str| CString::new(s.replace('\0', ""));
    let args: Result<Vec<CString>, _> = process.args.iter().map(|a| text(a)).collect();
    let env: Result<Vec<CString>, _> = environment.iter().map(|e| text(e)).collect();
    let (Ok(args), Ok(env), Ok(program)) = (args, env, text(&found)) else {
        return format!("exec: {name:?}: arguments hold a zero byte");
    };
    if let Err(error) = leave_nothing_behind() {
        return format!("exec: {name:?}: {error}");
    }
    match nix::unistd::execve(&program, &args, &env) {
        Ok(never) => match never {},
        Err(error) => format!("exec: {name:?}: {}", describe(error)),
    }
}

/// The variables, with HOME from the image's passwd file unless it is set.
fn environment(process: &Process) -> Vec<String> {
    let mut environment = process.env.clone();
    if !environment.iter().any(|e| e.starts_with("HOME=")) {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let home = process.user.identity(&passwd, "", &[], false).map(|i| i.home);
        environment.push(format!("HOME={}", home.as_deref().unwrap_or("/")));
    }
    environment
}

/// The file to run: a path as it is, a bare name by the container's own PATH.
fn candidates(name: &str, env: &[String]) -> Result<String, String> {
    if name.contains('/') {
        return match fs::metadata(name) {
            Ok(_) => Ok(name.to_owned()),
            Err(error) => Err(format!("exec: {name:?}: stat {name}: {}", plain(&error))),
        };
    }
    let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = false;
    for directory in std::env::split_paths(OsStr::new(path)) {
        let file = directory.join(name);
        let Ok(metadata) = fs::metadata(&file) else { continue };
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        if metadata.is_file() && mode & 0o111 != 0 {
            return Ok(file.to_string_lossy().into_owned());
        }
        denied |= metadata.is_file();
    }
    Err(match denied {
        true => format!("exec: {name:?}: permission denied"),
        false => format!("exec: {name:?}: executable file not found in $PATH"),
    })
}

fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(code) => describe(nix::errno::Errno::from_raw(code)),
        None => error.to_string(),
    }
}

/// The kernel's words for an error, as C programs print them.
fn describe(error: nix::errno::Errno) -> String {
    let text = error.desc();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn leave_nothing_behind() -> io::Result<()> {
    // Rust ignores SIGPIPE for itself; a program expects the default.
    // SAFETY: no handler function is installed.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // SAFETY: plain numbers.
    unsafe { libc::umask(0o022) };
    // SAFETY: only marks descriptors to be closed by the exec.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
