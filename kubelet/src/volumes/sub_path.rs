//! `subPath`: a mount of a part of a volume.
//!
//! Entry: [`resolve`]. Invariant: the result lies inside the volume, whatever links its owner has put there.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use super::VolumeError;

/// The place of `sub_path` in `volume`; made as a directory if nothing is there.
pub fn resolve(volume: &Path, sub_path: &str) -> Result<PathBuf, VolumeError> {
    let leaves = || VolumeError::SubPath(sub_path.to_owned());
    let relative = Path::new(sub_path);
    if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(leaves());
    }
    let root = volume.canonicalize().map_err(VolumeError::io(volume))?;
    let mut place = root.clone();
    for part in relative.components() {
        place.push(part);
        if fs::symlink_metadata(&place).is_err() {
            fs::DirBuilder::new().mode(0o750).create(&place).map_err(VolumeError::io(&place))?;
        }
        place = place.canonicalize().map_err(VolumeError::io(&place))?;
        if !place.starts_with(&root) {
            return Err(leaves());
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_inside() {
        let dir = std::env::temp_dir().join(format!("kubelet-subpath-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory");
        std::os::unix::fs::symlink("/etc", dir.join("out")).expect("a link");
        assert!(resolve(&dir, "a/b").expect("made").ends_with("a/b"));
        for bad in ["../x", "/etc", "out", "out/passwd"] {
            assert!(resolve(&dir, bad).is_err(), "{bad}");
        }
        fs::remove_dir_all(&dir).expect("removed");
    }
}
