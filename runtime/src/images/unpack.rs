//! Unpacks a layer on top of the layers below it.
//!
//! The layer is written through an overlay of what lies below, mounted nowhere, so that the kernel itself makes the
//! whiteouts, and an entry below a symbolic link of a lower layer lands where the link leads. Every path is resolved
//! inside the root. Invariant: nothing outside the layer's own directory is ever written.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use sha2::{Digest as _, Sha256};
use tar::EntryType;
use xattr::FileExt as _;

use crate::rootfs::{self, Overlay};

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The tar stream.
    #[error("reading the layer")]
    Read(#[source] io::Error),
    /// An entry that would leave the root.
    #[error("entry {0:?} leaves the image's root")]
    Outside(PathBuf),
    /// An entry.
    #[error("entry {0:?}")]
    Entry(PathBuf, #[source] io::Error),
    /// The place for the layer.
    #[error("the layer's directory")]
    Place(#[source] io::Error),
}

/// Where a layer goes.
pub struct Place<'a> {
    /// Its own directory.
    pub upper: PathBuf,
    /// A working directory beside it.
    pub work: PathBuf,
    /// The layers below, the topmost first.
    pub lower: &'a [PathBuf],
}

/// What was unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// Digest of the whole uncompressed tar.
    pub digest: String,
    /// Bytes of regular files.
    pub size: u64,
}

/// Unpacks an uncompressed tar to its very end.
pub fn unpack(tar: impl Read, place: &Place<'_>) -> Result<Unpacked, UnpackError> {
    let root = open_root(place).map_err(UnpackError::Place)?;
    let mut archive = tar::Archive::new(Hashing { reader: tar, hash: Sha256::new() });
    archive.set_ignore_zeros(true);
    let mut layer = Layer { root, written: BTreeSet::new(), times: Vec::new(), size: 0, parent: None };
    for entry in archive.entries().map_err(UnpackError::Read)? {
        layer.add(&mut entry.map_err(UnpackError::Read)?)?;
    }
    layer.set_directory_times();
    let mut hashing = archive.into_inner();
    io::copy(&mut hashing, &mut io::sink()).map_err(UnpackError::Read)?;
    let digest = format!("sha256:{}", super::hex(&hashing.hash.finalize()));
    Ok(Unpacked { digest, size: layer.size })
}

fn open_root(place: &Place<'_>) -> io::Result<OwnedFd> {
    fs::create_dir_all(&place.upper)?;
    fs::create_dir_all(&place.work)?;
    if place.lower.is_empty() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        return Ok(rustix::fs::open(&place.upper, flags, Mode::empty())?);
    }
    Overlay { lower: place.lower, upper: &place.upper, work: &place.work, volatile: false }.mount()
}

struct Hashing<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

struct Layer {
    root: OwnedFd,
    /// What this layer itself holds: an opaque marker spares it.
    written: BTreeSet<PathBuf>,
    /// Directories get their times last: every entry in them would change them again.
    times: Vec<(PathBuf, Timestamps)>,
    size: u64,
    /// The directory of the last entry, which most often is the next one's too.
    parent: Option<(PathBuf, OwnedFd)>,
}

