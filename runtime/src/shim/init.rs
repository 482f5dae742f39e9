//! A container's first process, until it runs its program: namespaces, root filesystem, mounts.
//!
//! Runs in the child, inside a mount namespace that only the container sees: whatever is mounted here is gone with
//! the container. Entry: [`run`], which only returns to say what went wrong.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::MountAttrFlags;

use super::birth::{Channel, Message};
use super::enter::{self, Streams};
use super::protocol::{ROOTFS, UPPER, WORK};
use crate::rootfs::{self, BindOptions, Overlay};
use crate::spec::{PidNamespace, Spec};

const HARMLESS: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
/// Name and number of the devices that every container has.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Namespaces of the pod that the container joins.
pub struct Joined(pub Vec<(OwnedFd, CloneFlags)>);

type Step<T> = Result<T, String>;

fn step<T, E: std::fmt::Display>(what: impl std::fmt::Display, done: Result<T, E>) -> Step<T> {
    done.map_err(|e| format!("{what}: {e}"))
}

/// Becomes the container's program; answers only what prevented it.
pub fn run(spec: &Spec, directory: &Path, joined: &Joined, streams: Streams, channel: &Channel) -> String {
    // Half a container must not outlive its shim either.
    if let Err(error) = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL) {
        return format!("parent death signal: {error}");
    }
    match channel.receive() {
        Ok(Some((Message::Go, _))) => {}
        _ => return "the shim ended".to_owned(),
    }
    match build(spec, directory, joined) {
        Ok(()) => enter::run_program(&spec.process, streams, channel, true),
        Err(complaint) => complaint,
    }
}

fn build(spec: &Spec, directory: &Path, joined: &Joined) -> Step<()> {
    for (namespace, kind) in &joined.0 {
        step("joining a namespace of the pod", setns(namespace, *kind))?;
    }
    step("cgroup namespace", unshare(CloneFlags::CLONE_NEWCGROUP))?;
    let none: Option<&str> = None;
    step("mounts of its own", mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none))?;
    let root = mount_root(spec, directory)?;
    mount_system(spec, root.as_fd())?;
    for entry in &spec.mounts {
        let what = format!("mounting {} to {}", entry.source.display(), entry.target.display());
        let options = BindOptions {
            readonly: entry.readonly,
            recursive_readonly: entry.recursive_readonly,
            follows_host: entry.follows_host,
        };
        step(what, bind(root.as_fd(), &entry.source, &entry.target, options))?;
    }
    for (source, target) in &spec.devices {
        step(format!("device {}", source.display()), bind(root.as_fd(), source, target, BindOptions::default()))?;
    }
    step("changing the root", pivot(root.as_fd()))?;
    restrict(spec)
}

fn mount_root(spec: &Spec, directory: &Path) -> Step<OwnedFd> {
    let (upper, work) = (directory.join(UPPER), directory.join(WORK));
    let overlay = Overlay { lower: &spec.rootfs.lower, upper: &upper, work: &work, volatile: true };
    let root = step("root filesystem", overlay.mount())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = step("root filesystem", rustix::fs::open(directory.join(ROOTFS), flags, Mode::empty()))?;
    step("root filesystem", rootfs::attach(&root, place))?;
    Ok(root)
}

/// /proc, /dev, /sys and the cgroups, as every container expects them.
fn mount_system(spec: &Spec, root: BorrowedFd<'_>) -> Step<()> {
    let new = |kind: &str, options: &[(&str, &str)], attributes, target: &str| {
        let mounted = rootfs::filesystem(kind, options, attributes)
            .and_then(|fs| rootfs::attach(&fs, rootfs::make_directory(root, target)?).map(|()| fs));
        step(format!("mounting {kind} to {target}"), mounted)
    };
    new("proc", &[], HARMLESS, "/proc")?;
    let dev = new("tmpfs", &[("mode", "755"), ("size", "65536k")], MountAttrFlags::MOUNT_ATTR_NOSUID, "/dev")?;
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let devpts = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
    new("devpts", &devpts, quiet, "/dev/pts")?;
    new("mqueue", &[], HARMLESS, "/dev/mqueue")?;
    step("devices", make_devices(dev.as_fd(), spec.privileged))?;
    let sys = if spec.privileged { HARMLESS } else { HARMLESS | MountAttrFlags::MOUNT_ATTR_RDONLY };
    new("sysfs", &[], sys, "/sys")?;
    mount_cgroups(root, sys)
}

fn make_devices(dev: BorrowedFd<'_>, privileged: bool) -> io::Result<()> {
    let make = |name: &str, kind, mode: u32, major, minor| -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mknodat(dev, name, kind, mode, rustix::fs::makedev(major, minor))?;
        Ok(rustix::fs::chmodat(dev, name, mode, rustix::fs::AtFlags::empty())?)
    };
    for (name, major, minor) in DEVICES {
        make(name, FileType::CharacterDevice, 0o666, major, minor)?;
    }
    for (target, name) in LINKS {
        rustix::fs::symlinkat(target, dev, name)?;
    }
    if !privileged {
        return Ok(());
    }
    for entry in std::fs::read_dir("/dev")?.flatten() {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        let kind = FileType::from_raw_mode(metadata.mode());
        let name = entry.file_name();
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            let device = metadata.rdev();
            // Those that are there already stay as they are.
            let _ =
                make(&name.to_string_lossy(), kind, metadata.mode() & 0o777, libc::major(device), libc::minor(device));
        }
    }
    Ok(())
}

