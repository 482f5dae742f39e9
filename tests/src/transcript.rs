//! Transcripts: what a user types and exactly what is printed, as text files.
//!
//! A line `$ command` is run by the shell; the lines up to the next one are its output (both streams), then `[exit N]` if it fails.
//! A line `% command` is run only where the whole transcript is asked for: by the official program, not by ours.
//! `[..]` stands for anything within a line, a line `...` for any lines. `## file NAME` up to `## end` is a file in the folder that the
//! commands run in. Entry point: [`play`].

use std::path::Path;
use std::process::Command;

use crate::command::{Ran, run};

/// A command and what it must print.
#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    /// Whether ours is run, too.
    shared: bool,
    command: String,
    wanted: Vec<String>,
}

/// Runs a transcript (or only the `shared` part of it) in a folder; `prepare` gives the shell its environment.
/// Panics with all differences.
#[track_caller]
pub fn play(transcript: &Path, whole: bool, folder: &Path, prepare: impl Fn(&mut Command)) {
    let text = std::fs::read_to_string(transcript).unwrap_or_else(|error| panic!("{}: {error}", transcript.display()));
    let mut differences = Vec::new();
    for step in read(&text, folder).into_iter().filter(|step| whole || step.shared) {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{} 2>&1", step.command)]).current_dir(folder);
        prepare(&mut command);
        let printed = printed(&run(&mut command));
        if !matches(&step.wanted, &printed) {
            differences.push(format!(
                "{}:{}: $ {}\n--- wanted\n{}\n--- printed\n{}\n",
                transcript.display(),
                step.line,
                step.command,
                step.wanted.join("\n"),
                printed.join("\n")
            ));
        }
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// Reads the steps and writes the files.
fn read(text: &str, folder: &Path) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(name) = line.strip_prefix("## file ") {
            let content: String = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "## end")
                .flat_map(|line| [line, "\n"])
                .collect();
            std::fs::write(folder.join(name), content).expect("the folder is writable");
        } else if let Some(command) = line.strip_prefix("$ ").or(line.strip_prefix("% ")) {
            let (shared, command) = (line.starts_with('$'), command.to_owned());
            steps.push(Step { line: number + 1, shared, command, wanted: Vec::new() });
        } else if let Some(step) = steps.last_mut().filter(|_| !line.starts_with("## ")) {
            step.wanted.push(line.trim_end().to_owned());
        }
    }
    steps.iter_mut().for_each(|step| trim(&mut step.wanted));
    steps
}

fn printed(ran: &Ran) -> Vec<String> {
    let mut lines: Vec<String> = ran.stdout.lines().map(|line| line.trim_end().to_owned()).collect();
    trim(&mut lines);
    lines.extend((ran.code != Some(0)).then(|| format!("[exit {}]", ran.code.unwrap_or(-1))));
    lines
}

/// Blank lines at the end are nobody's.
fn trim(lines: &mut Vec<String>) {
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
}

fn matches(wanted: &[String], printed: &[String]) -> bool {
    match (wanted.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((line, rest)), _) if line == "..." => {
            matches(rest, printed) || printed.split_first().is_some_and(|(_, later)| matches(wanted, later))
        }
        (Some((line, rest)), Some((first, later))) => line_matches(line, first) && matches(rest, later),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn line_matches(wanted: &str, line: &str) -> bool {
    match wanted.split_once("[..]") {
        None => wanted == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(index, _)| &rest[index..]).chain([""]).any(|rest| line_matches(after, rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_files_and_patterns_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = "## A comment.\n## file a.yaml\nkind: A\n## end\n$ one\nout\n\n% two\n[exit 1]\n";
        let steps = read(text, folder.path());
        let step = |line, command: &str, wanted: &str| Step {
            line,
            shared: command == "one",
            command: command.into(),
            wanted: vec![wanted.into()],
        };
        assert_eq!(steps, [step(5, "one", "out"), step(8, "two", "[exit 1]")]);
        assert_eq!(std::fs::read_to_string(folder.path().join("a.yaml")).unwrap(), "kind: A\n");

        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        for (wanted, printed, same) in [
            ("a\nb", "a\nb", true),
            ("a", "a\nb", false),
            ("a\n...\nz", "a\nb\nc\nz", true),
            ("...", "", true),
            ("x[..]z", "xyz", true),
            ("x[..]z[..]", "xz", true),
            ("x[..]z", "xy", false),
        ] {
            assert_eq!(matches(&lines(wanted), &lines(printed)), same, "{wanted:?} {printed:?}");
        }
    }
}
