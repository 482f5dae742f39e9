//! Waiting for changes in a directory, by inotify.
//!
//! Entry: [`DirectoryWatch`]. Invariant: what happens after it was made is never missed, only merged.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What tokio needs to wait for inotify.
struct Source(Inotify);

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Tells that something in a directory has changed.
pub struct DirectoryWatch(AsyncFd<Source>);

impl DirectoryWatch {
    /// Watches from now on.
    pub fn new(directory: &Path, events: AddWatchFlags) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(directory, events)?;
        // SAFETY: the descriptor is owned by the `Inotify` inside, which is neither replaced nor closed before the drop.
        let registered = unsafe { AsyncFd::register_with_interest(Source(inotify), Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Returns when something has changed since the last time.
    pub async fn changed(&self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        while self.0.get_ref().0.read_events().is_ok_and(|events| !events.is_empty()) {}
        ready.clear_ready();
        Ok(())
    }
}
