//! Replaces the files of a volume all at once, so that a reader never sees half of an update.
//!
//! Entry: [`write`]. Invariant: the layout is Kubernetes' (`..data` -> `..<time>`, and a link per visible name), since
//! programs watch `..data`; the switch is one rename.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use super::VolumeError;
use super::payload::Payload;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// Makes the volume hold exactly these files. Does nothing if it does already.
pub(super) fn write(dir: &Path, payload: &Payload, fs_group: Option<i64>) -> Result<(), VolumeError> {
    fs::create_dir_all(dir).map_err(VolumeError::io(dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).map_err(VolumeError::io(dir))?;
    if holds(dir, payload) {
        return Ok(());
    }
    switch(dir, payload, fs_group).map_err(VolumeError::io(dir))
}

fn holds(dir: &Path, payload: &Payload) -> bool {
    let data = dir.join(DATA);
    let mut present = BTreeSet::new();
    if list_files(&data, Path::new(""), &mut present).is_err() {
        return false;
    }
    let same = |path: &String| {
        let wanted = &payload.0[path];
        let file = data.join(path);
        fs::read(&file).is_ok_and(|bytes| bytes == wanted.data)
            && fs::metadata(&file).is_ok_and(|meta| meta.permissions().mode() & 0o777 == wanted.mode)
    };
    present.iter().eq(payload.0.keys()) && present.iter().all(same)
}

fn list_files(root: &Path, below: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list_files(root, &path, found)?;
        } else {
            found.insert(path.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn switch(dir: &Path, payload: &Payload, fs_group: Option<i64>) -> io::Result<()> {
    let old = fs::read_link(dir.join(DATA)).ok();
    let generation = next_name(old.as_deref());
    let fresh = dir.join(&generation);
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in &payload.0 {
        let place = fresh.join(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut handle = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place)?;
        handle.write_all(&file.data)?;
        let mode = match fs_group {
            Some(group) => {
                chown(&place, None, u32::try_from(group).ok())?;
                file.mode | (file.mode & 0o400) >> 3
            }
            None => file.mode,
        };
        fs::set_permissions(&place, fs::Permissions::from_mode(mode))?;
    }
    let _ = fs::remove_file(dir.join(DATA_NEW));
    symlink(&generation, dir.join(DATA_NEW))?;
    fs::rename(dir.join(DATA_NEW), dir.join(DATA))?;
    relink(dir, payload)?;
    match old {
        Some(old) if old != Path::new(&generation) => fs::remove_dir_all(dir.join(old)),
        Some(_) | None => Ok(()),
    }
}

/// Generations alternate by number: no clock is needed to tell two of them apart.
fn next_name(old: Option<&Path>) -> String {
    let number = old.and_then(|path| path.to_str()).and_then(|name| name.strip_prefix("..")?.parse::<u64>().ok());
    format!("..{}", number.map_or(1, |number| number + 1))
}

/// One link for each first component of a path, and none for what is gone.
fn relink(dir: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.0.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if !text.starts_with("..") && !wanted.contains(text.as_ref()) {
            fs::remove_file(dir.join(&name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let mut payload = Payload::default();
        for (path, data) in files {
            payload.add(path, data.as_bytes().to_vec(), 0o640);
        }
        payload
    }

    #[test]
    fn replaces_all_at_once() {
        let dir = std::env::temp_dir().join(format!("kubelet-atomic-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        write(&dir, &payload(&[("a", "1"), ("sub/b", "2"), ("..", "no"), ("/abs", "no")]), None).expect("written");
        assert_eq!((read("a"), read("sub/b")), (Some("1".into()), Some("2".into())));
        let first = fs::read_link(dir.join(DATA)).expect("a link");
        write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), None).expect("written");
        assert_eq!(fs::read_link(dir.join(DATA)).expect("a link"), first, "equal contents change nothing");
        write(&dir, &payload(&[("a", "3")]), None).expect("written");
        assert_eq!((read("a"), read("sub/b")), (Some("3".into()), None));
        assert!(!dir.join(&first).exists() && fs::symlink_metadata(dir.join("sub")).is_err());
        fs::remove_dir_all(&dir).expect("removed");
    }
}
