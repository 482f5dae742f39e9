//! Filesystems for containers: overlays, binds and paths that cannot leave their root.
//!
//! Everything works on file descriptors (fsopen, open_tree, openat2), so no mount is visible anywhere before it is
//! attached, and a symbolic link in an image cannot lead a mount out of the image's root.
//! Invariant: a path given by an image or a pod is only ever resolved with RESOLVE_IN_ROOT.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// An overlay of read-only directories (top first) and one to write to.
#[derive(Clone, Debug)]
pub struct Overlay<'a> {
    /// Read-only directories, the topmost first.
    pub lower: &'a [PathBuf],
    /// Where changes go.
    pub upper: &'a Path,
    /// The kernel's own working directory, on the same filesystem.
    pub work: &'a Path,
    /// Gives up durability for speed: right for a container, whose changes end with it.
    pub volatile: bool,
}

impl Overlay<'_> {
    /// Mounts it without attaching it anywhere: it is gone when the descriptor is closed.
    pub fn mount(&self) -> io::Result<OwnedFd> {
        match self.configure(true) {
            // Kernels before 6.8 take all lower directories in one option.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.configure(false),
            mounted => mounted,
        }
    }

    fn configure(&self, one_by_one: bool) -> io::Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        if one_by_one {
            for lower in self.lower {
                fsconfig_set_string(fs.as_fd(), "lowerdir+", lower.as_path())?;
            }
        } else {
            let joined = self.lower.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>().join(":");
            fsconfig_set_string(fs.as_fd(), "lowerdir", joined.as_str())?;
        }
        fsconfig_set_string(fs.as_fd(), "upperdir", self.upper)?;
        fsconfig_set_string(fs.as_fd(), "workdir", self.work)?;
        if self.volatile {
            fsconfig_set_flag(fs.as_fd(), "volatile")?;
        }
        fsconfig_create(fs.as_fd())?;
        Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)?)
    }
}

/// A new filesystem of this kind, not attached yet.
pub fn filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(fs.as_fd(), *key)?;
        } else {
            fsconfig_set_string(fs.as_fd(), *key, *value)?;
        }
    }
    fsconfig_create(fs.as_fd())?;
    Ok(fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// What a bind mount lets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Nothing can be written through it.
    pub readonly: bool,
    /// Nor through mounts below it.
    pub recursive_readonly: bool,
    /// Mounts that the host makes below the source later appear in it.
    pub follows_host: bool,
}

/// A copy of the mounts at `source`, not attached yet.
pub fn bind(directory: impl AsFd, source: impl AsRef<Path>, options: BindOptions) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let flags = if source.as_ref().as_os_str().is_empty() { flags | OpenTreeFlags::AT_EMPTY_PATH } else { flags };
    let tree = open_tree(directory, source.as_ref(), flags)?;
    let propagation = if options.follows_host { libc::MS_SLAVE } else { libc::MS_PRIVATE };
    set_attributes(tree.as_fd(), 0, propagation, true)?;
    if options.readonly || options.recursive_readonly {
        set_attributes(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, options.recursive_readonly)?;
    }
    Ok(tree)
}

/// Makes the mount at this descriptor read-only.
pub fn make_readonly(mount: BorrowedFd<'_>) -> io::Result<()> {
    set_attributes(mount, libc::MOUNT_ATTR_RDONLY, 0, false)
}

fn set_attributes(mount: BorrowedFd<'_>, set: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure outlives the call and its size is passed along; the path is an empty C string.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a mount on top of what this descriptor refers to.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, c"" as &CStr, target, c"" as &CStr, flags)?)
}

/// Opens a path inside the root; symbolic links and `..` stay inside.
pub fn open_in(root: impl AsFd, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = relative(path.as_ref());
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root.as_fd(), &path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // The kernel asks for another try when a rename happened meanwhile.
            Err(rustix::io::Errno::AGAIN) => {}
            opened => return Ok(opened?),
        }
    }
}

/// Opens a directory inside the root, making it and its parents where they are missing.
pub fn make_directory(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_in(root.as_fd(), path.as_ref(), flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let path = relative(path.as_ref());
    let mut parent = open_in(root.as_fd(), ".", flags)?;
    let mut so_far = PathBuf::new();
    for component in path.components() {
        so_far.push(component);
        parent = match open_in(root.as_fd(), &so_far, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match rustix::fs::mkdirat(parent.as_fd(), component.as_os_str(), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open_in(root.as_fd(), &so_far, flags)?
            }
            opened => opened?,
        };
    }
    Ok(parent)
}

/// Opens the place for a mount inside the root, making a directory or an empty file where there is nothing.
pub fn make_target(root: impl AsFd, path: impl AsRef<Path>, is_directory: bool) -> io::Result<OwnedFd> {
    let path = relative(path.as_ref());
    match open_in(root.as_fd(), &path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    if is_directory {
        return make_directory(root, path);
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = make_directory(root.as_fd(), path.parent().unwrap_or(Path::new(".")))?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::WRONLY;
    rustix::fs::openat(parent.as_fd(), name, flags, Mode::from_raw_mode(0o644))?;
    open_in(root, path, OFlags::PATH)
}

/// Whether the descriptor refers to a directory.
pub fn is_directory(file: impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::fstat(file)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// The path without a leading `/`; `.` for the root itself.
fn relative(path: &Path) -> PathBuf {
    let kept: PathBuf = path.components().filter(|c| !matches!(c, Component::RootDir | Component::CurDir)).collect();
    if kept.as_os_str().is_empty() { PathBuf::from(".") } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn links_stay_inside_the_root() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = directory.path().join("root");
        fs::create_dir(&root).expect("made");
        fs::create_dir(directory.path().join("outside")).expect("made");
        std::os::unix::fs::symlink("../outside", root.join("link")).expect("made");
        std::os::unix::fs::symlink("/real", root.join("absolute")).expect("made");
        let fd = File::open(&root).expect("opened");
        assert!(make_directory(&fd, "link/sub").is_err());
        assert!(!directory.path().join("outside/sub").exists());
        fs::create_dir(root.join("real")).expect("made");
        make_target(&fd, "/absolute/deep/file", false).expect("made");
        assert!(root.join("real/deep/file").is_file());
        make_target(&fd, "../../up", true).expect("made");
        assert!(root.join("up").is_dir());
    }
}
