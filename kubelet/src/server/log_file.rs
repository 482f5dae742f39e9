//! The log file of a container in CRI's format: `<time> <stream> <P|F> <text>`, rotated files beside it.
//!
//! Entry: [`Filter::apply`] for one line (pure), [`start_of_tail`], [`files`]. Invariant: a record is never cut; a
//! partial one (`P`) is joined with what follows by leaving out its newline.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

const CHUNK: u64 = 64 * 1024;

/// Which lines a client wants, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    /// `Stdout` or `Stderr` only.
    pub stream: Option<String>,
}

impl Filter {
    /// What the client gets for one line of the file; `None` if nothing.
    pub(super) fn apply(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (time, stream, tag) = (parts.next()?, parts.next()?, parts.next()?);
        let text = parts.next().unwrap_or_default();
        if let Some(since) = self.since {
            let at: Timestamp = std::str::from_utf8(time).ok()?.parse().ok()?;
            if at < since {
                return None;
            }
        }
        if let Some(wanted) = &self.stream
            && !wanted.as_bytes().eq_ignore_ascii_case(stream)
        {
            return None;
        }
        let mut result = Vec::with_capacity(line.len() + 1);
        if self.timestamps {
            result.extend_from_slice(time);
            result.push(b' ');
        }
        result.extend_from_slice(text);
        if tag != b"P" {
            result.push(b'\n');
        }
        Some(result)
    }
}

/// The log's files, oldest first; the last one is the current one. Compressed ones are not read.
pub(super) fn files(current: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    if let (Some(directory), Some(name)) = (current.parent(), current.file_name().and_then(|name| name.to_str())) {
        let prefix = format!("{name}.");
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let found = entry.file_name().to_string_lossy().into_owned();
            if found.starts_with(&prefix) && !found.ends_with(".gz") {
                all.push(entry.path());
            }
        }
    }
    all.sort();
    all.push(current.to_owned());
    all
}

/// Where the last `lines` lines of a file begin, and how many of them it has.
pub(super) fn start_of_tail(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    let (mut position, mut found) = (length, 0);
    while position > 0 {
        let size = CHUNK.min(position);
        position -= size;
        file.seek(SeekFrom::Start(position))?;
        let mut chunk = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        file.read_exact(&mut chunk)?;
        for (index, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = position + index as u64 + 1;
            // The newline at the very end belongs to the last line.
            if after == length {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok((after, lines));
            }
        }
    }
    Ok((0, if length == 0 { 0 } else { found + 1 }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines() {
        let line = b"2026-01-01T00:00:01.5Z stderr F hello  world";
        let at = |text: &str| Some(text.parse().expect("a time"));
        let table = [
            (Filter::default(), Some("hello  world\n")),
            (Filter { timestamps: true, ..Filter::default() }, Some("2026-01-01T00:00:01.5Z hello  world\n")),
            (Filter { since: at("2026-01-01T00:00:01Z"), ..Filter::default() }, Some("hello  world\n")),
            (Filter { since: at("2026-01-01T00:00:02Z"), ..Filter::default() }, None),
            (Filter { stream: Some("Stdout".into()), ..Filter::default() }, None),
        ];
        for (filter, expected) in table {
            let got = filter.apply(line).map(|bytes| String::from_utf8(bytes).expect("text"));
            assert_eq!(got.as_deref(), expected, "{filter:?}");
        }
        assert_eq!(Filter::default().apply(b"2026-01-01T00:00:01Z stdout P part"), Some(b"part".to_vec()));
        assert_eq!(Filter::default().apply(b"2026-01-01T00:00:01Z stdout F "), Some(b"\n".to_vec()));
        assert_eq!(Filter::default().apply(b"junk"), None);
    }

    #[test]
    fn tails() {
        let path = std::env::temp_dir().join(format!("kubelet-tail-{}", std::process::id()));
        File::create(&path).and_then(|mut file| file.write_all(b"one\ntwo\nthree\n")).expect("written");
        let mut file = File::open(&path).expect("opened");
        for (lines, expected) in [(1, (8, 1)), (2, (4, 2)), (3, (0, 3)), (9, (0, 3))] {
            assert_eq!(start_of_tail(&mut file, lines).expect("read"), expected, "{lines}");
        }
        std::fs::remove_file(path).expect("removed");
    }
}
