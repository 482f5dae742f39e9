//! Other programs as a test runs them, and waiting for something to become true.

use std::process::{Command, Output};
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks while waiting.
const LOOK: Duration = Duration::from_millis(20);

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// What was run, for messages.
    pub line: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The exit code; None after a signal.
    pub code: Option<i32>,
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Ran {
    let line = format!("{command:?}");
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { line, stdout: text(stdout), stderr: text(stderr), code: status.code() }
}

impl Ran {
    /// Standard output of a run that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a run that must have failed with this code.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}\nstdout: {}\nstderr: {}", self.line, self.stdout, self.stderr);
        self.stderr
    }
}

/// Waits until `look` answers something, at most `limit`; panics with `what` and the last thing seen.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > limit => panic!("{what}: not within {limit:?}; last seen: {seen}"),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}
