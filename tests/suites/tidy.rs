//! The house is kept: no file that nothing uses, no path in the documents that does not exist, no example that no test applies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::command::run;
use tests::files::root;

/// Files that git knows.
fn tracked() -> Vec<PathBuf> {
    let listed =
        run(Command::new("git").arg("-C").arg(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]))
            .ok();
    listed.lines().map(PathBuf::from).filter(|path| root().join(path).exists()).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

fn sources() -> Vec<PathBuf> {
    tracked().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Every source is a crate root or some other source's `mod`.
#[test]
fn every_source_is_part_of_a_crate() {
    let sources = sources();
    let manifests: String =
        tracked().iter().filter(|path| path.ends_with("Cargo.toml")).map(|path| read(path)).collect();
    let mut lost = Vec::new();
    for path in &sources {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let folder = path.parent().unwrap();
        let relative = path.iter().skip(1).collect::<PathBuf>();
        let is_root = ["main", "lib", "build"].contains(&name)
            || folder.ends_with("tests") && folder.components().count() == 2
            || folder.iter().any(|part| part == "bin" || part == "benches" || part == "fuzz_targets")
            || manifests.contains(relative.to_str().unwrap());
        let word = |line: &str| {
            let line = line
                .trim()
                .trim_start_matches("pub ")
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub(super) ");
            line == format!("mod {name};") || line.starts_with(&format!("mod {name} {{"))
        };
        let parents =
            [folder.join("mod.rs"), folder.with_extension("rs"), folder.join("lib.rs"), folder.join("main.rs")];
        let declared = parents.iter().any(|parent| read(parent).lines().any(word))
            || sources.iter().filter(|other| other.parent() == Some(folder)).any(|other| read(other).lines().any(word))
            || sources.iter().filter(|other| other.parent() == folder.parent()).any(|other| {
                let folder = folder.file_name().unwrap().to_str().unwrap();
                read(other).contains(&format!("#[path = \"{folder}/{name}.rs\"]"))
            });
        if !is_root && !declared {
            lost.push(path);
        }
    }
    assert!(lost.is_empty(), "no mod names these: {lost:?}");
}

/// A file begins with what it is for.
#[test]
fn every_source_says_what_it_is_for() {
    let silent: Vec<_> =
        sources().into_iter().filter(|path| !read(path).starts_with("//!") && !read(path).starts_with("#!")).collect();
    assert!(silent.is_empty(), "no //! at the beginning of {silent:?}");
}

#[test]
fn nothing_is_left_open() {
    let marks = ["todo!", "unimplemented!", "FIX\u{4d}E", "XX\u{58}", "#[ign\u{6f}re"];
    for path in sources().iter().filter(|path| !path.ends_with("tidy.rs")) {
        // A test that is another test's child process is run by that one.
        let text = read(path).replace("#[ignore = \"the child of", "");
        for mark in marks {
            assert!(!text.contains(mark), "{} has {mark}", path.display());
        }
    }
}

/// Wall-clock time and chance come from `process`; programs at the edge may ask the clock themselves.
#[test]
fn time_and_chance_have_one_source() {
    // A shim is a program of its own, without a runtime whose clock it could follow.
    let edges = ["process/", "kubectl/", "kubelab/", "tests/", "cri/", "runtime/src/shim.rs"];
    let marks = [
        "SystemTime::now",
        "std::time::Instant",
        "Instant::now()",
        "Timestamp::now()",
        "rand::rng()",
        "Uuid::new_v4",
        "thread_rng",
    ];
    let mut found = Vec::new();
    for path in sources() {
        let text = read(&path);
        let production = text.split("#[cfg(test)]").next().unwrap_or_default();
        let uses_tokio_instant = production.contains("tokio::time::Instant")
            || production.contains("time::{") && production.contains("tokio");
        let is_test =
            path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "benches" || part == "examples");
        if is_test || edges.iter().any(|edge| path.starts_with(edge)) {
            continue;
        }
        for mark in marks {
            let tokio = mark == "Instant::now()" && (uses_tokio_instant || production.contains("tokio::time"));
            if production.contains(mark) && !tokio {
                found.push(format!("{}: {mark}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_example_is_applied_by_a_test() {
    // The README's commands are a test, too.
    let mut suites = read(Path::new("README.md"));
    suites.extend(sources().iter().filter(|path| path.starts_with("tests")).map(|path| read(path)));
    let unused: Vec<_> = tracked()
        .into_iter()
        .filter(|path| path.starts_with("manifests/examples"))
        .filter(|path| !suites.contains(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    assert!(unused.is_empty(), "no test names {unused:?}");
}

/// Paths in the documents exist.
#[test]
fn documents_name_real_paths() {
    let tops: BTreeSet<String> =
        tracked().iter().filter_map(|path| Some(path.iter().next()?.to_str()?.to_owned())).collect();
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = read(Path::new(document));
        assert!(!text.is_empty(), "{document} is missing");
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.trim_end_matches('/');
            let first = path.split('/').next().unwrap_or_default();
            let is_path =
                quoted.contains('/') && tops.contains(first) && !quoted.contains([' ', '<', '*', '{', '$', '(']);
            assert!(!is_path || root().join(path).exists(), "{document} names {quoted}, which does not exist");
        }
    }
}
