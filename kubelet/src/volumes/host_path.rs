//! hostPath volumes: a path of the node itself.
//!
//! Entry: [`check`]. Invariant: nothing is created unless the type says so.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use super::VolumeError;

/// Checks, and for the `…OrCreate` types makes, what the type promises.
pub(super) fn check(path: &str, kind: &str) -> Result<(), VolumeError> {
    let place = Path::new(path);
    let found = fs::metadata(place).ok();
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(|meta| test(&meta.file_type()));
    let holds = match kind {
        "DirectoryOrCreate" if found.is_none() => return make_directory(place),
        "FileOrCreate" if found.is_none() => {
            return fs::File::create(place).map(drop).map_err(VolumeError::io(place));
        }
        // A path of no stated type that does not exist becomes a directory, as bind mounts of most runtimes do it.
        "" if found.is_none() => return make_directory(place),
        "DirectoryOrCreate" | "Directory" => is(fs::FileType::is_dir),
        "FileOrCreate" | "File" => is(fs::FileType::is_file),
        "Socket" => is(FileTypeExt::is_socket),
        "CharDevice" => is(FileTypeExt::is_char_device),
        "BlockDevice" => is(FileTypeExt::is_block_device),
        _ => true,
    };
    if holds { Ok(()) } else { Err(VolumeError::HostPathType { path: path.to_owned(), expected: word(kind) }) }
}

fn make_directory(place: &Path) -> Result<(), VolumeError> {
    fs::create_dir_all(place).map_err(VolumeError::io(place))?;
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).map_err(VolumeError::io(place))
}

fn word(kind: &str) -> &'static str {
    match kind {
        "Directory" | "DirectoryOrCreate" => "a directory",
        "File" | "FileOrCreate" => "a file",
        "Socket" => "a socket file",
        "CharDevice" => "a character device",
        _ => "a block device",
    }
}