impl Layer {
    fn add<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), UnpackError> {
        let given = entry.path().map_err(UnpackError::Read)?.into_owned();
        let path = inside(&given)?;
        let failed = |error| UnpackError::Entry(given.clone(), error);
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return self.set_root(entry).map_err(failed);
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        let parent = self.open_parent(&parent_path).map_err(failed)?;
        match name.as_bytes().strip_prefix(b".wh.") {
            Some(b".wh..opq") => self.make_opaque(&parent_path, parent.as_fd()).map_err(failed),
            Some(hidden) if hidden.starts_with(b".wh.") => Ok(()),
            Some(hidden) => remove(parent.as_fd(), OsStr::from_bytes(hidden)).map_err(failed),
            None => {
                let target = entry.link_name().map_err(UnpackError::Read)?.map(|t| t.into_owned());
                let target = match (entry.header().entry_type(), target) {
                    (EntryType::Link, Some(target)) => Some(inside(&target)?),
                    (_, target) => target,
                };
                self.write(entry, parent.as_fd(), &name, target.as_deref(), &path).map_err(failed)?;
                self.written.insert(path);
                Ok(())
            }
        }
    }

    fn open_parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        if let Some((known, directory)) = &self.parent
            && known == path
        {
            return directory.try_clone();
        }
        let directory = rootfs::make_directory(self.root.as_fd(), path)?;
        self.parent = Some((path.to_owned(), directory.try_clone()?));
        Ok(directory)
    }

    fn set_root<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = File::from(rootfs::open_in(self.root.as_fd(), ".", flags)?);
        set_attributes(entry, &directory)
    }

    fn make_opaque(&mut self, path: &Path, directory: BorrowedFd<'_>) -> io::Result<()> {
        for name in names(directory)? {
            let own = path.join(&name);
            if !self.written.range(own.clone()..).next().is_some_and(|p| p.starts_with(&own)) {
                remove(directory, &name)?;
            }
        }
        Ok(())
    }

    fn write<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        target: Option<&Path>,
        path: &Path,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            return self.write_directory(entry, parent, name, path);
        }
        if matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Ok(());
        }
        remove(parent, name)?;
        // What stood here may have been the directory we remember.
        self.parent = None;
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
                self.size += io::copy(entry, &mut file)?;
                set_attributes(entry, &file)?;
                Ok(rustix::fs::futimens(&file, &times(entry)?)?)
            }
            EntryType::Link => self.write_link(parent, name, target.ok_or(io::ErrorKind::InvalidData)?),
            EntryType::Symlink => {
                rustix::fs::symlinkat(target.ok_or(io::ErrorKind::InvalidData)?, parent, name)?;
                finish_special(entry, parent, name, None)
            }
            EntryType::Fifo | EntryType::Char | EntryType::Block => {
                let kind = match kind {
                    EntryType::Fifo => FileType::Fifo,
                    EntryType::Char => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                let number = |n: io::Result<Option<u32>>| n.map(Option::unwrap_or_default);
                let header = entry.header();
                let device = rustix::fs::makedev(number(header.device_major())?, number(header.device_minor())?);
                rustix::fs::mknodat(parent, name, kind, mode, device)?;
                finish_special(entry, parent, name, Some(mode))
            }
            other => Err(io::Error::other(format!("unknown kind of entry {other:?}"))),
        }
    }

    fn write_directory<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> io::Result<()> {
        let is_directory = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
        if !is_directory {
            remove(parent, name)?;
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            self.parent = None;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
        set_attributes(entry, &directory)?;
        self.times.push((path.to_owned(), times(entry)?));
        Ok(())
    }

    fn write_link(&self, parent: BorrowedFd<'_>, name: &OsStr, target: &Path) -> io::Result<()> {
        let target_name = target.file_name().ok_or(io::ErrorKind::InvalidData)?;
        let directory = target.parent().unwrap_or(Path::new(""));
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = rootfs::open_in(self.root.as_fd(), directory, flags)?;
        Ok(rustix::fs::linkat(directory, target_name, parent, name, AtFlags::empty())?)
    }

    fn set_directory_times(&self) {
        for (path, times) in self.times.iter().rev() {
            // A directory that the layer itself removed again needs no times.
            if let Ok(directory) = rootfs::open_in(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY) {
                let _ = rustix::fs::futimens(directory, times);
            }
        }
    }
}

/// A path of the archive as a path in the root.
fn inside(path: &Path) -> Result<PathBuf, UnpackError> {
    let mut kept = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => kept.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(UnpackError::Outside(path.to_owned())),
        }
    }
    Ok(kept)
}

/// Owner, then mode, then extended attributes: each clears some of the next.
fn set_attributes<R: Read>(entry: &mut tar::Entry<'_, R>, file: &File) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    rustix::fs::fchown(file, Some(uid), Some(gid))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.header().mode()? & 0o7777))?;
    let Some(extensions) = entry.pax_extensions()? else { return Ok(()) };
    for extension in extensions {
        let extension = extension?;
        let name = extension.key_bytes().strip_prefix(b"SCHILY.xattr.");
        if let Some(name) = name.filter(|n| !n.starts_with(b"trusted.overlay.")) {
            file.set_xattr(OsStr::from_bytes(name), extension.value_bytes())?;
        }
    }
    Ok(())
}

fn finish_special<R: Read>(
    entry: &tar::Entry<'_, R>,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    mode: Option<Mode>,
) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if let Some(mode) = mode {
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
    }
    Ok(rustix::fs::utimensat(parent, name, &times(entry)?, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn owner<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<(Uid, Gid)> {
    let number = |n: u64| u32::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    // Some writers leave the fields empty, meaning root.
    let (uid, gid) = (entry.header().uid().unwrap_or(0), entry.header().gid().unwrap_or(0));
    Ok((Uid::from_raw(number(uid)?), Gid::from_raw(number(gid)?)))
}

fn times<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<Timestamps> {
    let seconds = i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0);
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(Timestamps { last_access: time, last_modification: time })
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<std::ffi::OsString>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::openat(directory, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(open)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Removes whatever has this name, with all that is below it. Nothing there is no error.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            for child in names(directory.as_fd())? {
                remove(directory.as_fd(), &child)?;
            }
            Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
