//! Named blobs: the files of an image archive, whether a tar (plain or compressed) or a directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Links to links to links: more than this is a circle.
const MAX_LINKS: usize = 8;

/// The files of an archive.
#[derive(Debug)]
pub enum Files {
    /// A directory as it is.
    Directory(PathBuf),
    /// A tar file and where each entry lies in it.
    Tar {
        /// Plain; a compressed archive was unpacked into an anonymous file first.
        file: File,
        /// By path: offset and size.
        entries: BTreeMap<String, (u64, u64)>,
        /// Old archives link equal layers to each other.
        links: BTreeMap<String, String>,
    },
}

impl Files {
    /// Opens an archive; `scratch` is a directory with room for the unpacked tar.
    pub fn open(path: &Path, scratch: &Path) -> io::Result<Self> {
        if path.is_dir() {
            return Ok(Self::Directory(path.to_owned()));
        }
        let mut reader = decompressed(BufReader::new(File::open(path)?))?;
        let file = match reader {
            Decompressed::Plain(_) => File::open(path)?,
            _ => {
                let mut file = anonymous_file(scratch)?;
                io::copy(&mut reader, &mut file)?;
                file
            }
        };
        Self::index(file)
    }

    fn index(mut file: File) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let (mut entries, mut links) = (BTreeMap::new(), BTreeMap::new());
        let mut archive = tar::Archive::new(BufReader::new(file.try_clone()?));
        for entry in archive.entries()? {
            let entry = entry?;
            let name = plain(&entry.path()?);
            if let Some(target) = entry.link_name()? {
                let base = if entry.header().entry_type().is_symlink() { Path::new(&name).parent() } else { None };
                links.insert(name.clone(), plain(&base.unwrap_or(Path::new("")).join(target)));
            } else if entry.header().entry_type().is_file() {
                entries.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(Self::Tar { file, entries, links })
    }

    /// Opens one of them; none when it is not there.
    pub fn get(&self, name: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        match self {
            Self::Directory(directory) => match File::open(directory.join(plain(Path::new(name)))) {
                Ok(file) => Ok(Some(Box::new(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Self::Tar { file, entries, links } => {
                let mut name = plain(Path::new(name));
                for _ in 0..MAX_LINKS {
                    if let Some((offset, size)) = entries.get(&name) {
                        return Ok(Some(Box::new(Slice { file, offset: *offset, left: *size })));
                    }
                    let Some(target) = links.get(&name) else { break };
                    name.clone_from(target);
                }
                Ok(None)
            }
        }
    }
}

/// A part of a file, read without moving the file's own position.
struct Slice<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Read for Slice<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = std::os::unix::fs::FileExt::read_at(self.file, &mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// A path without `.`, `..` and a leading `/`.
fn plain(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

fn anonymous_file(directory: &Path) -> io::Result<File> {
    let path = directory.join(format!(".unpacking-{}", std::process::id()));
    let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// A stream with its first bytes put back.
type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// A stream, decompressed if it is compressed.
pub enum Decompressed<R: Read> {
    Plain(Whole<R>),
    Gzip(Box<flate2::read::MultiGzDecoder<Whole<R>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Whole<R>>>>),
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// Looks at the first bytes and decompresses what follows.
pub fn decompressed<R: Read>(mut reader: R) -> io::Result<Decompressed<R>> {
    let mut magic = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut magic)?;
    let (gzip, zstd) = (magic.starts_with(&[0x1f, 0x8b]), magic == [0x28, 0xb5, 0x2f, 0xfd]);
    let whole = io::Cursor::new(magic).chain(reader);
    Ok(match (gzip, zstd) {
        (true, _) => Decompressed::Gzip(Box::new(flate2::read::MultiGzDecoder::new(whole))),
        (_, true) => Decompressed::Zstd(Box::new(zstd::Decoder::new(whole)?)),
        _ => Decompressed::Plain(whole),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (given, expected) in [("./a/b", "a/b"), ("/a", "a"), ("../../a", "a"), ("x/../a", "a")] {
            assert_eq!(plain(Path::new(given)), expected);
        }
    }

    #[test]
    fn compression_is_seen() {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello").expect("written");
        for bytes in
            [gzip.finish().expect("done"), zstd::encode_all(&b"hello"[..], 1).expect("done"), b"hello".to_vec()]
        {
            let mut text = String::new();
            decompressed(&bytes[..]).expect("opened").read_to_string(&mut text).expect("read");
            assert_eq!(text, "hello");
        }
    }
}
