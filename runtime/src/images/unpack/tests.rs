//! Layers over layers, as root: overlays need it.

use super::*;

fn tar(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().expect("in memory")
}

fn header(kind: EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1000);
    header
}

fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str, text: &str) {
    let mut header = header(EntryType::Regular, text.len() as u64);
    builder.append_data(&mut header, path, text.as_bytes()).expect("in memory");
}

fn link(builder: &mut tar::Builder<Vec<u8>>, kind: EntryType, path: &str, target: &str) {
    builder.append_link(&mut header(kind, 0), path, target).expect("in memory");
}

struct Layers {
    directory: tempfile::TempDir,
    lower: Vec<PathBuf>,
}

impl Layers {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("temporary directory"), lower: Vec::new() }
    }

    fn add(&mut self, bytes: &[u8]) -> Result<PathBuf, UnpackError> {
        let base = self.directory.path().join(self.lower.len().to_string());
        let upper = base.join("fs");
        let place = Place { upper: upper.clone(), work: base.join("work"), lower: &self.lower };
        let unpacked = unpack(bytes, &place)?;
        assert_eq!(unpacked.digest, super::super::digest(bytes));
        self.lower.insert(0, upper.clone());
        Ok(upper)
    }

    /// What a container would see.
    fn seen(&self) -> (OwnedFd, PathBuf) {
        let (upper, work) = (self.directory.path().join("u"), self.directory.path().join("w"));
        fs::create_dir_all(&upper).expect("made");
        fs::create_dir_all(&work).expect("made");
        let overlay = Overlay { lower: &self.lower, upper: &upper, work: &work, volatile: true };
        let mount = overlay.mount().expect("mounted");
        let path = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&mount)));
        (mount, path)
    }
}

#[test]
fn whiteouts_opaque_directories_and_links_through_lower_layers() {
    let mut layers = Layers::new();
    let below = tar(|b| {
        file(b, "usr/lib/old", "old");
        link(b, EntryType::Symlink, "lib", "usr/lib");
        file(b, "etc/gone", "x");
        file(b, "data/a", "a");
        file(b, "data/sub/b", "b");
    });
    layers.add(&below).expect("unpacked");
    let above = tar(|b| {
        file(b, "lib/new", "new");
        file(b, "etc/.wh.gone", "");
        file(b, "data/c", "c");
        file(b, "data/.wh..wh..opq", "");
        file(b, "hard/one", "same");
        link(b, EntryType::Link, "hard/two", "hard/one");
    });
    layers.add(&above).expect("unpacked");
    let (_mount, root) = layers.seen();
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    assert_eq!(read("usr/lib/new").as_deref(), Some("new"), "through the link of the lower layer");
    assert_eq!(read("usr/lib/old").as_deref(), Some("old"));
    assert!(fs::symlink_metadata(root.join("lib")).expect("there").is_symlink());
    assert_eq!(read("etc/gone"), None);
    assert_eq!((read("data/a"), read("data/sub/b"), read("data/c").as_deref()), (None, None, Some("c")));
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(root.join(path)).expect("there"));
    assert_eq!(inode("hard/one"), inode("hard/two"));
}

#[test]
fn ownership_modes_and_times() {
    let mut layers = Layers::new();
    let bytes = tar(|b| {
        let mut setuid = header(EntryType::Regular, 2);
        setuid.set_mode(0o4755);
        setuid.set_uid(12);
        setuid.set_gid(34);
        b.append_data(&mut setuid, "bin/su", &b"su"[..]).expect("in memory");
        let mut directory = header(EntryType::Directory, 0);
        directory.set_mode(0o1777);
        b.append_data(&mut directory, "tmp", io::empty()).expect("in memory");
        file(b, "tmp/later", "x");
    });
    let root = layers.add(&bytes).expect("unpacked");
    use std::os::unix::fs::MetadataExt as _;
    let su = fs::metadata(root.join("bin/su")).expect("there");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.mtime()), (0o4755, 12, 34, 1000));
    let tmp = fs::metadata(root.join("tmp")).expect("there");
    assert_eq!((tmp.mode() & 0o7777, tmp.mtime()), (0o1777, 1000));
}

#[test]
fn nothing_leaves_the_root() {
    let mut layers = Layers::new();
    let mut evil = header(EntryType::Regular, 1);
    let raw = b"../../evil";
    evil.as_mut_bytes()[..raw.len()].copy_from_slice(raw);
    evil.set_cksum();
    let bytes = tar(|b| b.append(&evil, &b"x"[..]).expect("in memory"));
    assert!(matches!(layers.add(&bytes), Err(UnpackError::Outside(_))));
    let outside = layers.directory.path().join("target");
    fs::create_dir(&outside).expect("made");
    let bytes = tar(|b| {
        link(b, EntryType::Symlink, "out", outside.to_str().expect("text"));
        file(b, "out/file", "x");
    });
    let _ = layers.add(&bytes);
    assert!(!outside.join("file").exists());
}

#[test]
fn many_layers() {
    let mut layers = Layers::new();
    for number in 0..70 {
        let bytes = tar(|b| file(b, &format!("dir/{number}"), "x"));
        layers.add(&bytes).expect("unpacked");
    }
    let (_mount, root) = layers.seen();
    assert_eq!(fs::read_dir(root.join("dir")).expect("there").count(), 70);
}
