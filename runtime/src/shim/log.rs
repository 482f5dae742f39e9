//! A container's log file, in CRI's format: `<time> stdout F <line>`, with `P` for a part of a long line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A line longer than this is written in parts.
const LONGEST: usize = 16 * 1024;

/// The stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// An open log file. Without a path everything is dropped.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    unfinished: [Vec<u8>; 2],
}

impl Log {
    /// Opens the file, to be appended to.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let mut log = Self { path: path.map(Path::to_owned), file: None, unfinished: [Vec::new(), Vec::new()] };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path again: the file there may be another one by now.
    pub fn reopen(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        self.file = Some(OpenOptions::new().create(true).append(true).open(path)?);
        Ok(())
    }

    /// Adds output. What does not end with a newline waits for the rest.
    pub fn write(&mut self, stream: Stream, data: &[u8], time: jiff::Timestamp) {
        let mut lines = Vec::with_capacity(data.len() + 64);
        format(&mut lines, stream, &mut self.unfinished[stream as usize], data, time);
        self.put(&lines);
    }

    /// Writes what still waits for a newline.
    pub fn finish(&mut self, time: jiff::Timestamp) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.unfinished[stream as usize]);
            if !rest.is_empty() {
                let mut line = Vec::new();
                put_line(&mut line, stream, 'F', &rest, time);
                self.put(&line);
            }
        }
    }

    fn put(&mut self, lines: &[u8]) {
        if let Some(file) = &mut self.file {
            // A full disk must not stop the container: its output is lost, as upstream.
            let _ = file.write_all(lines);
        }
    }
}

fn format(out: &mut Vec<u8>, stream: Stream, unfinished: &mut Vec<u8>, data: &[u8], time: jiff::Timestamp) {
    for piece in data.split_inclusive(|b| *b == b'\n') {
        unfinished.extend_from_slice(piece);
        let ends = unfinished.last() == Some(&b'\n');
        if ends {
            unfinished.pop();
        }
        while unfinished.len() > LONGEST {
            put_line(out, stream, 'P', &unfinished[..LONGEST], time);
            unfinished.drain(..LONGEST);
        }
        if ends {
            put_line(out, stream, 'F', unfinished, time);
            unfinished.clear();
        }
    }
}

fn put_line(out: &mut Vec<u8>, stream: Stream, tag: char, line: &[u8], time: jiff::Timestamp) {
    let stream = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    out.extend_from_slice(format!("{time:.9} {stream} {tag} ").as_bytes());
    out.extend_from_slice(line);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_parts() {
        let time = jiff::Timestamp::from_second(0).expect("in range");
        let (mut out, mut unfinished) = (Vec::new(), Vec::new());
        format(&mut out, Stream::Stdout, &mut unfinished, b"one\ntw", time);
        assert_eq!(out, b"1970-01-01T00:00:00.000000000Z stdout F one\n");
        out.clear();
        format(&mut out, Stream::Stdout, &mut unfinished, b"o\n\n", time);
        let text = String::from_utf8(std::mem::take(&mut out)).expect("text");
        let tail: Vec<_> = text.lines().map(|l| &l[31..]).collect();
        assert_eq!(tail, ["stdout F two", "stdout F "]);
        format(&mut out, Stream::Stderr, &mut unfinished, &[b'x'; LONGEST * 2 + 1], time);
        format(&mut out, Stream::Stderr, &mut unfinished, b"\n", time);
        let text = String::from_utf8(out).expect("text");
        let tags: Vec<_> = text.lines().map(|l| (&l[31..39], l.len() - 40)).collect();
        assert_eq!(tags, [("stderr P", LONGEST), ("stderr P", LONGEST), ("stderr F", 1)]);
    }
}
