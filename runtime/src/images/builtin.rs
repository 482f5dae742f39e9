//! The demo image: a small web server that is this program itself, with the libraries it needs.
//!
//! It makes the first pod possible without any network. The program's file is linked, not copied, where it lies on
//! the same filesystem. Its layer is named by what the file is (device, inode, size, time), so a new build makes a new
//! image and the old one stays as long as something runs from it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Image, Result, Source, Store, at, digest, ignore_missing};
use crate::spec::ImageProcess;

/// Its name. `demo` alone means it too.
pub const DEMO: &str = "kubelab.io/demo:latest";
const SHORT: &str = "docker.io/library/demo:latest";
const PROGRAM: &str = "/demo";

/// Makes its layer unless it is there, and answers the image.
pub fn make(store: &Store) -> Result<Image> {
    let program = fs::read_link("/proc/self/exe").map_err(at(Path::new("/proc/self/exe")))?;
    let metadata = fs::metadata("/proc/self/exe").map_err(at(&program))?;
    let identity = format!(
        "{} {} {} {}.{}",
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    let id = digest(identity.as_bytes());
    let layer = id.trim_start_matches("sha256:").to_owned();
    let place = store.root.join("layers").join(&layer);
    if !place.join("fs").exists() {
        let partial = store.root.join("layers").join(format!(".{layer}"));
        fs::remove_dir_all(&partial).or_else(ignore_missing).map_err(at(&partial))?;
        fill(&partial.join("fs")).map_err(at(&partial))?;
        fs::rename(&partial, &place).map_err(at(&place))?;
    }
    Ok(Image {
        id,
        names: BTreeSet::from([DEMO.to_owned(), SHORT.to_owned()]),
        digests: BTreeSet::new(),
        layers: vec![layer],
        size: metadata.len(),
        source: Source::Builtin,
        process: ImageProcess {
            entrypoint: vec![PROGRAM.to_owned(), "demo-web".to_owned()],
            env: vec!["LD_LIBRARY_PATH=/lib".to_owned()],
            ..ImageProcess::default()
        },
    })
}

fn fill(root: &Path) -> io::Result<()> {
    for directory in ["lib", "etc", "tmp"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/demo\nnobody:x:65534:65534:nobody:/:/demo\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    let target = root.join(PROGRAM.trim_start_matches('/'));
    let flags = rustix::fs::AtFlags::SYMLINK_FOLLOW;
    let here = rustix::fs::CWD;
    if rustix::fs::linkat(here, "/proc/self/exe", here, &target, flags).is_err() {
        fs::copy("/proc/self/exe", &target)?;
    }
    let Some(interpreter) = interpreter(Path::new("/proc/self/exe"))? else { return Ok(()) };
    let copy = |from: &Path, to: PathBuf| -> io::Result<()> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, to).map(|_| ())
    };
    copy(&interpreter, root.join(interpreter.strip_prefix("/").unwrap_or(&interpreter)))?;
    for (name, path) in libraries(Path::new("/proc/self/exe"))? {
        copy(&path, root.join("lib").join(name))?;
    }
    Ok(())
}

/// The dynamic loader that the program names; none for a static program.
fn interpreter(program: &Path) -> io::Result<Option<PathBuf>> {
    const PT_INTERP: u32 = 3;
    let file = fs::File::open(program)?;
    let read = |offset: u64, length: usize| -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, offset)?;
        Ok(bytes)
    };
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    let header = read(0, 64)?;
    let (table, size) = (number(&header, 32), u64::from(u16::from_le_bytes([header[54], header[55]])));
    for index in 0..u64::from(u16::from_le_bytes([header[56], header[57]])) {
        let entry = read(table + index * size, 56)?;
        if entry[..4] == PT_INTERP.to_le_bytes() {
            let text = read(number(&entry, 8), usize::try_from(number(&entry, 32)).unwrap_or(0))?;
            let text = String::from_utf8_lossy(&text);
            return Ok(Some(PathBuf::from(text.trim_end_matches('\0'))));
        }
    }
    Ok(None)
}

/// The libraries that the loader finds for the program: names and files. The program itself does not run.
fn libraries(program: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let output = Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1").output()?;
    Ok(parse_libraries(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_libraries(listing: &str) -> Vec<(String, PathBuf)> {
    let found = listing.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.split(" (").next()?.trim();
        path.starts_with('/').then(|| (name.to_owned(), PathBuf::from(path)))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_listing() {
        let listing = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
            \tlibgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = [("libc.so.6".to_owned(), PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"))];
        assert_eq!(parse_libraries(listing), expected);
    }
}