/// The container's own view of its cgroups, read-only. A machine without one has nothing to show.
fn mount_cgroups(root: BorrowedFd<'_>, attributes: MountAttrFlags) -> Step<()> {
    let hierarchies = step("cgroups", crate::cgroups::Hierarchies::detect())?;
    let place = Path::new("/sys/fs/cgroup");
    if rootfs::open_in(root, place, OFlags::PATH).is_err() {
        return Ok(());
    }
    let show = |kind: &str, options: &[(&str, &str)], target: &Path, attributes| -> io::Result<OwnedFd> {
        let fs = rootfs::filesystem(kind, options, attributes)?;
        rootfs::attach(&fs, rootfs::make_directory(root, target)?)?;
        Ok(fs)
    };
    if !hierarchies.v1.contains_key("memory") {
        step("mounting cgroup2", show("cgroup2", &[], place, attributes))?;
        return Ok(());
    }
    let writable = attributes & !MountAttrFlags::MOUNT_ATTR_RDONLY;
    let tmpfs = step("mounting cgroups", show("tmpfs", &[("mode", "755")], place, writable))?;
    let mut shown = Vec::new();
    for controller in ["cpu", "cpuacct", "memory", "pids"] {
        let Some(path) = hierarchies.v1.get(controller).filter(|p| !shown.contains(p)) else { continue };
        let together: Vec<_> =
            hierarchies.v1.iter().filter(|(_, p)| *p == path).map(|(c, _)| (c.as_str(), "")).collect();
        // A controller that the kernel does not let us show is a loss, not an error.
        let _ = show("cgroup", &together, &place.join(path.file_name().unwrap_or_default()), attributes);
        shown.push(path);
    }
    match attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        true => step("mounting cgroups", rootfs::make_readonly(tmpfs.as_fd())),
        false => Ok(()),
    }
}

fn bind(root: BorrowedFd<'_>, source: &Path, target: &Path, options: BindOptions) -> io::Result<()> {
    let tree = rootfs::bind(CWD, source, options)?;
    let target = rootfs::make_target(root, target, rootfs::is_directory(&tree)?)?;
    rootfs::attach(tree, target)
}

/// Makes the new root the only one.
fn pivot(root: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: an open directory of this process.
    if unsafe { libc::fchdir(root.as_raw_fd()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}

/// Hides and protects what the spec says; the old root is out of reach by now.
fn restrict(spec: &Spec) -> Step<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    for path in &spec.readonly_paths {
        let Ok(target) = rustix::fs::open(path.as_str(), flags, Mode::empty()) else { continue };
        let options = BindOptions { readonly: true, recursive_readonly: true, follows_host: false };
        let done = rootfs::bind(target.as_fd(), "", options).and_then(|tree| rootfs::attach(tree, &target));
        step(format!("protecting {path}"), done)?;
    }
    for path in &spec.masked_paths {
        let Ok(target) = rustix::fs::open(path.as_str(), flags, Mode::empty()) else { continue };
        let cover = match rootfs::is_directory(&target) {
            Ok(true) => rootfs::filesystem("tmpfs", &[], HARMLESS | MountAttrFlags::MOUNT_ATTR_RDONLY),
            _ => rootfs::bind(CWD, "/dev/null", BindOptions::default()),
        };
        step(format!("hiding {path}"), cover.and_then(|cover| rootfs::attach(cover, &target)))?;
    }
    if spec.rootfs.readonly {
        let root = step("read-only root", rustix::fs::open("/", flags | OFlags::DIRECTORY, Mode::empty()))?;
        step("read-only root", rootfs::make_readonly(root.as_fd()))?;
    }
    Ok(())
}

/// The namespaces to join and the flags for those to make.
pub fn namespaces(spec: &Spec) -> io::Result<(Joined, i32)> {
    let wanted = [
        (&spec.namespaces.network, CloneFlags::CLONE_NEWNET),
        (&spec.namespaces.ipc, CloneFlags::CLONE_NEWIPC),
        (&spec.namespaces.uts, CloneFlags::CLONE_NEWUTS),
    ];
    let mut joined = Vec::new();
    for (file, kind) in wanted {
        if let Some(file) = file {
            let missing = |e: io::Error| io::Error::new(e.kind(), format!("namespace {}: {e}", file.display()));
            joined.push((std::fs::File::open(file).map_err(missing)?.into(), kind));
        }
    }
    let mut flags = libc::CLONE_NEWNS;
    match &spec.namespaces.pid {
        PidNamespace::Own => flags |= libc::CLONE_NEWPID,
        PidNamespace::Host => {}
        // Takes effect for children only.
        PidNamespace::Of(file) => setns(std::fs::File::open(file)?, CloneFlags::CLONE_NEWPID)?,
    }
    Ok((Joined(joined), flags))
}

/// Undoes what [`namespaces`] did to this process' future children, after the container's birth.
pub fn leave_pid_namespace(spec: &Spec) -> io::Result<()> {
    match &spec.namespaces.pid {
        PidNamespace::Of(_) => Ok(setns(std::fs::File::open("/proc/self/ns/pid")?, CloneFlags::CLONE_NEWPID)?),
        PidNamespace::Own | PidNamespace::Host => Ok(()),
    }
}
